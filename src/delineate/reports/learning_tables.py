"""What a run learns from other models, as tables for the terminal. They are returned; the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from delineate.reports.tables import plain_table, plain_text, show_number
from delineate.training.transfer import Row, TransferRecord

if TYPE_CHECKING:
    from rich.table import Table


class Price(Protocol):
    """One structure's mean Dice of both, their difference and its 95 % interval; NaN: none."""

    @property
    def structure(self) -> str: ...
    @property
    def cases(self) -> int: ...
    @property
    def teacher(self) -> float: ...
    @property
    def student(self) -> float: ...
    @property
    def difference(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...


_ANEW = "starts anew"
_WIDTH = 72  # or a short table breaks its title and caption


def transfer_table(record: TransferRecord) -> Table:
    """What a run begins with: each structure and channel, and where its weights come from."""
    share = 100 * record.taken_weights / max(1, record.weights)
    table = plain_table(
        f"Begins with the weights of {record.source[:12]} ({record.dataset})",
        f"{share:.1f} % of {record.weights:,} weights: {len(record.taken)} tensors taken, "
        f"{len(record.adapted)} adapted, {len(record.fresh)} anew",
    )
    table.min_width = _WIDTH
    table.add_column("what", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("weights from", overflow="fold")
    _add(table, "structure", record.outputs)
    table.add_section()
    _add(table, "channel", record.inputs)
    if record.notes:
        table.add_section()
        for note in record.notes:
            table.add_row("note", plain_text(note), "")
    return table


def _add(table: Table, what: str, rows: Sequence[Row]) -> None:
    for row in rows:
        names = ", ".join(row.taken_from)
        told = f"the mean of {names}" if len(row.taken_from) > 1 else names
        table.add_row(what, plain_text(row.name), plain_text(told or _ANEW, "" if told else "yellow"))


def price_table(rows: Sequence[Price], *, caption: str | None = None) -> Table:
    """What a student costs: Dice beside its teacher's, and the difference with its interval."""
    table = plain_table("Teacher and student", caption)
    table.min_width = _WIDTH
    table.add_column("structure", overflow="fold")
    for column in ("cases", "teacher", "student", "difference", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        known = not math.isnan(row.interval[0])
        interval = f"{row.interval[0]:+.3f} to {row.interval[1]:+.3f}" if known else "-"
        figures = (show_number(row.teacher, 3), show_number(row.student, 3), f"{row.difference:+.3f}", interval)
        if len(rows) > 1 and row is rows[-1]:
            table.add_section()
        table.add_row(plain_text(row.structure), str(row.cases), *figures)
    return table


class PromptedRow(Protocol):
    """One structure's mean Dice over cases after each of some numbers of prompts."""

    @property
    def structure(self) -> str: ...
    @property
    def cases(self) -> int: ...
    @property
    def dice(self) -> tuple[float, ...]: ...


def prompting_table(prompts: Sequence[int], rows: Sequence[PromptedRow], *, seconds: float | None) -> Table:
    """How well a network does what it is pointed at, after each number of prompts."""
    caption = None if seconds is None else f"{seconds:.2f} s a proposal; cases it has not learnt from, simulated clicks"
    table = plain_table("Mean Dice after so many clicks", caption)
    table.min_width = _WIDTH
    table.add_column("structure", overflow="fold")
    table.add_column("cases", justify="right")
    for count in prompts:
        table.add_column(str(count), justify="right")
    for row in rows:
        table.add_row(plain_text(row.structure), str(row.cases), *(show_number(dice, 3) for dice in row.dice))
    return table
