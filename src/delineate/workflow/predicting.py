"""`delineate predict`: from scans on disk to segmentations in the scans' own grids."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from delineate import formats, inference
from delineate.errors import DelineateError, InputError
from delineate.files import write_bytes
from delineate.formats.exporters import ExportOptions
from delineate.formats.nifti import is_nifti_name
from delineate.labels import LabelSet
from delineate.model import Model
from delineate.postprocessing import Rule, apply_rules
from delineate.preprocessing import FloatImage
from delineate.reports.figures import comparison_figure
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, Source, Volume
from delineate.workflow.assembling import Assembly, ChannelWish, assemble, read_assembly, wishes_for
from delineate.workflow.exporting import check_kinds, export, files_of
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.results import Failure, ResultRecord, beside, read_record, write_record

_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass(frozen=True, slots=True)
class Scan:
    """Something to segment: an id that names the result, and how to read it."""

    id: str
    paths: tuple[Path, ...]
    assembly: Assembly | None = None

    def read(self, kind: Kind) -> Volume:
        if self.assembly is not None:
            return read_assembly(self.assembly)[0]
        return formats.read_channels(self.paths, kind=kind)


@dataclass(frozen=True, slots=True)
class PredictionRun:
    """What became of a batch: segmentations written now, those that were there already, and failures."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    failures: tuple[Failure, ...]
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """What is wanted beside the label maps. `references`: a folder with label maps to draw beside the predictions;
    `exports`: formats, see `exporting.export`.
    """

    probabilities: bool = False
    figures: bool = False
    references: Path | None = None
    rules: tuple[Rule, ...] = ()
    again: bool = False
    exports: tuple[str, ...] = ()


def find_scans(path: Path, channels: Sequence[ChannelWish]) -> tuple[Scan, ...]:
    """What there is to segment at a path: a file, a folder of NIfTI files, a DICOM series or a tree of them.

    `a.nii.gz` and `a_0000.nii.gz` (with `a_0001.nii.gz` ... for more channels) are case `a`; a DICOM series
    is named after its folder, and by its number where a folder holds several. Of DICOM series those are taken that fit
    the first channel; the others are looked for in the same tree. Raises `InputError` if there is nothing.
    """
    if not path.exists():
        raise InputError("nothing to segment: there is no such file or folder", path=path)
    nifti = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    nifti = [file for file in nifti if is_nifti_name(file) and not file.name.startswith(".")]
    scans = _nifti_scans(nifti, len(channels)) or _dicom_scans(path, channels)
    if not scans:
        raise InputError(
            "nothing to segment",
            expected=f"NIfTI files, or a DICOM series or tree with {' and '.join(map(str, channels))}",
            path=path,
            remedy="Name the folder that holds the scans.",
        )
    return scans


def _nifti_scans(files: Sequence[Path], channels: int) -> tuple[Scan, ...]:
    cases: dict[str, list[Path]] = {}
    for file in files:
        stem = formats.image_stem(file)
        numbered = _CHANNEL.search(stem)
        plain = numbered is None or (channels == 1 and numbered.group(1) != "0000")
        cases.setdefault(stem if plain else stem[: -len("_0000")], []).append(file)
    return tuple(Scan(case, tuple(paths)) for case, paths in cases.items())


def _dicom_scans(path: Path, channels: Sequence[ChannelWish]) -> tuple[Scan, ...]:
    if path.is_file() and not formats.is_image(path):
        return ()
    of_patient: dict[str, list[formats.Stack]] = {}
    for stack in (formats.stack_at(path),) if path.is_file() else formats.find_series(path):
        of_patient.setdefault(stack.facts.patient_id or stack.facts.study_uid, []).append(stack)
    # What is refused is there too, and fails with its reason when its turn comes.
    found = [assembly for stacks in of_patient.values() for assembly in assemble(stacks, (), channels)]
    folders = [assembly.first.files[0].parent for assembly in found]
    names = [_scan_name(path, one, alone=folders.count(one.first.files[0].parent) == 1) for one in found]
    return tuple(
        # Numbers may repeat, identifiers do not.
        Scan(name if names.count(name) == 1 else f"{name}_{_last_part(one.first)}", (folder,), one)
        for name, folder, one in zip(names, folders, found, strict=True)
    )


def _scan_name(path: Path, assembly: Assembly, *, alone: bool) -> str:
    if path.is_file():
        return formats.image_stem(path)
    stack, folder = assembly.first, assembly.first.files[0].parent
    inside = folder.relative_to(path).parts if folder != path else (folder.resolve().name,)
    more = () if alone else (str(stack.facts.number), *([stack.name] if stack.name else []))
    return re.sub(r"[^\w.-]+", "_", "_".join((*inside, *more)))


def _last_part(stack: formats.Stack) -> str:
    return stack.facts.series_uid.rsplit(".", maxsplit=1)[-1]


def predict(
    model: Model,
    source: Path,
    output: Path,
    *,
    settings: Settings,
    options: PredictionOptions | None = None,
    watch: Watch = nobody,
) -> PredictionRun:
    """Segment every scan at `source` into the folder `output` (or, for one scan, the file of that name).

    A result that this model has written before is kept, so a batch that was stopped goes on where it stopped.
    A case that fails is reported and the next one is done.
    """
    options = options or PredictionOptions()
    use_threads(settings)
    scans = find_scans(source, wishes_for(model.plan.channels, model.plan.kinds))
    check_kinds(options.exports, model.labels, with_series=all(scan.assembly is not None for scan in scans))
    targets = _targets(scans, output)
    network = inference.place(model.network(), settings.device)
    digest = model.digest
    written: list[Path] = []
    kept: list[Path] = []
    failures: list[Failure] = []
    with stop_on_signals() as stop:
        for done, (scan, target) in enumerate(zip(scans, targets, strict=True)):
            if not options.again and _is_done(target, digest):
                kept.append(target)
                continue
            progress = _share(watch, scan.id, done, len(scans))
            try:
                _predict_one(model, scan, target, network=network, settings=settings, options=options, watch=progress)
                written.append(target)
            except DelineateError as error:
                failures.append(Failure(scan.id, error.in_case(scan.id)))
            watch("Segmenting", done + 1, len(scans), scan.id)
            if stop.asked:
                break
    return PredictionRun(tuple(written), tuple(kept), tuple(failures), stopped=stop.asked)


def _predict_one(
    model: Model,
    scan: Scan,
    target: Path,
    *,
    network: torch.nn.Module,
    settings: Settings,
    options: PredictionOptions,
    watch: inference.Progress,
) -> None:
    began = time.monotonic()
    volume = scan.read(model.plan.kinds[0])
    result = inference.segment(
        model,
        volume,
        device=settings.device,
        with_probabilities=options.probabilities,
        progress=watch,
        network=network,
    )
    segmentation = apply_rules(result.segmentation, (*model.postprocessing, *options.rules))
    formats.write_segmentation(target, segmentation)
    if options.exports:
        stack = None if scan.assembly is None else scan.assembly.first
        authored = replace(segmentation, author=model.digest)
        export(authored, beside(target, ""), options.exports, options=ExportOptions(sources=files_of(stack)))
    if result.probabilities is not None:
        _write_probabilities(target, result.probabilities, volume, model.labels)
    if options.figures:
        reference = _find_reference(options.references, scan.id, model.labels)
        png = comparison_figure(volume, segmentation, reference=reference, title=scan.id)
        write_bytes(beside(target, ".png"), png)
    record = ResultRecord(
        case=scan.id,
        labels={label.name: label.value for label in model.labels},
        volumes_ml={
            name: round(float(segmentation.mask(name).sum()) * volume.grid.voxel_volume_ml, 3)
            for name in model.labels.names
        },
        model=model.digest,
        series_uid=volume.source.series_uid,
        seconds=round(time.monotonic() - began, 2),
    )
    write_record(target, record)


def rules_for(model: Model, *, largest: Sequence[str] = (), smallest_ml: float = 0.0) -> tuple[Rule, ...]:
    """Rules asked for at prediction. Raises `LabelError` for a structure the model does not have."""
    for name in largest:
        model.labels.named(name)
    names = model.labels.names if smallest_ml > 0 else largest
    return tuple(Rule(label=name, largest_only=name in largest, smallest_ml=smallest_ml) for name in names)


def _is_done(target: Path, digest: str) -> bool:
    record = read_record(target)
    return target.exists() and record is not None and record.model == digest


def _targets(scans: Sequence[Scan], output: Path) -> list[Path]:
    if is_nifti_name(output):
        if len(scans) > 1:
            raise InputError(
                "several scans cannot go into one file", expected="a folder", got=output.name, remedy="Name a folder."
            )
        return [output]
    return [output / f"{scan.id}.nii.gz" for scan in scans]


def _write_probabilities(target: Path, probabilities: FloatImage, volume: Volume, labels: LabelSet) -> None:
    """One float map a structure: `a_probability_liver.nii.gz`."""
    for channel, name in zip(probabilities[1:], labels.names, strict=True):
        single = Volume(channel[None], volume.grid, Kind.OTHER, Source())
        formats.write_volume(beside(target, f"_probability_{re.sub(r'[^0-9a-zA-Z-]+', '_', name)}.nii.gz"), single)


def _find_reference(folder: Path | None, case: str, labels: LabelSet) -> Segmentation | None:
    if folder is None:
        return None
    path = next((p for p in (folder / f"{case}.nii.gz", folder / f"{case}.nii", folder) if p.is_file()), None)
    return None if path is None else formats.read_segmentation(path, labels)


def _share(watch: Watch, case: str, done: int, total: int) -> Callable[[float], None]:
    return lambda share: watch("Segmenting", done + 0.98 * share, total, case)
