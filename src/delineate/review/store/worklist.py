"""Queries of the worklist."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.orm import Session as Work

from delineate.errors import InputError
from delineate.review.records import Person, State, WorklistFilters, WorklistPage, WorklistQuery
from delineate.review.store.rows import cases_of, only_seen
from delineate.review.store.schema import CaseRow, StructureRow
from delineate.review.store.texts import checked_number, checked_text

LARGEST_PAGE = 500

ORDERS: dict[str, InstrumentedAttribute[str] | InstrumentedAttribute[float] | ColumnElement[str]] = {
    "priority": CaseRow.priority,
    "key": CaseRow.key,
    "pseudonym": CaseRow.pseudonym,
    "collection": CaseRow.collection,
    "model": CaseRow.model,
    "date": CaseRow.date,
    "site": CaseRow.site,
    "state": CaseRow.state,
    "reader": func.coalesce(CaseRow.reader, ""),
    "seconds": CaseRow.seconds,
}
"""What the worklist can be ordered by."""


def find_page(work: Work, query: WorklistQuery, person: Person) -> WorklistPage:
    """A page of what a person may see. `by_state` counts without the filter by states, as tabs show it.

    Raises `InputError` for an unknown order, a page of more than 500 cases, and texts that no database holds.
    """
    conditions = _conditions(query, person)
    chosen = only_seen(select(CaseRow).where(*conditions), person)
    counts = chosen.with_only_columns(CaseRow.state, func.count(), maintain_column_froms=True).group_by(CaseRow.state)
    by_state = {State(state): int(count) for state, count in work.execute(counts).all()}
    states = query.states or tuple(State)
    page = chosen.where(CaseRow.state.in_([state.value for state in states])) if query.states else chosen
    # Their numbers first: databases sort and skip narrow rows several times faster than whole ones.
    numbers = _sliced(_ordered(page.with_only_columns(CaseRow.id, maintain_column_froms=True), query.order), query)
    ids = list(work.scalars(numbers))
    of = {row.id: row for row in work.scalars(select(CaseRow).where(CaseRow.id.in_(ids)))}
    rows = [of[number] for number in ids]
    total = sum(by_state.get(state, 0) for state in set(states))
    return WorklistPage(cases_of(work, rows), total, tuple((state, by_state.get(state, 0)) for state in State))


def find_filters(work: Work, person: Person) -> WorklistFilters:
    """What occurs in the cases that a person may see."""
    seen = only_seen(select(CaseRow), person)

    def values(column: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]) -> set[str]:
        found = work.scalars(seen.with_only_columns(column, maintain_column_froms=True).distinct())
        return {value for value in found if value}

    names = select(StructureRow.name).distinct()
    if seen.whereclause is not None:
        names = names.where(StructureRow.case_id.in_(seen.with_only_columns(CaseRow.id, maintain_column_froms=True)))
    structures = work.scalars(names)
    readers = values(CaseRow.reader) | values(CaseRow.second_reader)
    others = (values(CaseRow.model), values(CaseRow.site), readers, values(CaseRow.collection))
    return WorklistFilters(tuple(sorted(set(structures))), *(tuple(sorted(found)) for found in others))


def _conditions(query: WorklistQuery, person: Person) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for column, wanted in ((CaseRow.model, query.model), (CaseRow.site, query.site)):
        if checked_text(wanted, "a filter", longest=1000):
            found.append(column == wanted)
    if checked_text(query.reader, "a filter", longest=1000):
        found.append(or_(CaseRow.reader == query.reader, CaseRow.second_reader == query.reader))
    if checked_text(query.structure, "a filter", longest=1000):
        found.append(CaseRow.id.in_(select(StructureRow.case_id).where(StructureRow.name == query.structure)))
    for word in checked_text(query.search, "a search", longest=200).casefold().split():
        # Who may not see the names of patients must not find out by searching either.
        places = [CaseRow.words, CaseRow.name_words] if person.sees_names else [CaseRow.words]
        found.append(or_(*(place.contains(word, autoescape=True) for place in places)))
    return found


def _ordered(chosen: Select[int], order: str) -> Select[int]:
    column = ORDERS.get(order.removeprefix("-"))
    if column is None:
        raise InputError("no such order of the worklist", expected=f"one of {sorted(ORDERS)}", got=order[:100])
    if order.startswith("-"):
        return chosen.order_by(column.desc(), CaseRow.key)
    return chosen.order_by(column, CaseRow.key)


def _sliced(chosen: Select[int], query: WorklistQuery) -> Select[int]:
    if not 0 <= query.limit <= LARGEST_PAGE:
        raise InputError("no such page of the worklist", expected=f"0 to {LARGEST_PAGE} cases", got=query.limit)
    return chosen.offset(checked_number(query.offset, "the offset")).limit(query.limit)
