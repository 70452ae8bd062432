"""Decisions, the second reader, and what is handed on afterwards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastapi import Response
from fastapi.responses import FileResponse
from pydantic import TypeAdapter

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
    Wire,
)

_LISTING = "exported.json"


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
        _list(folder, files, exports.standing_approval(what.case, what.decisions))
    digests = {file.name: fingerprint_file(file.path) for file in made}
    facts = {"files": digests, "revision": what.case.revision, "seen": what.seen}
    here.store.audit(person, "exported", case.new.key, facts)
    return ExportedFiles(files=files)


def exported(here: Here, person: Visitor, case: Asked) -> ExportedFiles:
    """What was exported of a case as it is approved now, and is still there."""
    return ExportedFiles(files=[one.file for one in _listed(_folder(here, case)) if _is_handed_out(here, case, one)])


def exported_file(here: Here, person: Visitor, case: Asked, name: str) -> Response:
    """An exported file; names that are not on the case's own list do not exist, whatever they point to.

    403 for what was exported before the case was opened again: it is no longer what is approved.
    """
    _check_sees_names(person, case)
    folder = _folder(here, case)
    found = next((one for one in _listed(folder) if one.file.name == name), None)
    if found is None or not _plain_file(folder, name):
        raise NotFound("there is no such exported file")
    if not _is_handed_out(here, case, found):
        raise NotAllowed(
            "the case was opened again after this file was exported", remedy="Approve what is there, and export again"
        )
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


class _Listed(Wire):
    """`approval`: that which the case had when the file was exported, see `exports.standing_approval`."""

    file: ExportedFile
    approval: str | None


_LISTINGS = TypeAdapter(list[_Listed])


def _listed(folder: Path) -> list[_Listed]:
    listing = folder / _LISTING
    return _LISTINGS.validate_json(listing.read_bytes()) if listing.is_file() else []


def _list(folder: Path, files: Iterable[ExportedFile], approval: str | None) -> None:
    known = {one.file.name: one for one in _listed(folder)}
    known |= {file.name: _Listed(file=file, approval=approval) for file in files}
    write_bytes(folder / _LISTING, _LISTINGS.dump_json(list(known.values())))


def _is_handed_out(here: Parts, case: ReviewCase, listed: _Listed) -> bool:
    standing = exports.standing_approval(case, here.store.decisions(case.id))
    return standing is not None and standing == listed.approval and _plain_file(_folder(here, case), listed.file.name)


def _plain_file(folder: Path, name: str) -> bool:
    path = folder / name
    if "/" in name or "\\" in name or name in ("", ".", "..", _LISTING):
        return False
    return path.is_file() and not path.is_symlink() and not folder.is_symlink()
