"""The audit trail of the store: reading it, exporting it, and holding all that is stored against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import func, select

from delineate.review.records import Event, Person
from delineate.review.store.database import Database, event_of
from delineate.review.store.schema import EventRow
from delineate.review.store.texts import checked_number, checked_text
from delineate.review.store.trail import verify_export, write_export
from delineate.review.store.verifying import problems_of

_AT_ONCE = 1000


class AuditStore(Database):
    """Events are appended, never changed or removed."""

    def audit(
        self, person: Person | str, action: str, case: str = "", facts: Mapping[str, object] | None = None
    ) -> Event:
        """Append an event of what was done outside the store, such as an export.

        Raises `InputError` for texts that no database holds, `ValueError` for facts that are no JSON.
        """
        checked_text(action, "the action", longest=64, empty=False)
        with self.writing() as writing:
            return writing.note(person, action, checked_text(case, "the case's key"), facts or {})

    def events(self, after: int = 0, limit: int = _AT_ONCE, *, case: str | None = None) -> tuple[Event, ...]:
        """Events with numbers above `after`, in order, at most `limit`; of one case if its key is given."""
        wanted = select(EventRow).where(EventRow.number > checked_number(after, "the event's number"))
        if case is not None:
            wanted = wanted.where(EventRow.case == checked_text(case, "the case's key"))
        wanted = wanted.order_by(EventRow.number).limit(checked_number(limit, "the limit"))
        with self.reading() as work:
            return tuple(event_of(row) for row in work.scalars(wanted))

    def count_events(self) -> int:
        """How many events there are."""
        with self.reading() as work:
            return int(work.scalar(select(func.count()).select_from(EventRow)) or 0)

    def verify(self) -> tuple[str, ...]:
        """What is wrong with the audit trail, or with what is stored against it, a sentence each; none if all is whole.

        Reads everything once. What it can and cannot find: docs/decisions/0013.
        """
        noted = None if self._witness is None else self._witness.read()
        with self.reading() as work:
            problems = list(problems_of(work, noted))
        if self._witness is not None and noted is None and self.count_events():
            name = self._witness.path.name
            problems.append(
                f"Nothing beside the database tells how far the trail reached: {name} is missing or damaged."
            )
        return tuple(problems)

    def export(self, path: Path) -> int:
        """Write the whole trail as JSON lines; the number of events. `verify_export` checks it, without the store."""
        return write_export(path, self._all_events())

    @staticmethod
    def verify_export(path: Path) -> tuple[str, ...]:
        """What is wrong with an exported trail; see `trail.verify_export`."""
        return verify_export(path)

    def _all_events(self) -> Iterator[Event]:
        wanted = select(EventRow).order_by(EventRow.number).execution_options(yield_per=_AT_ONCE)
        with self.reading() as work:
            for row in work.scalars(wanted):
                yield event_of(row)
