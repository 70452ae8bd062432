"""The stages as a few functions: what the command line does, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from delineate import formats, inference
from delineate import model as models
from delineate.dataset import Dataset, open_dataset
from delineate.errors import TrainingError
from delineate.formats.exporters import ExportOptions
from delineate.inference import InferenceOptions
from delineate.measurement.lesions import LesionOptions
from delineate.measurement.scan_findings import MeasureOptions, ScanFindings, measure_scan
from delineate.planning import Plan, PlanOptions
from delineate.settings import Settings, detect
from delineate.volume import Segmentation, Volume, align
from delineate.workflow.engines import EngineWish, check_wish
from delineate.workflow.evaluating import EvaluationOptions, EvaluationResult
from delineate.workflow.evaluating import evaluate as run_evaluation
from delineate.workflow.exporting import export as run_export
from delineate.workflow.exporting import files_of
from delineate.workflow.preparing import plan_dataset, use_threads
from delineate.workflow.readying import Readying
from delineate.workflow.scratch import scratch_of
from delineate.workflow.training import Budget, Division
from delineate.workflow.training import train as run_training

__all__ = [
    "Budget",
    "Division",
    "SegmentationModel",
    "evaluate",
    "export",
    "load_model",
    "measure",
    "plan",
    "read",
    "train",
]

Location = str | PathLike[str]


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationModel:
    """A trained model, ready to use on this machine. Its networks are opened with the first scan, by the engine that is
    fastest for it, and stay open."""

    model: models.Model
    settings: Settings
    wish: EngineWish = EngineWish()  # noqa: RUF009 - nothing in it changes
    _ready: Readying = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ready", Readying(self.model, self.settings, self.wish))

    @property
    def device(self) -> str:
        return self.settings.device

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a scan, (C, I, J, K), into its own grid.

        Raises `PlanError` for other channels than it learned, `ResourceError` for a scan that does not fit into the
        memory.
        """
        use_threads(self.settings)
        scratch = scratch_of(self.settings)
        options = InferenceOptions(
            memory_bytes=self.settings.memory_bytes, allocate=scratch.allocate, mapped_from=scratch.from_bytes
        )
        return inference.segment(self.model, volume, runners=self._ready(volume).runners, options=options).segmentation


def read(path: Location) -> Volume:
    """A scan from a NIfTI file, or a folder with a DICOM series. Raises `InputError` for anything else."""
    return formats.read_volume(Path(path))


def plan(dataset: Location | Dataset, options: PlanOptions | None = None, *, device: str = "auto") -> Plan:
    """Plan the training of a dataset on this machine."""
    return plan_dataset(_opened(dataset), detect(device), options)


def train(
    dataset: Location | Dataset,
    folder: Location,
    *,
    budget: Budget | None = None,
    division: Division | None = None,
    plan: Plan | PlanOptions | None = None,
    device: str = "auto",
) -> SegmentationModel:
    """Train into a model folder, or go on with what it holds. Raises `TrainingError` if it was stopped."""
    settings = detect(device)
    trained = run_training(
        _opened(dataset),
        Path(folder),
        budget=budget or Budget(),
        division=division or Division(),
        settings=settings,
        plan=plan,
    )
    if trained is None:
        raise TrainingError("training was stopped", remedy="Call train again to go on.")
    return SegmentationModel(trained, settings)


def load_model(
    folder: Location,
    *,
    device: str = "auto",
    engine: str | None = None,
    precision: str | None = None,
    memory_gb: float | None = None,
) -> SegmentationModel:
    """A trained model from its folder. `engine`, `precision`: what runs it, by default what is best here.

    Raises `ModelError` if a piece is missing or was changed, `ResourceError` for an engine that is not there.
    """
    settings = detect(device, memory_gb=memory_gb)
    wish = EngineWish(engine, precision, folder=Path(folder))
    check_wish(wish, settings)
    return SegmentationModel(models.load_model(Path(folder)), settings, wish)


def export(
    segmentation: Segmentation,
    series: Location,
    folder: Location,
    *,
    name: str = "segmentation",
    to: Sequence[str] = ("seg", "rtstruct"),
) -> tuple[Path, ...]:
    """Write a segmentation of a DICOM series in other formats, each read back and compared; the files.

    Raises `GeometryMismatch` if the segmentation does not lie on the series' grid, and `ExportError` for a format that
    is not known or a file that does not come back as it was meant; nothing is left of it then.
    """
    stack = formats.stack_at(Path(series))
    placed = align(segmentation, stack.grid)
    return run_export(placed, Path(folder) / name, to, options=ExportOptions(sources=files_of(stack)))


def measure(segmentation: Segmentation, volume: Volume | None = None, *, lesions: Sequence[str] = ()) -> ScanFindings:
    """Volumes, diameters, distances and, with the scan, intensities of all structures, and of lesions one by one.

    `lesions`: names of the structures that are lesions; none means those whose names say it. Raises `LabelError` for
    an unknown name, `GeometryMismatch` for a scan on another grid.
    """
    options = MeasureOptions(lesions=LesionOptions(tuple(lesions)))
    return measure_scan(segmentation, volume, options=options, threads=detect("cpu").threads)


def evaluate(
    references: Location,
    predictions: Location,
    output: Location | None = None,
    *,
    options: EvaluationOptions | None = None,
) -> EvaluationResult:
    """Score predictions against references, files or folders of them; scores.json and scores.csv go into `output`, by
    default beside the predictions. Raises `InputError` if no case can be scored.
    """
    return run_evaluation(
        Path(references),
        Path(predictions),
        output=None if output is None else Path(output),
        options=options or EvaluationOptions(),
        settings=detect("cpu"),
    )


def _opened(dataset: Location | Dataset) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else open_dataset(Path(dataset))
