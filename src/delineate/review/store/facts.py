"""What happened to many cases at once, for the dashboard: a query a question, not one a case."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from sqlalchemy import select

from delineate.review.records import Decision
from delineate.review.store.database import Database
from delineate.review.store.decisions import decision_of
from delineate.review.store.history import history_of
from delineate.review.store.schema import DecisionRow, EditRow

_AT_ONCE = 500  # numbers in a query; SQLite takes no more than 999 in its older versions


class FactStore(Database):
    """Reads across cases. Who may see them is for the caller to ask."""

    def decisions_of(self, case_ids: Collection[int]) -> dict[int, tuple[Decision, ...]]:
        """The decisions of each case in the order in which they were made; cases without any are left out."""
        found: dict[int, list[Decision]] = {}
        with self.reading() as work:
            for some in _parts(sorted(case_ids)):
                wanted = select(DecisionRow).where(DecisionRow.case_id.in_(some)).order_by(DecisionRow.id)
                for row in work.scalars(wanted):
                    found.setdefault(row.case_id, []).append(decision_of(row))
        return {case_id: tuple(decisions) for case_id, decisions in found.items()}

    def standing_edits_of(self, case_ids: Collection[int]) -> dict[int, int]:
        """How many edits of each case stand, without those taken back; 0 for a case without."""
        counts = dict.fromkeys(case_ids, 0)
        with self.reading() as work:
            for some in _parts(sorted(case_ids)):
                wanted = select(EditRow.case_id, EditRow.revision, EditRow.undoes).where(EditRow.case_id.in_(some))
                rows = work.execute(wanted.order_by(EditRow.case_id, EditRow.revision)).all()
                for case_id, edits in groupby(rows, key=lambda row: row[0]):
                    counts[case_id] = len(history_of((edit[1], edit[2]) for edit in edits).standing)
        return counts


def _parts(case_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(case_ids), _AT_ONCE):
        yield case_ids[start : start + _AT_ONCE]
