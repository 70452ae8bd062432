"""The table of cases that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.evaluation.leakage import TIES, Leak
from delineate.reports.tables import plain_table, plain_text, printable, show_number

if TYPE_CHECKING:
    from rich.table import Table


def leaks_table(leaks: Sequence[Leak], *, heads: tuple[str, str] = ("test", "training"), title: str) -> Table:
    """A line a pair, with what ties them; `heads`: of the columns of `Leak.test` and `Leak.training`."""
    table = plain_table(title, caption="Likeness: of images, 1 for copies")
    for head in (*heads, "have in common"):
        table.add_column(head, overflow="fold")
    table.add_column("likeness", justify="right", no_wrap=True)
    for leak in leaks:
        ties = ", ".join(TIES[tie] for tie in leak.ties) + (", mirrored" if leak.flipped else "")
        names = (plain_text(printable(name)) for name in (leak.test, leak.training))
        table.add_row(*names, plain_text(ties), show_number(leak.correlation, 3))
    return table
