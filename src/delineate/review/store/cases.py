"""Cases of the store: the worklist, who has a case, and who is there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from delineate.errors import InputError
from delineate.review.records import (
    NewCase,
    NotAllowed,
    Person,
    ReviewCase,
    Role,
    State,
    WorklistFilters,
    WorklistPage,
    WorklistQuery,
)
from delineate.review.store.database import Database, Writing
from delineate.review.store.people import as_person, check_may_review, may_review, person_row
from delineate.review.store.rows import (
    case_content,
    case_row,
    cases_of,
    note,
    only_seen,
    row_of,
    sees,
    structure_rows,
)
from delineate.review.store.schema import CaseRow, DecisionRow, PresenceRow, StructureRow
from delineate.review.store.states import Act, next_state
from delineate.review.store.texts import is_text
from delineate.review.store.worklist import find_filters, find_page

PRESENT_SECONDS = 45.0
_LONGEST_BEAT = 60.0


class CaseStore(Database):
    """The worklist. Who asks for a case by key or number has to ask `may_see` as well."""

    def add_cases(self, cases: Sequence[NewCase], *, by: Person | str = "") -> tuple[str, ...]:
        """Take cases into the worklist, all or none; the keys that were new or replaced.

        A known key with the same segmentation stays as it is. With another one it is replaced if nobody has looked at
        it yet. Raises `InputError` if somebody has, and for a key that occurs twice.
        """
        keys = [new.key for new in cases]
        if len(set(keys)) < len(keys):
            raise InputError("keys of cases occur twice", got=sorted({key for key in keys if keys.count(key) > 1})[:5])
        with self.writing() as writing:
            known = {row.key: row for row in _rows_of_keys(writing, keys)}
            changed = [new for new in cases if not (new.key in known and known[new.key].digest == new.digest)]
            replaced = {new.key for new in changed if new.key in known}
            for key in replaced:
                _remove(writing, known[key])
            _add(writing, changed, by, replaced)
        return tuple(new.key for new in changed)

    def case(self, key: str) -> ReviewCase | None:
        """The case of that key; None if there is none."""
        if not is_text(key):
            return None
        with self.reading() as work:
            found = cases_of(work, list(work.scalars(select(CaseRow).where(CaseRow.key == key))))
        return found[0] if found else None

    def case_by_id(self, case_id: int) -> ReviewCase:
        """The case of that number. Raises `InputError` if there is none."""
        with self.reading() as work:
            return cases_of(work, [row_of(work, case_id)])[0]

    def cases(self, person: Person | None = None) -> tuple[ReviewCase, ...]:
        """All cases by key, or all that a person may see."""
        wanted = select(CaseRow).order_by(CaseRow.key)
        with self.reading() as work:
            rows = work.scalars(wanted if person is None else only_seen(wanted, person))
            return cases_of(work, list(rows))

    def worklist(self, query: WorklistQuery, person: Person) -> WorklistPage:
        """A page of the cases that a person may see; see `worklist.find_page`."""
        with self.reading() as work:
            return find_page(work, query, person)

    def filters(self, person: Person) -> WorklistFilters:
        """What the worklist of a person can be filtered by."""
        with self.reading() as work:
            return find_filters(work, person)

    def may_see(self, person: Person, case: ReviewCase) -> bool:
        """Whether a person may see a case: administrators all, others those of their collections."""
        return sees(person, case.new.collection)

    def take(self, case: ReviewCase, person: Person) -> ReviewCase:
        """The case, now with this reader if it had none and is open. Who has it already keeps it; see `presence`.

        Raises `NotAllowed` for a person who may not review it.
        """
        with self.writing() as writing:
            row = row_of(writing.work, case.id)
            check_may_review(writing.work, person, row)
            if row.reader is None and State(row.state) in (State.UNREVIEWED, State.IN_REVIEW, State.ESCALATED):
                row.reader = person.name
                row.state = next_state(State(row.state), Act.TAKE).value
                note(writing, person, "taken", row)
            return cases_of(writing.work, [row])[0]

    def give_back(self, case: ReviewCase, person: Person) -> ReviewCase:
        """The case without its reader, for others to take. Raises `NotAllowed` unless they have it, or administer."""
        with self.writing() as writing:
            row = row_of(writing.work, case.id)
            if person.role is not Role.ADMIN and row.reader != person.name:
                raise NotAllowed("somebody else has the case", case=row.key, got=row.reader or "nobody")
            row.state = next_state(State(row.state), Act.GIVE_BACK, edited=row.revision > 0).value
            row.reader = None
            gone = (PresenceRow.case_id == row.id) & (PresenceRow.person == person.name)
            writing.work.execute(delete(PresenceRow).where(gone))
            note(writing, person, "given_back", row, seconds=row.seconds)
            return cases_of(writing.work, [row])[0]

    def assign_second(self, case: ReviewCase, name: str, *, by: Person | str = "") -> ReviewCase:
        """The case with a second reader, who must confirm its approval.

        Raises `InputError` for the first reader, for somebody who may not review the case, and for a rejected case.
        """
        with self.writing() as writing:
            row = row_of(writing.work, case.id)
            found = person_row(writing.work, name) if is_text(name) else None
            person = None if found is None else as_person(found)
            if isinstance(by, Person):
                check_may_review(writing.work, by, row)
            if person is None or not may_review(person) or not sees(person, row.collection):
                raise InputError("no reviewer of this case", got=name, case=row.key)
            if name == row.reader:
                raise InputError("the second reader must be another person than the first", got=name, case=row.key)
            row.state = next_state(State(row.state), Act.ASK_SECOND).value
            row.second_reader = name
            note(writing, by, "second_reader", row)
            return cases_of(writing.work, [row])[0]

    def beat(self, case: ReviewCase, person: Person, seconds: float) -> None:
        """Say that somebody is at a case, and spent so many seconds on it since the last time (at most 60 count)."""
        spent = min(max(seconds, 0.0), _LONGEST_BEAT) if seconds == seconds else 0.0
        with self.touching() as writing:
            # The case first: it is locked by that, and two beats of one person cannot collide.
            row = writing.work.scalars(select(CaseRow).where(CaseRow.id == case.id).with_for_update()).one()
            if may_review(person):
                row.seconds = row.seconds + spent
            there = writing.work.get(PresenceRow, (case.id, person.name))
            if there is None:
                writing.work.add(PresenceRow(case_id=case.id, person=person.name, last_seen=writing.now))
            else:
                there.last_seen = writing.now

    def leave(self, case: ReviewCase, person: Person) -> None:
        """Say that somebody has gone from a case, which they may still have."""
        gone = (PresenceRow.case_id == case.id) & (PresenceRow.person == person.name)
        with self.touching() as writing:
            writing.work.execute(delete(PresenceRow).where(gone))

    def presence(self, case: ReviewCase) -> tuple[tuple[str, datetime], ...]:
        """Who was at a case within the last 45 seconds, and when last, by name."""
        since = datetime.now().astimezone() - timedelta(seconds=PRESENT_SECONDS)
        wanted = select(PresenceRow).where(PresenceRow.case_id == case.id, PresenceRow.last_seen >= since)
        with self.reading() as work:
            return tuple((row.person, row.last_seen) for row in work.scalars(wanted.order_by(PresenceRow.person)))

    def count_cases(self) -> int:
        """How many cases there are."""
        with self.reading() as work:
            return int(work.scalar(select(func.count()).select_from(CaseRow)) or 0)


def _rows_of_keys(writing: Writing, keys: list[str]) -> list[CaseRow]:
    found: list[CaseRow] = []
    plain = [key for key in keys if is_text(key)]
    for start in range(0, len(plain), 1000):
        found += writing.work.scalars(select(CaseRow).where(CaseRow.key.in_(plain[start : start + 1000])))
    return found


def _remove(writing: Writing, row: CaseRow) -> None:
    decided = select(DecisionRow.id).where(DecisionRow.case_id == row.id).limit(1)
    if row.state != State.UNREVIEWED.value or row.revision > 0 or writing.work.scalar(decided) is not None:
        raise InputError(
            "the segmentation of a case that is reviewed has changed",
            case=row.key,
            expected=f"digest {row.digest[:12]}",
            remedy="Give the new result another name, so that both can be looked at.",
        )
    for table in (StructureRow, PresenceRow):
        writing.work.execute(delete(table).where(table.case_id == row.id))
    writing.work.delete(row)
    writing.work.flush()


def _add(writing: Writing, cases: Sequence[NewCase], by: Person | str, replaced: set[str]) -> None:
    rows = [case_row(new) for new in cases]
    writing.work.add_all(rows)
    writing.work.flush()  # all at once: that gives them their numbers
    structures = [structure_rows(row.id, new.structures) for row, new in zip(rows, cases, strict=True)]
    writing.work.add_all([part for parts in structures for part in parts])
    for new, row, parts in zip(cases, rows, structures, strict=True):
        action = "case_replaced" if new.key in replaced else "case_added"
        facts = {"digest": new.digest, "model": new.model_digest or new.model}
        note(writing, by, action, row, **facts, content=case_content(row, parts))
