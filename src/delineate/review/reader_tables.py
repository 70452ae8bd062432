"""The dashboard as tables for a terminal of 80 columns; quartiles and escalations are in its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from delineate.reports.tables import plain_table, plain_text
from delineate.review.readers import Dashboard, Group, Share, Spread

if TYPE_CHECKING:
    from rich.table import Table

_NOTHING = "–"
_UNNAMED = "not known"
_WIDTH = 60  # or a short table breaks its title
_HEADS = ("", "cases", "unedited", "95 %", "s/case", "edits", "Dice", "readers")
_CAPTION = (
    "unedited: accepted as the model made it. s/case, edits, Dice: medians; Dice of the model against what was "
    "accepted; readers: of the first against the second"
)


def reader_tables(board: Dashboard) -> Iterator[Table]:
    """All, models, sites, readers and structures; then pairs of readers and reasons of rejections, if there are any."""
    table = _headed("Decided cases", _HEADS, caption=_CAPTION)
    table.add_row(*map(plain_text, _row("all", board.total)))
    for head, groups in (
        ("by model", board.models),
        ("by site", board.sites),
        ("by reader", board.readers),
        ("by structure", board.structures),
    ):
        table.add_section()
        table.add_row(plain_text(head, "bold"))
        for group in groups:
            table.add_row(*map(plain_text, _row(f" {group.name or _UNNAMED}", group)))
    yield table
    if board.pairs:
        rows = [(pair.first, pair.second, str(pair.cases), median_text(pair.dice, digits=3)) for pair in board.pairs]
        yield _table("Cases that two people read", ("first", "second", "cases", "Dice"), rows)
    if board.total.reasons:
        rows_of_reasons = [(reason.reason, str(reason.count)) for reason in board.total.reasons]
        yield _table("Why something was rejected", ("reason", "times"), rows_of_reasons)


def share_texts(share: Share) -> tuple[str, str]:
    """Such as "8/10" and "49–94 %"; dashes out of none."""
    if share.lower is None or share.upper is None:
        return _NOTHING, _NOTHING
    return f"{share.count}/{share.of}", f"{100 * share.lower:.0f}–{100 * share.upper:.0f} %"


def median_text(spread: Spread, *, digits: int) -> str:
    """The median; a dash of none."""
    return _NOTHING if spread.median is None else f"{spread.median:.{digits}f}"


def _row(head: str, group: Group) -> tuple[str, ...]:
    return (
        head,
        str(group.cases),
        *share_texts(group.unedited),
        median_text(group.seconds, digits=0),
        median_text(group.edits, digits=0),
        median_text(group.dice, digits=3),
        median_text(group.between, digits=3),
    )


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = _headed(title, heads)
    for row in rows:
        table.add_row(*map(plain_text, row))
    return table


def _headed(title: str, heads: Sequence[str], *, caption: str | None = None) -> Table:
    table = plain_table(title, caption)
    table.min_width = _WIDTH
    table.collapse_padding, table.pad_edge = True, False  # names of structures are long
    for n, head in enumerate(heads):
        table.add_column(head, justify="left" if n == 0 else "right", overflow="fold", no_wrap=n > 0)
    return table
