"""`delineate deidentify`: a tree of DICOM files without their patients, under new names."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import InputError, UnreadableImage
from delineate.files import sweep, write_text
from delineate.formats.deidentification.deidentify import (
    BASIC,
    DeidentifyOptions,
    deidentify,
    leftovers,
    patient_of,
    relative_path,
)
from delineate.formats.deidentification.objects import read_names, read_object, text_of, write_object
from delineate.formats.deidentification.profile import EDITION
from delineate.formats.deidentification.pseudonyms import Patient, PseudonymKey
from delineate.formats.dicom.files import ClosedFolder, walk
from delineate.formats.dicom.headers import is_dicom
from delineate.workflow.progress import Watch, nobody

if TYPE_CHECKING:
    from pydicom import Dataset

RECORD = "deidentification.json"
"""Beside the patients' folders: with which key and options they were made; nothing of a patient."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that was left out, below the source folder, and why; the reason repeats nothing of its content."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class DeidentifySummary:
    """What became of a tree: numbers of files, and the ones that were left out.

    `kept`: done by an earlier run. `duplicates`: the same bytes as another file. `passed_over`: no DICOM objects.
    """

    written: int
    kept: int
    duplicates: int
    passed_over: int
    patients: int
    failures: tuple[Failure, ...]

    @property
    def text(self) -> str:
        """One line for people."""
        counts = f"{self.written} objects of {self.patients} patients written"
        extras = (
            (self.kept, "already there"),
            (self.duplicates, "duplicates"),
            (self.passed_over, "other files passed over"),
            (len(self.failures), "left out"),
        )
        return ", ".join([counts, *(f"{number} {what}" for number, what in extras if number)])


@dataclass(frozen=True, slots=True)
class _Object:
    """A file, whom and which study it is about, and where it goes below the target."""

    path: Path
    patient: Patient
    study_uid: str
    target: Path


@dataclass(slots=True)
class _Tally:
    written: int = 0
    kept: int = 0
    duplicates: int = 0
    passed_over: int = 0
    failures: list[Failure] = field(default_factory=list)

    def leave_out(self, path: Path, error: Exception) -> None:
        # An error's own text may hold the path once more; an OSError's is the system's.
        told = error.strerror if isinstance(error, OSError) else str(error)
        self.failures.append(Failure(path, told or type(error).__name__))


def deidentify_tree(
    source: Path,
    target: Path,
    key: PseudonymKey,
    *,
    options: DeidentifyOptions = BASIC,
    watch: Watch = nobody,
) -> DeidentifySummary:
    """De-identify every DICOM object below `source` into `target`/patient/study/series/instance.dcm, of new names.

    Other files, DICOMDIR among them, are passed over and counted. An object that cannot be freed of its patient, is
    damaged, or in which an identifying text is found once it is done (see `leftovers`), is left out and listed with
    the reason. Written whole or not at all; a run that was stopped goes on where it was. An object that lacks the
    issuer of its patient's ID takes it from others of its study with that ID.
    Raises `InputError` if one folder lies in the other, or if `target` was made with another key or other options, and
    `ResourceError` if it cannot be written.
    """
    _check_folders(source, target)
    _record(target, key, options)
    tally = _Tally()
    objects = _distinct(_found(source, key, tally, watch), source, tally)
    for folder in {(target / one.target).parent for one in objects}:
        sweep(folder)
    for done, one in enumerate(objects, start=1):
        try:
            _write(one, target, key, options=options, tally=tally)
        except (InputError, OSError) as error:
            tally.leave_out(one.path.relative_to(source), error)
        watch("De-identifying", done, len(objects), one.target.parts[0])
    patients = {one.target.parts[0] for one in objects if (target / one.target).exists()}
    failures = tuple(sorted(tally.failures, key=lambda failure: failure.path))
    return DeidentifySummary(tally.written, tally.kept, tally.duplicates, tally.passed_over, len(patients), failures)


def _check_folders(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise InputError("there is no such folder", path=source)
    inner, outer = target.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise InputError("originals and de-identified files must not mix", expected="two separate folders", path=target)


def _record(target: Path, key: PseudonymKey, options: DeidentifyOptions) -> None:
    path = target / RECORD
    content = {
        "profile": f"PS3.15 {EDITION}",
        "key": key.fingerprint,
        "dates": options.dates.value,
        "retain": sorted(option.name.lower() for option in options.retain),
        "pixels": options.pixels.value,
    }
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != content:
            raise InputError(
                "the folder was made with another key or other options",
                path=target,
                remedy="Use the same ones, or another folder.",
            )
    else:
        write_text(path, json.dumps(content, indent=2) + "\n")


def _found(source: Path, key: PseudonymKey, tally: _Tally, watch: Watch) -> list[_Object]:
    """Every object below a folder, from its header alone, in the order of the paths."""
    paths: list[Path] = []
    for found in walk(source):
        if isinstance(found, ClosedFolder):
            reason = f"a folder that cannot be listed: {found.reason}"
            tally.failures.append(Failure(found.path.relative_to(source), reason))
        else:
            paths.append(found.path)
    headers: dict[Path, Dataset] = {}
    for done, path in enumerate(sorted(paths), start=1):
        try:
            # A pipe or a device is never opened: that may wait for ever.
            if path.is_file() and is_dicom(path):
                headers[path] = _named(read_names(path))
            else:
                tally.passed_over += 1
        except (InputError, OSError) as error:
            tally.leave_out(path.relative_to(source), error)
        watch("Looking for objects", done, len(paths), "")
    _complete_issuers(headers.values())
    return [
        _Object(path, patient_of(header), text_of(header, "StudyInstanceUID"), relative_path(header, key))
        for path, header in headers.items()
    ]


def _named(header: Dataset) -> Dataset:
    missing = [
        f"{level}InstanceUID" for level in ("Study", "Series", "SOP") if not text_of(header, f"{level}InstanceUID")
    ]
    if missing:
        raise UnreadableImage("the object does not say what it is", expected=", ".join(missing))
    return header


def _complete_issuers(headers: Iterable[Dataset]) -> None:
    """Masks and reports often lose the issuer of the ID, and would else be of another patient than their images."""
    issuers: dict[tuple[str, str], set[str]] = {}
    lacking: list[tuple[Dataset, tuple[str, str]]] = []
    for header in headers:
        who, issuer = (text_of(header, "StudyInstanceUID"), text_of(header, "PatientID")), patient_of(header).issuer
        if issuer:
            issuers.setdefault(who, set()).add(issuer)
        else:
            lacking.append((header, who))
    for header, who in lacking:
        if len(issuers.get(who, ())) == 1:
            header.IssuerOfPatientID = next(iter(issuers[who]))


def _distinct(found: Sequence[_Object], source: Path, tally: _Tally) -> list[_Object]:
    """One object for each name; what contradicts another is left out."""
    of_target: dict[Path, _Object] = {}
    of_pseudonym: dict[str, Patient] = {}
    of_study: dict[str, Patient] = {}
    for one in found:
        first = of_target.setdefault(one.target, one)
        same_patient = (
            of_pseudonym.setdefault(one.target.parts[0].upper(), one.patient).identity == one.patient.identity
        )
        same_study = of_study.setdefault(one.study_uid, one.patient).identity == one.patient.identity
        reason = (
            "its patient would get another patient's pseudonym"
            if not same_patient
            else "its study is another patient's: the ID, or its issuer, is not the same in all of the study's objects"
            if not same_study
            else "another object has the same SOP Instance UID and other content"
            if first is not one and not filecmp.cmp(first.path, one.path, shallow=False)
            else ""
        )
        if reason:
            tally.leave_out(one.path.relative_to(source), InputError(reason))
        elif first is not one:
            tally.duplicates += 1
    return [one for one in of_target.values() if one.path.relative_to(source) not in {f.path for f in tally.failures}]


def _write(one: _Object, target: Path, key: PseudonymKey, *, options: DeidentifyOptions, tally: _Tally) -> None:
    path = target / one.target
    if path.exists():
        tally.kept += 1
        return
    original = read_object(one.path)
    if one.patient.issuer:
        original.IssuerOfPatientID = one.patient.issuer
    new = deidentify(original, key, options)
    left = [found for found in leftovers(original, new, key, options) if not found.coded]
    if left:
        raise InputError(
            "an identifying text is still in the object",
            got=f"text of {left[0].identifier.keyword} in {', '.join(left[0].places) or 'binary data'}",
            remedy="Look at the object; nothing of it was written.",
        )
    write_object(path, new)
    tally.written += 1
