"""Decisions, the second reader, and what is handed on afterwards."""

from __future__ import annotations

from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse

from delineate.dataset import fingerprint_file
from delineate.files import write_bytes
from delineate.review import exports
from delineate.review.export_formats import check_formats
from delineate.review.records import NotAllowed, Person, ReviewCase, StaleRevision
from delineate.review.server.export_choices import hides_name
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.problems import NotFound
from delineate.review.server.showing import decision_answer
from delineate.review.server.wire import (
    Decided,
    ExportedFile,
    ExportedFiles,
    ExportRequest,
    NewDecision,
    Reason,
    SecondReader,
    StateAnswer,
)

_LISTING = "files.json"


def decide(here: Here, person: Visitor, case: Asked, body: NewDecision) -> Decided:
    """Sign a verdict on what was seen. 409 if the case has changed since."""
    _check_signer(here, person, body)
    revision, seen = here.live.digest(case)
    if body.revision != revision:
        # Not left to the store: what is seen at a later revision would go in unchecked.
        raise StaleRevision(
            "the case was changed meanwhile", revision=revision, remedy="Look at what is new, then sign"
        )
    if body.seen != seen:
        raise NotAllowed("what is signed is not what the case holds", remedy="Load the case again")
    decision = here.store.decide(
        case.id,
        person,
        body.verdict,
        revision=body.revision,
        seen=body.seen,
        signature=body.signature,
        structure=body.structure,
        reason=body.reason,
    )
    return Decided(state=here.store.case_by_id(case.id).state, decision=decision_answer(decision))


def _check_signer(here: Parts, person: Person, body: NewDecision) -> None:
    if here.options.local is not None and here.options.local.name == person.name:
        return
    signing = f"signature of {person.name}"
    # Strangers who guess at this name cannot keep its owner from signing.
    trusted = here.guesses.allow(signing)
    if here.store.check_password(person.name, body.password, trusted=trusted) is None:
        raise NotAllowed("a signature needs the password of who signs", remedy="Type it again, or wait some minutes")
    if trusted:
        here.guesses.forgive(signing)


def reopen(here: Here, person: Visitor, case: Asked, body: Reason) -> StateAnswer:
    """Open a case again that was decided, for a reason."""
    return StateAnswer(state=here.store.reopen(case.id, person, body.reason).state)


def second(here: Here, person: Visitor, case: Asked, body: SecondReader) -> StateAnswer:
    """Ask somebody for a second reading."""
    return StateAnswer(state=here.store.assign_second(case, body.name, by=person).state)


def export(here: Here, person: Visitor, case: Asked, body: ExportRequest) -> ExportedFiles:
    """Write an approved case in formats of other software."""
    _check_sees_names(person, case)
    check_formats(case, tuple(body.formats))
    folder = _folder(here, case)
    with here.slow_turns.of(case.id):
        what = exports.reviewed(here.store, here.live, case)
        made = exports.export_case(what, tuple(dict.fromkeys(body.formats)), folder)
        files = [ExportedFile(name=file.name, format=file.format, bytes=file.bytes) for file in made]
        known = {file.name: file for file in (*_listed(folder), *files)}
        write_bytes(folder / _LISTING, ExportedFiles(files=list(known.values())).model_dump_json().encode())
    digests = {file.name: fingerprint_file(file.path) for file in made}
    facts = {"files": digests, "revision": what.case.revision, "seen": what.seen}
    here.store.audit(person, "exported", case.new.key, facts)
    return ExportedFiles(files=files)


def exported(here: Here, person: Visitor, case: Asked) -> ExportedFiles:
    """What was exported of a case and is still there."""
    folder = _folder(here, case)
    return ExportedFiles(files=[file for file in _listed(folder) if _plain_file(folder, file.name)])


def exported_file(here: Here, person: Visitor, case: Asked, name: str) -> Response:
    """An exported file; names that are not on the case's own list do not exist, whatever they point to."""
    _check_sees_names(person, case)
    folder = _folder(here, case)
    if name not in {file.name for file in _listed(folder)} or not _plain_file(folder, name):
        raise NotFound("there is no such exported file")
    here.store.audit(person, "export_fetched", case.new.key, {"file": name})
    quoted = "".join(letter if letter.isascii() and letter not in '"\\' else "_" for letter in name)
    # Never shown in place: a report is a page of its own, and not of this server.
    return FileResponse(
        folder / name,
        media_type="application/octet-stream",
        headers={"Content-Disposition": f'attachment; filename="{quoted}"'},
    )


def _check_sees_names(person: Person, case: ReviewCase) -> None:
    if hides_name(case, person):
        raise NotAllowed(
            "exported files of this case name the patient", remedy="Ask somebody who may see patients' names"
        )


def _folder(here: Parts, case: ReviewCase) -> Path:
    return here.options.places.exports / str(case.id)


def _listed(folder: Path) -> list[ExportedFile]:
    listing = folder / _LISTING
    if not listing.is_file():
        return []
    return list(ExportedFiles.model_validate_json(listing.read_bytes()).files)


def _plain_file(folder: Path, name: str) -> bool:
    path = folder / name
    if "/" in name or "\\" in name or name in ("", ".", "..", _LISTING):
        return False
    return path.is_file() and not path.is_symlink() and not folder.is_symlink()
