"""Edits of the store: every change of a case's labels, for ever, in order; and snapshots, which make opening fast."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError
from delineate.review.records import DamagedStore, EditRecord, NotAllowed, Person, Snapshot, StaleRevision, State
from delineate.review.store.database import Database
from delineate.review.store.history import History, history_of
from delineate.review.store.people import check_may_review
from delineate.review.store.rows import note, row_of
from delineate.review.store.schema import CaseRow, EditRow, SnapshotRow, column_values
from delineate.review.store.states import Act, next_state
from delineate.review.store.texts import checked_number, checked_text
from delineate.review.store.trail import content_digest

LARGEST_EDIT = 256 << 20
_AT_ONCE = 20
_CONTENT = ("revision", "person", "tool", "parameters", "layer", "undoes", "made", "digest")


class EditStore(Database):
    """Edits are added, never changed or removed."""

    def add_edit(
        self,
        case_id: int,
        person: Person,
        *,
        base_revision: int,
        layer: int,
        tool: str,
        parameters: str,
        packed: bytes,
        undoes: int | None = None,
    ) -> EditRecord:
        """Store a change that was made of `base_revision`; it is on the disk when this returns.

        `undoes`: the target of an undo or redo that it is. Raises `StaleRevision` if the case is at another revision,
        `NotAllowed` for a person who may not correct it, `InputError` for a decided case and a wrong `undoes`.
        """
        _check_edit(tool, parameters, packed, layer)
        with self.writing() as writing:
            row = row_of(writing.work, case_id)
            check_may_review(writing.work, person, row)
            check_fresh(row, base_revision)
            _move(row, person)
            if undoes is not None:
                history_of([*_history(writing.work, case_id), (row.revision + 1, undoes)])
            row.revision += 1
            edit = EditRow(
                case_id=case_id,
                revision=row.revision,
                person=person.name,
                tool=tool,
                parameters=parameters,
                layer=layer,
                undoes=undoes,
                made=writing.now,
                digest=hashlib.sha256(packed).hexdigest(),
                packed=packed,
            )
            writing.work.add(edit)
            note(writing, person, "edited", row, **_facts(edit), content=edit_content(edit))
            return _record(edit)

    def revision(self, case_id: int) -> int:
        """The revision that a case is at. Raises `InputError` if there is no such case."""
        with self.reading() as work:
            return row_of(work, case_id).revision

    def edits(
        self, case_id: int, after: int = 0, until: int | None = None, *, most_bytes: int | None = None
    ) -> tuple[EditRecord, ...]:
        """Edits with revisions above `after`, up to `until`, in order.

        `most_bytes`: the first of them whose runs take no more together; one at least. Raises `DamagedStore` for one
        that was changed behind the store's back, or is missing between others.
        """
        wanted = select(EditRow).where(EditRow.case_id == case_id, EditRow.revision > checked_number(after, "revision"))
        if until is not None:
            wanted = wanted.where(EditRow.revision <= checked_number(until, "the revision"))
        with self.reading() as work:
            rows = work.scalars(wanted.order_by(EditRow.revision).execution_options(yield_per=_AT_ONCE))
            found = list(_first_bytes(map(_record, rows), most_bytes))
        for number, edit in enumerate(found, after + 1):
            if edit.revision != number or hashlib.sha256(edit.packed).hexdigest() != edit.digest:
                raise DamagedStore(
                    f"edit {number} of case number {case_id} is not what was stored",
                    remedy="Run `delineate review-audit verify`, and restore the database from a backup.",
                )
        return tuple(found)

    def editors(self, case_id: int, revision: int | None = None) -> tuple[str, ...]:
        """Who made an edit that stands now, or stood at a revision, by name."""
        wanted = select(EditRow.revision, EditRow.person, EditRow.undoes).where(EditRow.case_id == case_id)
        if revision is not None:
            wanted = wanted.where(EditRow.revision <= revision)
        with self.reading() as work:
            found = work.execute(wanted.order_by(EditRow.revision)).all()
        people = {number: person for number, person, _ in found}
        history = history_of((number, undoes) for number, _, undoes in found)
        return tuple(sorted({people[revision] for revision in history.standing}))

    def history(self, case_id: int) -> History:
        """Which edits of a case stand, and what can be undone and redone."""
        with self.reading() as work:
            return history_of(_history(work, case_id))

    def undo_target(self, case_id: int) -> int | None:
        """The revision that the next undo takes back; None if there is nothing to undo."""
        return self.history(case_id).undo_target

    def redo_target(self, case_id: int) -> int | None:
        """The revision of the undo that the next redo takes back; None if there is nothing to redo."""
        return self.history(case_id).redo_target

    def save_snapshot(self, case_id: int, revision: int, packed_layers: bytes) -> None:
        """Keep what all layers are at a revision; nothing happens if that is kept already.

        Raises `InputError` for a revision that the case has not reached.
        """
        with self.writing() as writing:
            row = row_of(writing.work, case_id)
            if not 0 < revision <= row.revision:
                raise InputError("no such revision", expected=f"1 to {row.revision}", got=revision, case=row.key)
            if writing.work.get(SnapshotRow, (case_id, revision)) is not None:
                return
            digest = hashlib.sha256(packed_layers).hexdigest()
            writing.work.add(SnapshotRow(case_id=case_id, revision=revision, digest=digest, packed=packed_layers))
            writing.note("", "snapshot", row.key, {"revision": revision, "digest": digest})

    def nearest_snapshot(self, case_id: int, revision: int) -> Snapshot | None:
        """The last snapshot at or before a revision; None if there is none. Raises `DamagedStore` if it was changed."""
        wanted = select(SnapshotRow).where(SnapshotRow.case_id == case_id, SnapshotRow.revision <= revision)
        with self.reading() as work:
            row = work.scalar(wanted.order_by(SnapshotRow.revision.desc()).limit(1))
            if row is None:
                return None
            found = Snapshot(row.case_id, row.revision, row.packed, row.digest)
        if hashlib.sha256(found.packed).hexdigest() != found.digest:
            raise DamagedStore(f"the snapshot of case number {case_id} at revision {found.revision} was changed")
        return found


def check_fresh(row: CaseRow, revision: int) -> None:
    """Raises `StaleRevision` unless the case is at that revision."""
    if row.revision != revision:
        raise StaleRevision(
            "the case was changed meanwhile",
            revision=row.revision,
            expected=f"revision {row.revision}",
            got=f"revision {revision}",
            case=row.key,
            remedy="Load the new revision, and go on from there.",
        )


def edit_content(row: EditRow) -> str:
    """The digest of all of an edit that the audit trail holds; of the runs themselves their digest is part."""
    return content_digest(column_values(row, *_CONTENT))


def is_edited(work: Work, case_id: int) -> bool:
    """Whether an edit of a case stands."""
    return bool(history_of(_history(work, case_id)).standing)


def _history(work: Work, case_id: int) -> list[tuple[int, int | None]]:
    wanted = select(EditRow.revision, EditRow.undoes).where(EditRow.case_id == case_id).order_by(EditRow.revision)
    return [(revision, undoes) for revision, undoes in work.execute(wanted).all()]


def _move(row: CaseRow, person: Person) -> None:
    state = State(row.state)
    if state is State.AWAITING_SECOND and row.reader == person.name:
        remedy = "Reopen it to go on correcting."
        raise NotAllowed("the case waits for its second reader", case=row.key, remedy=remedy)
    row.state = next_state(state, Act.EDIT).value
    row.reader = row.reader or person.name


def _check_edit(tool: str, parameters: str, packed: bytes, layer: int) -> None:
    checked_text(tool, "the tool's name", longest=64, empty=False)
    checked_text(parameters, "the tool's parameters", longest=1_000_000)
    checked_number(layer, "the layer")
    if len(packed) > LARGEST_EDIT:
        raise InputError("the edit is too large", expected=f"up to {LARGEST_EDIT} bytes", got=len(packed))


def _facts(row: EditRow) -> dict[str, object]:
    return column_values(row, "revision", "tool", "layer", "undoes", "digest")


def _first_bytes(edits: Iterable[EditRecord], most_bytes: int | None) -> Iterator[EditRecord]:
    taken = 0
    for edit in edits:
        if most_bytes is not None and 0 < taken > most_bytes - len(edit.packed):
            return
        taken += len(edit.packed)
        yield edit


def _record(row: EditRow) -> EditRecord:
    return EditRecord(
        case=row.case_id,
        revision=row.revision,
        person=row.person,
        tool=row.tool,
        parameters=row.parameters,
        packed=row.packed,
        digest=row.digest,
        made=row.made,
        undoes=row.undoes,
        layer=row.layer,
    )
