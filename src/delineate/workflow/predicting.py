"""`delineate predict`: from scans on disk to segmentations in the scans' own grids."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch

from delineate import formats, inference
from delineate.errors import DelineateError, InputError
from delineate.files import atomic_path, check_writable, remove, write_bytes
from delineate.formats.deidentification.pseudonyms import PseudonymKey
from delineate.formats.exporters import ExportOptions
from delineate.formats.nifti import is_nifti_name
from delineate.labels import LabelSet
from delineate.model import Model
from delineate.postprocessing import Rule, apply_rules
from delineate.preprocessing import FloatImage
from delineate.reports.figures import comparison_figure
from delineate.settings import Settings
from delineate.volume import Kind, Segmentation, Source, Volume, align
from delineate.workflow.assembling import wishes_for
from delineate.workflow.choosing import Scan, find_scans
from delineate.workflow.exporting import check_kinds, export, files_of
from delineate.workflow.preparing import use_threads
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.proofs import standing_proofs
from delineate.workflow.results import Failure, ResultRecord, beside, read_record, write_record


@dataclass(frozen=True, slots=True)
class PredictionRun:
    """What became of a batch: segmentations written now, those that were there already, failures, and what could not be
    read on the way."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    failures: tuple[Failure, ...]
    problems: tuple[str, ...] = ()
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """What is wanted beside the label maps. `references`: a folder with label maps to draw beside the predictions;
    `exports`: formats, see `exporting.export`. `key`: results are of the pseudonymous patient.
    """

    probabilities: bool = False
    figures: bool = False
    references: Path | None = None
    rules: tuple[Rule, ...] = ()
    again: bool = False
    exports: tuple[str, ...] = ()
    key: PseudonymKey | None = None


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

    A result of the same model, scan and options that is there is kept, so a batch that was stopped goes on where it
    stopped; what is to be exported and is not there is made of it. A case that fails is reported and the next one is
    done; one whose name is taken by something that is no result fails, unless `options.again` says to overwrite it.
    """
    options = options or PredictionOptions()
    use_threads(settings)
    wishes = wishes_for(model.plan.channels, model.plan.kinds)
    chosen = find_scans(source, wishes, settings=settings, key=options.key, watch=watch)
    if chosen.stopped:
        return PredictionRun((), (), (), stopped=True)
    scans = chosen.scans
    check_kinds(options.exports, model.labels, with_series=all(scan.assembly is not None for scan in scans))
    targets = _targets(scans, output)
    check_writable(targets[0].parent)
    network = inference.place(model.network(), settings.device)
    written: list[Path] = []
    kept: list[Path] = []
    failures: list[Failure] = []
    stopped = False
    with stop_on_signals() as stop:
        for done, (scan, target) in enumerate(zip(scans, targets, strict=True), start=1):
            progress = _share(watch, scan.id, done - 1, len(scans))
            recipe = _recipe(model, scan, options)
            try:
                if _is_done(target, recipe, options):
                    kept.append(target)
                    _export_missing(model, scan, target, options)
                else:
                    _predict_one(
                        model, scan, target, network=network, settings=settings, options=options, watch=progress
                    )
                    written.append(target)
            except DelineateError as error:
                failures.append(Failure(scan.id, error.in_case(scan.id)))
            watch("Segmenting", done, len(scans), scan.id)
            if stop.asked and done < len(scans):
                stopped = True
                break
    return PredictionRun(tuple(written), tuple(kept), tuple(failures), chosen.problems, stopped)


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
    _export(model, scan, target, segmentation, kinds=options.exports, key=options.key)
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
        series_uid=_uid(volume.source.series_uid, options.key),
        seconds=round(time.monotonic() - began, 2),
        recipe=_recipe(model, scan, options),
    )
    with atomic_path(target) as temporary:
        formats.write_segmentation(temporary, segmentation)
        # Cut off anywhere, a record never stands beside another label map than its own.
        remove(target)
        write_record(target, record)


def _export(
    model: Model,
    scan: Scan,
    target: Path,
    segmentation: Segmentation,
    *,
    kinds: Sequence[str],
    key: PseudonymKey | None,
) -> None:
    if kinds:
        sources = files_of(None if scan.assembly is None else scan.assembly.first)
        authored = replace(segmentation, author=model.digest)
        export(authored, beside(target, ""), kinds, options=ExportOptions(sources=sources), key=key)


def _export_missing(model: Model, scan: Scan, target: Path, options: PredictionOptions) -> None:
    """What is wanted of a result that was there already, and is not beside it."""
    proven = {proof.format for proof in standing_proofs(beside(target, "")).values()}
    if not proven.issuperset(options.exports):
        segmentation = formats.read_segmentation(target, model.labels)
        grid = segmentation.grid if scan.assembly is None else scan.assembly.first.grid
        _export(model, scan, target, align(segmentation, grid), kinds=options.exports, key=options.key)


def _uid(uid: str | None, key: PseudonymKey | None) -> str | None:
    return uid if uid is None or key is None else key.uid(uid)


def rules_for(model: Model, *, largest: Sequence[str] = (), smallest_ml: float = 0.0) -> tuple[Rule, ...]:
    """Rules asked for at prediction. Raises `LabelError` for a structure the model does not have."""
    for name in largest:
        model.labels.named(name)
    names = model.labels.names if smallest_ml > 0 else largest
    return tuple(Rule(label=name, largest_only=name in largest, smallest_ml=smallest_ml) for name in names)


def _recipe(model: Model, scan: Scan, options: PredictionOptions) -> str:
    parts = (model.digest, scan.recipe, options.rules, None if options.key is None else options.key.fingerprint)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _is_done(target: Path, recipe: str, options: PredictionOptions) -> bool:
    """Whether the result is there already. Raises `InputError` for a file of the name that is no result."""
    if options.again or not target.exists():
        return False
    record = read_record(target)
    if record is None:
        raise InputError(
            "the name of the result is taken by something that is no result",
            path=target,
            remedy="Choose another folder, or write over it (--again).",
        )
    return record.recipe == recipe


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
