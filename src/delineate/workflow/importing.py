"""`delineate import`: from a tree of DICOM to a dataset, every decision written down beside its case.

DATASET/dataset.json, cases.csv     as every dataset; patients under pseudonyms
DATASET/imagesTr, labelsTr          cases with labels; imagesTs: those without
DATASET/imports/CASE.json           where a case came from and what was decided
DATASET/names.csv                   the table that maps names of regions onto labels, to edit and import again
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate import formats
from delineate.dataset import Case, Dataset, write_dataset_json
from delineate.errors import DatasetError, DelineateError, GeometryMismatch, InputError, LabelError
from delineate.files import write_text
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey, load_or_make_key
from delineate.formats.dicom.slices import Instance
from delineate.formats.dicom_results.contours import ContourMask
from delineate.formats.dicom_results.rtstruct import read_rtstruct
from delineate.formats.dicom_results.seg import read_seg
from delineate.formats.dicom_results.seg_placing import seg_on_grid
from delineate.formats.dicom_results.structure_sets import rasterise
from delineate.geometry import Grid
from delineate.labels import LabelSet, label_set
from delineate.resampling import Interpolation
from delineate.roi_names import (
    How,
    RoiMatches,
    RoiRow,
    RoiTable,
    default_table,
    match_rois,
    table_from_csv,
    table_to_csv,
)
from delineate.volume import Segmentation, Volume
from delineate.workflow.assembling import Assembly, ChannelWish, assemble, parse_channel, read_assembly
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.results import Failure
from delineate.workflow.scan_reports import ScanReport

Mask = npt.NDArray[np.bool_]

RECORD_VERSION = 1


@dataclass(frozen=True, slots=True)
class LabelWish:
    """A label, and a regular expression for the names of regions that mean it ("" is the usual names)."""

    name: str
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """`labels`: none takes every region by its own name. `table`: beside or instead of the labels' own patterns.

    `later_wins`: where structures overlap, the one of the higher value has the voxel; else the case fails.
    `deidentify`: records hold UIDs as the key maps them.
    """

    channels: tuple[ChannelWish, ...]
    labels: tuple[LabelWish, ...] = ()
    table: RoiTable | None = None
    repair: formats.Repair = formats.Repair.STRAIGHTEN
    later_wins: bool = False
    deidentify: bool = False
    again: bool = False


class ImportRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How a case came to be. `patient` is a pseudonym; `site` the scanner's manufacturer; affines: index -> LPS mm.

    Series UIDs are the files' own, so that results find their way back: keep the folder as the archive is kept, or let
    the import de-identify, which maps them by the key.
    """

    version: int = RECORD_VERSION
    case: str
    patient: str
    site: str | None
    series: list[str]
    notes: list[str]
    acquired_affine: list[list[float]]
    affine: list[list[float]]
    labels_from: list[str]
    names: dict[str, str]
    unmapped: list[str]
    voxels: dict[str, int]


@dataclass(frozen=True, slots=True)
class ImportRun:
    """What became of an import."""

    dataset: Dataset | None
    unlabelled: tuple[str, ...]
    failures: tuple[Failure, ...]
    unmapped: Mapping[str, int]
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class _Planned:
    id: str
    patient: str
    assembly: Assembly


def parse_label(text: str) -> LabelWish:
    """A wish from "liver" or "tumour=PATTERN". Raises `InputError` for an empty name."""
    name, _, pattern = text.partition("=")
    if not name.strip():
        raise InputError("a label without a name", expected="NAME or NAME=PATTERN", got=text)
    return LabelWish(name.strip(), pattern.strip())


def import_options(
    *,
    channels: Sequence[str] = (),
    labels: Sequence[str] = (),
    table: Path | None = None,
    overlap: str = "refuse",
    repair: str = "straighten",
    deidentify: bool = False,
    again: bool = False,
) -> ImportOptions:
    """Options from words and a names.csv. Raises `InputError` or `LabelError` for what cannot be understood."""
    return ImportOptions(
        channels=tuple(parse_channel(word) for word in channels or ("CT",)),
        labels=tuple(parse_label(word) for word in labels),
        table=None if table is None else table_from_csv(table.read_text(encoding="utf-8-sig")),
        repair=formats.Repair(repair),
        later_wins=overlap == "later",
        deidentify=deidentify,
        again=again,
    )


def patients_of(report: ScanReport) -> Iterator[tuple[list[formats.Stack], list[Instance]]]:
    """What a scan found of each patient, all studies together; studies without a patient ID are one each."""
    for _, studies in groupby(report.studies(), key=lambda study: study.patient_id or study.study_uid):
        own = list(studies)
        stacks = [stack for study in own for stack in report.stacks(study)]
        yield stacks, [thing for study in own for thing in report.objects(study)]


def import_tree(
    patients: Iterable[tuple[Sequence[formats.Stack], Sequence[Instance]]],
    folder: Path,
    options: ImportOptions,
    *,
    key_file: Path | None = None,
    watch: Watch = nobody,
) -> ImportRun:
    """Make a dataset in nnU-Net's layout of the series and label objects of each patient.

    Patients get pseudonyms by the key file (FOLDER.key.json beside the dataset by default, made where there is none).
    A case that is there already is kept, so an import that was stopped goes on; one that fails is reported at the end.
    Raises `DatasetError` if there is nothing to import.
    """
    key = load_or_make_key(key_file or folder.with_name(f"{folder.name}.key.json"))
    planned = [case for stacks, objects in patients for case in _plan(stacks, objects, options, key)]
    if not planned:
        raise DatasetError(
            "nothing to import",
            expected=f"series of {options.channels[0]}",
            remedy="See what the tree holds: delineate scan TREE.",
        )
    labels, table = _labels_and_table(planned, options)
    write_text(folder / "names.csv", table_to_csv(table))
    cases: list[Case] = []
    unlabelled: list[str] = []
    failures: list[Failure] = []
    unmapped: dict[str, int] = {}
    with stop_on_signals() as stop:
        for done, case in enumerate(planned, start=1):
            try:
                record = None if options.again else read_import(folder, case.id)
                record = record or _import_case(case, folder, labels, table, options=options, key=key)
            except DelineateError as error:
                failures.append(Failure(case.id, error.in_case(case.id)))
            else:
                for name in record.unmapped:
                    unmapped[name] = unmapped.get(name, 0) + 1
                if record.labels_from:
                    cases.append(_case(folder, record, len(options.channels)))
                else:
                    unlabelled.append(case.id)
            watch("Importing", done, len(planned), case.id)
            if stop.asked:
                break
    dataset = Dataset(folder.resolve().name, tuple(wish.name for wish in options.channels), labels, tuple(cases))
    if cases:
        write_dataset_json(folder, dataset)
    return ImportRun(dataset if cases else None, tuple(unlabelled), tuple(failures), unmapped, stop.asked)


def _plan(
    stacks: Sequence[formats.Stack], objects: Sequence[Instance], options: ImportOptions, key: PseudonymKey
) -> list[_Planned]:
    assemblies = sorted(
        assemble(stacks, objects, options.channels),
        key=lambda a: (a.first.facts.study_date, a.first.facts.number or 0, a.first.facts.series_uid, a.first.name),
    )
    if not assemblies:
        return []
    facts = assemblies[0].first.facts
    pseudonym = key.pseudonym(Patient(facts.patient_id, facts.issuer, facts.study_uid))
    ids = [pseudonym if len(assemblies) == 1 else f"{pseudonym}_{n + 1}" for n in range(len(assemblies))]
    return [_Planned(case_id, pseudonym, assembly) for case_id, assembly in zip(ids, assemblies, strict=True)]


def _labels_and_table(planned: Sequence[_Planned], options: ImportOptions) -> tuple[LabelSet, RoiTable]:
    """The labels asked for and the table that leads to them; else every region's own name."""
    names = [wish.name for wish in options.labels]
    if not names and options.table is not None:
        names = list(dict.fromkeys(row.label for row in options.table.rows))
    if not names:
        names = sorted(
            {name for case in planned for thing in case.assembly.labels for name in _region_names(thing)},
            key=str.casefold,
        )
        if not names:
            raise LabelError(
                "no labels: no SEG or RTSTRUCT belongs to these series",
                remedy="Name the labels (--label NAME) to import the images alone.",
            )
    labels = label_set(dict(enumerate(names, start=1)))
    rows = tuple(RoiRow(wish.name, How.PATTERN, wish.pattern) for wish in options.labels if wish.pattern)
    given = options.table.rows if options.table is not None else default_table(labels).rows
    return labels, RoiTable((*given, *rows))


def _region_names(thing: Instance) -> tuple[str, ...]:
    try:
        if thing.facts.modality == "RTSTRUCT":
            return tuple(roi.name for roi in read_rtstruct(thing.path).rois if roi.contours and roi.name)
        return read_seg(thing.path).segmentation.labels.names
    except DelineateError:
        # Its case fails with the reason when it is imported.
        return ()


def _import_case(
    case: _Planned, folder: Path, labels: LabelSet, table: RoiTable, *, options: ImportOptions, key: PseudonymKey
) -> ImportRecord:
    volume, notes = read_assembly(case.assembly)
    found = [_regions(thing, volume.grid, table) for thing in case.assembly.labels]
    segmentation, more = _merged(found, volume.grid, labels, later_wins=options.later_wins)
    part = "Ts" if segmentation is None else "Tr"
    for channel in range(volume.channels):
        single = Volume(volume.array[channel : channel + 1], volume.grid, volume.kind)
        formats.write_volume(folder / f"images{part}" / f"{case.id}_{channel:04d}.nii.gz", single)
    if segmentation is not None:
        formats.write_segmentation(folder / "labelsTr" / f"{case.id}.nii.gz", segmentation)
    own_uid = key.uid if options.deidentify else str
    record = ImportRecord(
        case=case.id,
        patient=case.patient,
        site=case.assembly.first.facts.manufacturer or None,
        series=[own_uid(stack.facts.series_uid) for stack in case.assembly.stacks],
        notes=[*notes, *more, *(note for regions in found for note in regions.notes)],
        acquired_affine=case.assembly.first.acquired.affine.tolist(),
        affine=volume.grid.affine.tolist(),
        labels_from=[own_uid(thing.instance_uid) for thing in case.assembly.labels] if segmentation is not None else [],
        names={name: label for regions in found for name, label in regions.label_of.items()},
        unmapped=sorted({name for regions in found for name in regions.unmapped}),
        voxels=_voxels(segmentation, labels),
    )
    # Written last: a case without its record is done again.
    write_text(
        _record_path(folder, case.id), msgspec.json.format(msgspec.json.encode(record), indent=1).decode() + "\n"
    )
    return record


@dataclass(frozen=True, slots=True, eq=False)
class _Regions:
    """What one label object says on the case's grid. `label_of`: the label that each structure of it means."""

    segmentation: Segmentation | None
    label_of: Mapping[str, str]
    unmapped: tuple[str, ...]
    notes: tuple[str, ...]

    def mask(self, label: str) -> Mask | None:
        """The union of the structures that mean the label; None where there is none."""
        names = [name for name, meant in self.label_of.items() if meant == label]
        if self.segmentation is None or not names:
            return None
        return np.asarray(np.logical_or.reduce([self.segmentation.mask(name) for name in names]))


def _regions(thing: Instance, grid: Grid, table: RoiTable) -> _Regions:
    if thing.facts.modality == "RTSTRUCT":
        return _contoured(thing.path, grid, table)
    seg = read_seg(thing.path)
    matches = match_rois(seg.segmentation.labels.names, table)
    notes: tuple[str, ...] = ()
    try:
        placed = seg_on_grid(seg, grid)
    except GeometryMismatch:
        placed = seg_on_grid(seg, grid, interpolation=Interpolation.LINEAR)
        notes = (f"{thing.path.name}: segments interpolated onto the series' grid",)
    return _Regions(placed, matches.mapped, _not_mapped(matches), notes)


def _contoured(path: Path, grid: Grid, table: RoiTable) -> _Regions:
    structure_set = read_rtstruct(path)
    matches = match_rois(structure_set.names, table)
    notes = [f"{path.name}: {problem}" for problem in structure_set.problems]
    notes += [f"{path.name}: {one.reason} of ROI {one.roi_number} passed over" for one in structure_set.skipped]
    if not matches.mapped:
        return _Regions(None, {}, _not_mapped(matches), tuple(notes))
    masks = rasterise(structure_set, grid, list(matches.mapped))
    names = label_set(dict(enumerate(matches.mapped, start=1)), overlaps=True)
    array = np.zeros((len(names), *grid.shape), dtype=np.bool_)
    for plane, mask in zip(array, masks, strict=True):
        voxels = mask.voxels
        if voxels.box is not None:
            plane[voxels.box.slices] = voxels.patch
        notes += [f"{path.name}: {mask.roi.name}: {what}" for what in _contour_notes(voxels)]
    return _Regions(Segmentation(array, grid, names), matches.mapped, _not_mapped(matches), tuple(notes))


def _contour_notes(voxels: ContourMask) -> Iterator[str]:
    if voxels.outside > 0:
        yield f"{voxels.outside:.1%} lies outside the image"
    if voxels.interpolated:
        yield f"{voxels.interpolated} slice(s) filled between contours"
    if voxels.duplicates:
        yield f"{voxels.duplicates} contour(s) drawn twice"
    if voxels.gaps_mm:
        yield f"{len(voxels.gaps_mm)} gap(s) between contours kept, the widest {max(voxels.gaps_mm):.1f} mm"


def _not_mapped(matches: RoiMatches) -> tuple[str, ...]:
    return (*matches.unmapped, *(f"{name} ({' or '.join(fits)})" for name, fits in matches.ambiguous.items()))


def _merged(
    found: Sequence[_Regions], grid: Grid, labels: LabelSet, *, later_wins: bool
) -> tuple[Segmentation | None, tuple[str, ...]]:
    """One label map of all objects, None where none names a label; and what was decided."""
    if found and not any(regions.label_of for regions in found):
        raise LabelError(
            "no region is mapped onto a label",
            expected=f"one of {list(labels.names)}",
            got=sorted({name for regions in found for name in regions.unmapped}),
            remedy="Add rows to names.csv and import again with --names.",
        )
    array = np.zeros(grid.shape, dtype=np.uint8 if max(labels.values) <= 255 else np.uint16)
    notes = []
    for label in labels:
        masks = [mask for mask in (regions.mask(label.name) for regions in found) if mask is not None]
        if len(masks) > 1:
            raise LabelError(
                f"several objects hold {label.name!r}",
                expected="one",
                got=len(masks),
                remedy="Take the outdated ones out of the tree.",
            )
        for mask in masks:
            shared = int(np.count_nonzero(array[mask]))
            if shared and not later_wins:
                raise LabelError(
                    f"{label.name!r} overlaps another structure, which one label map cannot hold",
                    got=f"{shared} voxels",
                    remedy="Say that the label named later wins (--overlap later), or name fewer labels.",
                )
            notes += [f"{label.name} took {shared} voxels from structures before it"] if shared else []
            array[mask] = label.value
    return (Segmentation(array, grid, labels) if found else None), tuple(notes)


def _voxels(segmentation: Segmentation | None, labels: LabelSet) -> dict[str, int]:
    if segmentation is None:
        return {}
    counts = np.bincount(segmentation.array.reshape(-1), minlength=max(labels.values) + 1)
    return {label.name: int(counts[label.value]) for label in labels}


def _record_path(folder: Path, case_id: str) -> Path:
    return folder / "imports" / f"{case_id}.json"


def read_import(folder: Path, case_id: str) -> ImportRecord | None:
    """How a case of the dataset in `folder` came to be; None if nothing readable says so."""
    try:
        record = msgspec.json.decode(_record_path(folder, case_id).read_bytes(), type=ImportRecord)
    except (OSError, msgspec.DecodeError):
        return None
    return record if record.version == RECORD_VERSION else None


def _case(folder: Path, record: ImportRecord, channels: int) -> Case:
    images = tuple(folder / "imagesTr" / f"{record.case}_{n:04d}.nii.gz" for n in range(channels))
    return Case(record.case, record.patient, images, folder / "labelsTr" / f"{record.case}.nii.gz", site=record.site)
