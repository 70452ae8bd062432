"""Tables for the terminal: the choices of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.planning import Choice
from delineate.reports.tables import printable

if TYPE_CHECKING:
    from rich.table import Table


def choices_table(choices: Sequence[Choice], *, title: str = "") -> Table:
    """A row a choice: what and which; why, and below it what would change it. Reads well on 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=printable(title) or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Choice", style="bold", max_width=14)
    table.add_column("Value", max_width=24)
    table.add_column("Why, and what would change it")
    for choice in choices:
        why = Text(printable(choice.why))
        why.append(f"\n{printable(choice.change)}", style="dim cyan")
        table.add_row(Text(printable(choice.what)), Text(printable(choice.value)), why)
    return table
