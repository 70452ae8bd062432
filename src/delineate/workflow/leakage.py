"""`delineate leakage`: whether what is tested on was seen in training, and what a dataset holds twice."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from delineate import formats
from delineate.dataset import Case, digest, fingerprint_file, open_dataset
from delineate.errors import DatasetError, DelineateError, InputError, ModelError
from delineate.evaluation.descriptors import describe_volume
from delineate.evaluation.leakage import CaseTraces, Leak, find_leaks, find_repeats
from delineate.evaluation.likeness import THRESHOLD
from delineate.files import write_text
from delineate.formats.nifti import is_nifti_name
from delineate.settings import Settings
from delineate.workflow.import_records import read_import
from delineate.workflow.progress import Watch, nobody

SCHEMA_VERSION = 1
AXES = ("left-right", "front-back", "up-down")

_FIRST_CHANNEL = re.compile(r"(?P<case>.+)_0000")
_LATER_CHANNEL = re.compile(r".+_(?!0000)\d{4}")


@dataclass(frozen=True, slots=True)
class LeakageResult:
    """Pairs that belong together, of `training` and `test` cases; `test` is 0 where one dataset was looked at alone.

    `problems`: cases that could not be read, in whole or in part. `remarks`: what was not, or not surely, compared.
    """

    leaks: tuple[Leak, ...]
    training: int
    test: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In one sentence."""
        if not self.test:
            count = f"{len(self.leaks)} pairs" if len(self.leaks) != 1 else "1 pair"
            return f"{count} of {self.training} cases hold the same" if self.leaks else "No two cases hold the same"
        seen = len({leak.test for leak in self.leaks})
        of = f"of {self.test} test case{'' if self.test == 1 else 's'}"
        where = f"found in training ({self.training} case{'' if self.training == 1 else 's'})"
        return f"{seen} {of} {'was' if seen == 1 else 'were'} {where}" if seen else f"None {of} was {where}"


@dataclass(frozen=True, slots=True)
class _Side:
    """Cases of one side, and the folder of their dataset."""

    folder: Path
    cases: tuple[Case, ...]


def check_leakage(
    training: Path,
    test: Path | None = None,
    *,
    model: Path | None = None,
    look: bool = True,
    settings: Settings,
    watch: Watch = nobody,
) -> LeakageResult:
    """Training and test cases that share a patient, a file, a series, a name, or show nearly the same.

    `training`, `test`: datasets, or folders of NIfTI files. With a `model`, of `training` only the cases count that the
    model was trained or chosen on, and without `test` all others of it are the test. Without both, pairs within
    `training` are sought. `look`: whether images are compared by what they show, which means reading them all.
    Raises `DatasetError` for a folder without cases, `ModelError` for a model that does not name its cases,
    `InputError` if the dataset has none of them or nothing else.
    """
    side, other = _open(training), None if test is None else _open(test)
    remarks: list[str] = []
    if model is not None:
        seen, notes = _seen(model, side, look=look)
        other = other or _rest(side, seen)
        side = replace(side, cases=tuple(case for case in side.cases if case.id in seen))
        remarks += notes
    problems: list[str] = []
    sides = [side] if other is None else [side, other]
    traces = [_traces(each, problems, look=look, settings=settings, watch=watch) for each in sides]
    tell = partial(_tell, watch)
    leaks = find_repeats(traces[0], tell=tell) if other is None else find_leaks(traces[0], traces[1], tell=tell)
    if other is not None and not all(any(case.patient_id for case in each) for each in traces):
        remarks.append("Nobody says who the patients are on one side or both: give cases.csv a column patient_id.")
    if not look:
        remarks.append("Images were not compared by what they show.")
    return LeakageResult(
        leaks, len(side.cases), 0 if other is None else len(other.cases), tuple(problems), tuple(remarks)
    )


def leakage_to_json(result: LeakageResult, training: Path, test: Path | None) -> str:
    """The result as JSON text. `correlation` is null where images were not found alike."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "training": {"path": str(training), "cases": result.training},
        "test": {"path": str(test or training), "cases": result.test} if result.test else None,
        "threshold": THRESHOLD,
        "leaks": [_leak_json(leak) for leak in result.leaks],
        "problems": result.problems,
        "remarks": result.remarks,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def leakage_to_csv(result: LeakageResult) -> str:
    """A row a pair; several ties are separated by spaces."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("training" if result.test else "first", "test" if result.test else "second", "ties", "correlation")
    )
    for leak in result.leaks:
        correlation = "" if math.isnan(leak.correlation) else f"{leak.correlation:.4f}"
        writer.writerow((leak.training, leak.test, " ".join(tie.value for tie in leak.ties), correlation))
    return text.getvalue()


def write_leakage(result: LeakageResult, folder: Path, *, training: Path, test: Path | None) -> tuple[Path, Path]:
    """Write leakage.json and leakage.csv into a folder; returns their paths."""
    paths = folder / "leakage.json", folder / "leakage.csv"
    write_text(paths[0], leakage_to_json(result, training, test))
    write_text(paths[1], leakage_to_csv(result))
    return paths


def _leak_json(leak: Leak) -> dict[str, object]:
    return {
        "training": leak.training,
        "test": leak.test,
        "ties": [tie.value for tie in leak.ties],
        "correlation": None if math.isnan(leak.correlation) else round(leak.correlation, 4),
        "mirrored": [AXES[axis] for axis in leak.flipped],
    }


def _tell(watch: Watch, done: int, total: int) -> None:
    watch("Comparing", done, total, "")


def _open(place: Path) -> _Side:
    folder = place.parent if place.is_file() else place
    if place.is_file() or (folder / "dataset.json").is_file() or (folder / "imagesTr").is_dir():
        return _Side(folder, open_dataset(place).cases)
    files = sorted(file for file in folder.iterdir() if is_nifti_name(file) and not file.name.startswith("."))
    cases = tuple(_case(file) for file in files if not _LATER_CHANNEL.fullmatch(formats.image_stem(file)))
    if not cases:
        raise DatasetError("neither a dataset nor a folder of NIfTI files", path=place)
    return _Side(folder, cases)


def _case(file: Path) -> Case:
    name = formats.image_stem(file)
    channel = _FIRST_CHANNEL.fullmatch(name)
    case_id = channel["case"] if channel else name
    return Case(case_id, case_id, (file,), None)


def _seen(model: Path, side: _Side, *, look: bool) -> tuple[frozenset[str], list[str]]:
    """Cases of a dataset that a model was trained or chosen on, and what is to be said of them."""
    from delineate.model import read_provenance  # imports torch

    provenance, _ = read_provenance(model)
    known = {*provenance.training_cases, *provenance.validation_cases}
    if not known:
        raise ModelError("the model does not name the cases it was trained on", path=model)
    there = frozenset(case.id for case in side.cases if case.id in known)
    if not there:
        raise InputError(
            "the dataset has none of the model's cases", expected=sorted(known)[:3], path=side.folder, got="other names"
        )
    chosen_by = len(provenance.validation_cases)
    remarks = [f"The model chose its weights by {chosen_by} of its cases: they count as seen."] if chosen_by else []
    if len(there) < len(known):
        remarks.append(f"{len(known) - len(there)} of the model's {len(known)} cases are not in {side.folder}.")
    if look and _is_other_dataset(side, provenance.dataset_digest):
        remarks.append("The dataset has changed since the model was trained on it: its cases are taken by their names.")
    return there, remarks


def _is_other_dataset(side: _Side, known: str) -> bool:
    try:
        return bool(known) and digest(open_dataset(side.folder)) != known
    except DatasetError:
        return True


def _rest(side: _Side, seen: Collection[str]) -> _Side:
    rest = tuple(case for case in side.cases if case.id not in seen)
    if not rest:
        raise InputError(
            "the model has seen all cases of the dataset",
            path=side.folder,
            remedy="Give the cases it is tested on as a second dataset.",
        )
    return replace(side, cases=rest)


def _traces(
    side: _Side, problems: list[str], *, look: bool, settings: Settings, watch: Watch
) -> tuple[CaseTraces, ...]:
    """By what each case is known again; files that cannot be read are added to `problems`."""
    found = []
    with ThreadPoolExecutor(settings.threads) as pool:
        work = [pool.submit(_trace, side.folder, case, look=look) for case in side.cases]
        try:
            for n, (case, future) in enumerate(zip(side.cases, work, strict=True), start=1):
                trace, wrong = future.result()
                found.append(trace)
                problems += wrong
                watch("Reading", n, len(work), case.id)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return tuple(found)


def _trace(folder: Path, case: Case, *, look: bool) -> tuple[CaseTraces, list[str]]:
    record = read_import(folder, case.id)
    named = case.patient_id if case.patient_id != case.id else ""
    trace = CaseTraces(
        case.id, named if record is None else record.patient, series=() if record is None else tuple(record.series)
    )
    try:
        trace = replace(trace, digests=tuple(fingerprint_file(image) for image in case.images))
        return (_with_image(trace, case.images[0]) if look else trace), []
    except FileNotFoundError as error:
        return trace, [f"{case.id}: the image is missing ({error.filename})"]
    except DelineateError as error:
        return trace, [str(error.in_case(case.id))]


def _with_image(trace: CaseTraces, path: Path) -> CaseTraces:
    volume = formats.read_volume(path)
    series = volume.source.series_uid
    return replace(trace, descriptor=describe_volume(volume), series=trace.series or ((series,) if series else ()))
