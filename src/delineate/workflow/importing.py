"""`delineate import`: from a tree of DICOM to a dataset, every decision written down beside its case.

DATASET/dataset.json          as every dataset; patients under pseudonyms
DATASET/imagesTr, labelsTr    cases with labels; imagesTs: those without
DATASET/imports/CASE.json     where a case came from and what was decided
DATASET/names.csv             the table that maps names of regions onto labels, to edit and import again
"""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np

from delineate import formats
from delineate.dataset import Case, Dataset, write_dataset_json
from delineate.errors import DatasetError, DelineateError, LabelError
from delineate.files import exclusive, sweep
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey, load_or_make_key
from delineate.formats.dicom.slices import Instance
from delineate.labels import LabelSet, label_set
from delineate.roi_names import RoiTable, canonical, default_table, match_rois, table_to_csv
from delineate.volume import Segmentation, Volume
from delineate.workflow.assembling import (
    LABEL_MODALITIES,
    Assembly,
    assemble,
    read_assembly,
)
from delineate.workflow.batches import Failure
from delineate.workflow.import_options import BACKGROUND, ImportOptions, pattern_rows
from delineate.workflow.import_records import (
    RECORD_VERSION,
    ImportRecord,
    begin,
    check_folder,
    forget,
    outdate,
    read_import,
    retire_others,
    write_import,
)
from delineate.workflow.labelling import merge_regions, read_regions, region_names
from delineate.workflow.progress import Watch, nobody, stop_on_signals
from delineate.workflow.recipes import files_recipe, stack_recipe
from delineate.workflow.scan_reports import ScanReport
from delineate.workflow.scrubbing import scrubber

_MOST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ImportRun:
    """What became of an import. `kept`: how many cases were there already, of the same files and options.

    `unmapped`: names of regions that mean no label, and in how many cases; `unused`: objects with labels that no
    case took.
    """

    dataset: Dataset | None
    unlabelled: tuple[str, ...]
    failures: tuple[Failure, ...]
    unmapped: Mapping[str, int]
    unused: tuple[Path, ...] = ()
    kept: int = 0
    stopped: bool = False

    @property
    def labelled(self) -> int:
        """How many cases have labels."""
        return 0 if self.dataset is None else len(self.dataset.cases)


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A case to be, under its name; `patient` is the pseudonym."""

    id: str
    patient: str
    assembly: Assembly


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What all cases are made by."""

    options: ImportOptions
    labels: LabelSet
    table: RoiTable
    key: PseudonymKey

    def of(self, assembly: Assembly) -> str:
        """Differs whenever the case would: by a file, an option, a row of the table, the key."""
        options = self.options
        parts = (
            RECORD_VERSION,
            [str(wish) for wish in options.channels],
            [stack_recipe(stack) for stack in assembly.stacks],
            [(thing.instance_uid, files_recipe([thing.path])) for thing in assembly.labels],
            dict(zip(self.labels.values, self.labels.names, strict=True)),
            table_to_csv(self.table),
            (options.repair.value, options.later_wins, options.deidentify),
        )
        return self.key.token(msgspec.json.encode(parts).decode())


@dataclass(slots=True)
class _Tally:
    cases: list[Case] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unmapped: Counter[str] = field(default_factory=Counter)
    kept: int = 0


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
    A case that is there already, of the same files by the same options, is kept, so an import that was stopped goes on;
    one that fails is reported at the end.
    Raises `DatasetError` if there is nothing to import, or the folder holds something else or cases of other patients;
    `InputError` if the table in it was edited and is not the one to be used; `ResourceError` if another import is
    writing there.
    """
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    assemblies, unused = _assembled(patients, options)
    labels, table = _labels_and_table(assemblies, options)
    used = _rows_for(labels, table)
    _check_any_mapped(assemblies, labels, used)
    check_folder(folder)
    with exclusive(folder):
        key = load_or_make_key(key_file or folder.with_name(f"{folder.name}.key.json"))
        planned = name_cases(assemblies, key)
        retire_others(folder, {case.id for case in planned}, {case.patient for case in planned})
        begin(folder, table)
        for part in ("imagesTr", "imagesTs", "labelsTr", "imports", "."):
            sweep(folder / part)
        tally, stopped = _import_cases(planned, folder, _Recipe(options, labels, used, key), watch)
        dataset = Dataset(folder.name, tuple(wish.name for wish in options.channels), labels, tuple(tally.cases))
        if tally.cases:
            write_dataset_json(folder, dataset)
        else:
            outdate(folder)
    return ImportRun(
        dataset if tally.cases else None,
        tuple(tally.unlabelled),
        tuple(tally.failures),
        dict(tally.unmapped),
        unused=unused,
        kept=tally.kept,
        stopped=stopped,
    )


def _assembled(
    patients: Iterable[tuple[Sequence[formats.Stack], Sequence[Instance]]], options: ImportOptions
) -> tuple[list[Assembly], tuple[Path, ...]]:
    """The cases to be, and the label objects that belong to none."""
    assemblies: list[Assembly] = []
    objects: list[Instance] = []
    for stacks, things in patients:
        labels = [thing for thing in _without_copies(things) if thing.facts.modality in LABEL_MODALITIES]
        assemblies += assemble(stacks, labels, options.channels)
        objects += labels
    if not assemblies:
        raise DatasetError(
            "nothing to import",
            expected=f"series of {options.channels[0]}",
            remedy="See what the tree holds: delineate scan TREE.",
        )
    used = {thing.path for assembly in assemblies for thing in assembly.labels}
    return assemblies, tuple(thing.path for thing in objects if thing.path not in used)


def _without_copies(things: Sequence[Instance]) -> Iterator[Instance]:
    """Objects that are there twice, byte by byte, once."""
    seen: dict[str, list[Instance]] = {}
    for thing in things:
        others = seen.setdefault(thing.instance_uid, [])
        if not any(_is_same(thing.path, other.path) for other in others):
            others.append(thing)
            yield thing


def _is_same(path: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def name_cases(assemblies: Sequence[Assembly], key: PseudonymKey) -> list[PlannedCase]:
    """The cases by patient and date. A patient's only case has the pseudonym as its name, several are numbered."""
    of_patient: dict[str, list[Assembly]] = {}
    for assembly in assemblies:
        facts = assembly.first.facts
        pseudonym = key.pseudonym(Patient(facts.patient_id, facts.issuer, facts.study_uid))
        of_patient.setdefault(pseudonym, []).append(assembly)
    planned: list[PlannedCase] = []
    for patient, own in of_patient.items():
        ordered = sorted(own, key=lambda a: (a.first.facts.study_date, a.first.facts.number or 0, _full_name(a.first)))
        ids = [patient if len(own) == 1 else f"{patient}_{n + 1}" for n in range(len(own))]
        planned += [PlannedCase(case_id, patient, assembly) for case_id, assembly in zip(ids, ordered, strict=True)]
    return planned


def _full_name(stack: formats.Stack) -> tuple[str, str]:
    return stack.facts.series_uid, stack.name


def _labels_and_table(assemblies: Sequence[Assembly], options: ImportOptions) -> tuple[LabelSet, RoiTable]:
    """The labels asked for and the table that leads to them; else every region's own name."""
    names = [wish.name for wish in options.labels]
    if not names and options.table is not None:
        names = list(dict.fromkeys(row.label for row in options.table.rows))
    if not names:
        names = _distinct_names(name for assembly in assemblies for name in _harmless_names(assembly))
        if not names:
            raise LabelError(
                "no labels: no SEG or RTSTRUCT belongs to these series",
                remedy="Name the labels (--label NAME) to import the images alone.",
            )
    labels = label_set(dict(enumerate(names, start=1)))
    rows = pattern_rows(options.labels)
    given = options.table.rows if options.table is not None else default_table(labels).rows
    return labels, RoiTable((*given, *(row for row in rows if row not in given)))


def _distinct_names(names: Iterable[str]) -> list[str]:
    """The names in order, of those that are compared as equal ("Liver", "liver") the most frequent."""
    spellings: dict[str, Counter[str]] = {}
    for name in names:
        if canonical(name) not in ("", BACKGROUND):
            spellings.setdefault(canonical(name), Counter())[name] += 1
    chosen = [max(sorted(counts), key=lambda name: counts[name]) for counts in spellings.values()]
    return sorted(chosen, key=lambda name: (name.casefold(), name))


def _rows_for(labels: LabelSet, table: RoiTable) -> RoiTable:
    # A name that means another label is not one that is mapped.
    return RoiTable(tuple(row for row in table.rows if row.label in labels.names))


def _check_any_mapped(assemblies: Sequence[Assembly], labels: LabelSet, table: RoiTable) -> None:
    """A slip of the pen is not to undo an earlier import case by case."""
    names: Counter[str] = Counter()
    for assembly in assemblies:
        for thing in assembly.labels:
            matches = match_rois(region_names(thing), table)
            if matches.mapped:
                return
            names.update(map(scrubber(assembly.first.files[0]), matches.unmapped))
    if names:
        raise LabelError(
            "no region of any case is mapped onto a label",
            expected=f"one of {list(labels.names)}",
            got=f"{len(names)} names, the most frequent {[name for name, _ in names.most_common(_MOST_SHOWN)]}",
            remedy="Name labels by --label NAME=PATTERN, or leave --label away to see every name.",
        )


def _harmless_names(assembly: Assembly) -> Iterator[str]:
    """The names of a case's regions that say nothing of the patient."""
    if assembly.labels:
        scrub = scrubber(assembly.first.files[0])
        yield from (name for thing in assembly.labels for name in region_names(thing) if scrub(name) == name)


def _import_cases(planned: Sequence[PlannedCase], folder: Path, recipe: _Recipe, watch: Watch) -> tuple[_Tally, bool]:
    tally = _Tally()
    with stop_on_signals() as stop:
        for done, case in enumerate(planned, start=1):
            try:
                record = _kept(case, folder, recipe)
                tally.kept += record is not None
                record = record or _import_case(case, folder, recipe)
            except DelineateError as error:
                tally.failures.append(Failure(case.id, error.in_case(case.id)))
            else:
                tally.unmapped.update(record.unmapped)
                if record.labels_from:
                    tally.cases.append(_case(folder, record, len(recipe.options.channels)))
                else:
                    tally.unlabelled.append(case.id)
            watch("Importing", done, len(planned), case.id)
            if stop.asked and done < len(planned):
                return tally, True
    return tally, False


def _kept(case: PlannedCase, folder: Path, recipe: _Recipe) -> ImportRecord | None:
    """The record of a case that need not be done again; else nothing of it is left."""
    record = read_import(folder, case.id)
    if record is not None and not recipe.options.again and record.recipe == recipe.of(case.assembly):
        return record
    if record is not None:
        outdate(folder)
    forget(folder, case.id)
    return None


def _import_case(case: PlannedCase, folder: Path, recipe: _Recipe) -> ImportRecord:
    made_by = recipe.of(case.assembly)
    volume, notes = read_assembly(case.assembly)
    found = [read_regions(thing, volume.grid, recipe.table) for thing in case.assembly.labels]
    own = [regions for regions in found if case.assembly.is_own(regions.made_on)]
    segmentation: Segmentation | None = None
    decided: tuple[str, ...] = ()
    if own:
        segmentation, decided = merge_regions(own, volume.grid, recipe.labels, later_wins=recipe.options.later_wins)
    part = "Ts" if segmentation is None else "Tr"
    for channel in range(volume.channels):
        single = Volume(volume.array[channel : channel + 1], volume.grid, volume.kind)
        formats.write_volume(folder / f"images{part}" / f"{case.id}_{channel:04d}.nii.gz", single)
    if segmentation is not None:
        formats.write_segmentation(folder / "labelsTr" / f"{case.id}.nii.gz", segmentation)
    uid = recipe.key.uid if recipe.options.deidentify else str
    scrub = scrubber(case.assembly.first.files[0])
    record = ImportRecord(
        recipe=made_by,
        case=case.id,
        patient=case.patient,
        site=case.assembly.first.facts.manufacturer or None,
        series=[uid(stack.facts.series_uid) for stack in case.assembly.stacks],
        notes=[*map(scrub, (*notes, *decided, *(note for regions in own for note in regions.notes)))],
        acquired_affine=case.assembly.first.acquired.affine.tolist(),
        affine=volume.grid.affine.tolist(),
        labels_from=[uid(regions.thing.instance_uid) for regions in own],
        names={scrub(name): label for regions in own for name, label in regions.label_of.items()},
        unmapped=sorted({scrub(name) for regions in own for name in regions.unmapped}),
        voxels=_voxels(segmentation, recipe.labels),
    )
    write_import(folder, record)
    return record


def _voxels(segmentation: Segmentation | None, labels: LabelSet) -> dict[str, int]:
    if segmentation is None:
        return {}
    counts = np.bincount(segmentation.array.reshape(-1), minlength=max(labels.values) + 1)
    return {label.name: int(counts[label.value]) for label in labels}


def _case(folder: Path, record: ImportRecord, channels: int) -> Case:
    images = tuple(folder / "imagesTr" / f"{record.case}_{n:04d}.nii.gz" for n in range(channels))
    return Case(record.case, record.patient, images, folder / "labelsTr" / f"{record.case}.nii.gz", site=record.site)
