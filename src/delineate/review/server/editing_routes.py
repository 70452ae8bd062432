"""Correcting: edits, undo and redo, and who is at a case."""

from __future__ import annotations

import base64
import json
from typing import Annotated

from fastapi import Query

from delineate.editing.runs import EditConflict
from delineate.errors import InputError
from delineate.review.records import EditRecord, ReviewCase, Role, StaleRevision
from delineate.review.server.parts import Asked, Here, Parts, Visitor
from delineate.review.server.showing import edit_answer, present, runs_from_text
from delineate.review.server.wire import MOST, Base, Beat, EditAdded, EditResult, Edits, NewEdit, Presence

_LONGEST_PARAMETERS = 20_000
_MOST_EDITS = 1000


def add_edit(here: Here, person: Visitor, case: Asked, body: NewEdit) -> EditAdded:
    """Store a change upon the head. 409 with the head's revision if another was made meanwhile: nothing is lost."""
    voxels = voxels_of(here, case)
    runs = runs_from_text(body.runs, voxels)
    try:
        edit = here.live.edit(
            case,
            person,
            base_revision=body.base_revision,
            layer=body.layer,
            runs=runs,
            tool=body.tool,
            parameters=parameters_text(body.parameters),
        )
    except EditConflict as error:
        raise stale(here, case, error) from error
    return EditAdded(revision=edit.revision, digest=edit.digest)


def edits(here: Here, person: Visitor, case: Asked, after: Annotated[int, Query(ge=0, le=MOST)] = 0) -> Edits:
    """The edits after a revision, at most a thousand at a time, and fewer where they are large; `more` says so."""
    most = here.options.slab_bytes
    found = here.store.edits(case.id, after, min(after + _MOST_EDITS, MOST), most_bytes=most)
    last = found[-1].revision if found else after
    return Edits(edits=[edit_answer(edit) for edit in found], more=bool(found) and last < here.store.revision(case.id))


def undo(here: Here, person: Visitor, case: Asked, body: Base) -> EditResult:
    """Take back the last change that stands, whoever made it."""
    return edit_result(here, here.live.undo(case, person, body.base_revision))


def redo(here: Here, person: Visitor, case: Asked, body: Base) -> EditResult:
    """Make again what was taken back last."""
    return edit_result(here, here.live.redo(case, person, body.base_revision))


def beat(here: Here, person: Visitor, case: Asked, body: Beat) -> Presence:
    """Say that one looks at a case; who else does, and at which revision it is."""
    here.store.beat(case, person, 0.0 if person.role is Role.VIEWER else body.seconds)
    return Presence(present=present(here.store.presence(case)), revision=case.revision)


def leave(here: Here, person: Visitor, case: Asked) -> None:
    """Say that one has gone from a case."""
    here.store.leave(case, person)


def edit_result(here: Parts, edit: EditRecord) -> EditResult:
    """A stored change as the page puts it into its own labels."""
    return EditResult(
        revision=edit.revision,
        layer=edit.layer,
        runs=base64.b64encode(edit.packed).decode(),
        can_undo=here.store.undo_target(edit.case) is not None,
        can_redo=here.store.redo_target(edit.case) is not None,
    )


def parameters_text(parameters: dict[str, object]) -> str:
    """Parameters as they are stored. Raises `InputError` for more than a tool has, and for numbers that are none."""
    try:
        text = json.dumps(parameters, sort_keys=True, separators=(",", ":"), allow_nan=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise InputError("the parameters of a tool cannot be stored", got=type(error).__name__) from error
    if len(text) > _LONGEST_PARAMETERS:
        raise InputError("the parameters of a tool are too long", expected=f"up to {_LONGEST_PARAMETERS} characters")
    return text


def voxels_of(here: Parts, case: ReviewCase) -> int:
    """How many voxels a layer of a case has."""
    size_i, size_j, size_k = here.volumes.about(case).grid.shape
    return int(size_i * size_j * size_k)


def stale(here: Parts, case: ReviewCase, error: EditConflict) -> StaleRevision:
    """A change whose old values are not those of the head, told as one upon a stale revision."""
    head = here.store.case_by_id(case.id).revision
    return StaleRevision(error.problem, revision=head, remedy=error.remedy)
