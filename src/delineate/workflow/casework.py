"""One case on its way: read, segmented, written with everything that is wanted beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from delineate import formats
from delineate.engines import EngineChoice
from delineate.errors import DelineateError, ResourceError
from delineate.files import atomic_path, remove, write_bytes
from delineate.findings import Finding, volumes_ml
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.exporters import ExportOptions
from delineate.geometry import Grid
from delineate.inference import Prediction, Progress, segment
from delineate.labels import LabelSet
from delineate.model import Model
from delineate.postprocessing import Rule, apply_rules
from delineate.reports.figures import comparison_figure
from delineate.volume import Kind, Segmentation, Source, Volume, align
from delineate.workflow.batches import Phase
from delineate.workflow.choosing import Scan
from delineate.workflow.exporting import export, files_of
from delineate.workflow.measuring import Clock, forget_peak, peak_bytes
from delineate.workflow.proofs import standing_proofs
from delineate.workflow.results import ResultRecord, beside, read_record, read_result, write_record
from delineate.workflow.scratch import Scratch

_NO_MEMORY = re.compile("out of memory|can't allocate memory|not enough memory", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """How scans are segmented, and what is wanted beside the label maps.

    `engine`, `precision`: None for those that are best on this machine. `locate`: run only where a first look finds
    something. `skip_air`: leave out windows of air where that is known to be harmless. `references`: a folder with
    label maps to draw beside the predictions; `exports`: formats, see `exporting.export`. `key`: results are of the
    pseudonymous patient.
    """

    engine: str | None = None
    precision: str | None = None
    locate: object | None = None
    skip_air: bool = True
    probabilities: bool = False
    figures: bool = False
    references: Path | None = None
    rules: tuple[Rule, ...] = ()
    again: bool = False
    exports: tuple[str, ...] = ()
    key: PseudonymKey | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A scan, where its result goes, and what the result is made of. `is_done`: it is there, but for some export."""

    scan: Scan
    target: Path
    recipe: str
    is_done: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What was read: the scan, or of a task that is done its result."""

    volume: Volume | None
    result: Segmentation | None
    doubts: tuple[str, ...] = ()
    clock: Clock = field(default_factory=Clock)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What was found in a scan, to be written. `volume`: the scan, where a figure of it is wanted."""

    prediction: Prediction
    source: Source
    volume: Volume | None
    doubts: tuple[str, ...]
    choice: EngineChoice
    peak_bytes: int | None
    clock: Clock


@dataclass(frozen=True, slots=True, eq=False)
class CaseWork:
    """The stages of a case, for a pipeline. `runners`: of the model, made ready when the first scan is there;
    `note`: told which case reaches which phase; `progress`: how far the case is."""

    model: Model
    options: PredictionOptions
    scratch: Scratch
    runners: Callable[[Volume], nn.Module]
    choice: EngineChoice
    note: Callable[[str, Phase], None]
    progress: Callable[[str], Progress]

    def read(self, task: Task) -> Material:
        """The scan; of a result that is there already, the result."""
        self.note(task.scan.id, Phase.READING)
        clock = Clock()
        with in_case(task.scan.id), clock.timing("read"):
            if task.is_done:
                return Material(None, self._standing(task), clock=clock)
            volume = task.scan.read(self.model.plan.kinds[0], self.scratch)
            return Material(volume, None, (), clock)

    def run(self, task: Task, material: Material) -> Result | Segmentation | None:
        """Segment the scan; of a result that is there already, what is to be exported of it."""
        volume = material.volume
        if volume is None:
            return material.result
        self.note(task.scan.id, Phase.SEGMENTING)
        with in_case(task.scan.id):
            with material.clock.timing("engine"):
                runners = self.runners(volume)
            forget_peak()
            with material.clock.timing("network"):
                prediction = self._segment(task, volume, runners)
            peak = peak_bytes()
            with material.clock.timing("rules"):
                prediction = self._ruled(prediction)
        return Result(
            prediction=prediction,
            source=volume.source,
            volume=volume if self.options.figures else None,
            doubts=material.doubts,
            choice=self.choice,
            peak_bytes=peak,
            clock=material.clock,
        )

    def write(self, task: Task, made: Result | Segmentation | None) -> tuple[str, ...]:
        """Everything that is wanted, the label map last: what people should know of the result."""
        self.note(task.scan.id, Phase.WRITING)
        with in_case(task.scan.id):
            if isinstance(made, Segmentation):
                self._export(task, made)
            elif made is not None:
                self._write_beside(task, made)
                self._write_map(task, made)
                return made.doubts
        return ()

    def _segment(self, task: Task, volume: Volume, runners: nn.Module) -> Prediction:
        return segment(
            self.model,
            volume,
            device=self.choice.device,
            with_probabilities=self.options.probabilities,
            network=runners,
            progress=self.progress(task.scan.id),
        )

    def _ruled(self, prediction: Prediction) -> Prediction:
        segmentation = apply_rules(prediction.segmentation, (*self.model.postprocessing, *self.options.rules))
        return replace(prediction, segmentation=segmentation)

    def _standing(self, task: Task) -> Segmentation | None:
        """A result that is there already, where something is wanted of it that is not beside it."""
        proven = {proof.format for proof in standing_proofs(beside(task.target, "")).values()}
        record = read_record(task.target)
        if proven.issuperset(self.options.exports) or record is None:
            return None
        segmentation = read_result(task.target, record, self.model.labels)
        grid = segmentation.grid if task.scan.assembly is None else task.scan.assembly.first.grid
        return align(segmentation, grid)

    def _export(self, task: Task, segmentation: Segmentation) -> None:
        if self.options.exports:
            sources = files_of(None if task.scan.assembly is None else task.scan.assembly.first)
            authored = replace(segmentation, author=self.model.digest)
            stem = beside(task.target, "")
            options = ExportOptions(sources=sources)
            export(authored, stem, self.options.exports, options=options, key=self.options.key)

    def _write_beside(self, task: Task, made: Result) -> None:
        prediction = made.prediction
        with made.clock.timing("export"):
            self._export(task, prediction.segmentation)
        with made.clock.timing("write"):
            if prediction.probabilities is not None:
                write_probabilities(task.target, prediction, grid=prediction.segmentation.grid)
            if made.volume is not None:
                reference = find_reference(self.options.references, task.scan.id, self.model.labels)
                title = task.scan.id
                png = comparison_figure(made.volume, prediction.segmentation, reference=reference, title=title)
                write_bytes(beside(task.target, ".png"), png)

    def _write_map(self, task: Task, made: Result) -> None:
        segmentation = made.prediction.segmentation
        flat = LabelSet(segmentation.labels.labels)
        painted = replace(segmentation, labels=flat)
        volumes = volumes_ml(segmentation)
        with atomic_path(task.target) as temporary:
            with made.clock.timing("write"):
                formats.write_segmentation(temporary, painted)
            # Cut off anywhere, a record never stands beside another label map than its own.
            remove(task.target)
            write_record(task.target, self._record(task, made, volumes))

    def _record(self, task: Task, made: Result, volumes: Sequence[Finding]) -> ResultRecord:
        stages = {stage: round(seconds, 3) for stage, seconds in made.clock.seconds.items()}
        return ResultRecord(
            case=task.scan.id,
            labels={label.name: label.value for label in self.model.labels},
            regions={region.name: list(region.values) for region in self.model.plan.regions},
            volumes_ml={finding.label.name: round(finding.value, 3) for finding in volumes},
            model=self.model.digest,
            series_uid=pseudonymous_uid(made.source.series_uid, self.options.key),
            seconds=round(sum(stages.values()), 2),
            recipe=task.recipe,
            engine=made.choice.engine,
            precision=made.choice.precision,
            device=made.choice.device,
            stages=stages,
            memory_peak=made.peak_bytes,
            doubts=list(made.doubts),
        )


@contextmanager
def in_case(case: str) -> Iterator[None]:
    """Errors name the case. What the system refuses, memory above all, ends the case and not the batch."""
    try:
        yield
    except DelineateError as error:
        raise error.in_case(case) from error
    except OSError as error:
        problem = f"the system refused: {error.strerror or error}"
        raise ResourceError(problem, path=error.filename, case=case, remedy="Run again when it works.") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        remedy = "Close other programs, use fewer --threads, or a smaller --memory-gb to work in smaller parts."
        raise ResourceError("there was not enough memory", case=case, remedy=remedy) from error


def pseudonymous_uid(uid: str | None, key: PseudonymKey | None) -> str | None:
    return uid if uid is None or key is None else key.uid(uid)


def write_probabilities(target: Path, prediction: Prediction, *, grid: Grid) -> None:
    """One float map a structure: `a_probability_liver.nii.gz`."""
    names, probabilities = prediction.segmentation.labels.names, prediction.probabilities
    assert probabilities is not None
    # Without regions there is a map of the background, the first.
    for channel, name in zip(probabilities[len(probabilities) - len(names) :], names, strict=True):
        single = Volume(channel[None], grid, Kind.OTHER, Source())
        formats.write_volume(beside(target, f"_probability_{re.sub(r'[^0-9a-zA-Z-]+', '_', name)}.nii.gz"), single)


def find_reference(folder: Path | None, case: str, labels: LabelSet) -> Segmentation | None:
    """The case's label map in a folder, or the one that is named itself."""
    if folder is None:
        return None
    path = next((p for p in (folder / f"{case}.nii.gz", folder / f"{case}.nii", folder) if p.is_file()), None)
    return None if path is None else formats.read_segmentation(path, labels)
