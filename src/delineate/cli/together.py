"""What commands share that several processes carry out together: on this machine, or on several under torchrun."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from delineate.cli.options import STOPPED, open_watch, warn

if TYPE_CHECKING:
    from delineate.workflow.company import Company

Made = TypeVar("Made")

processes_option = click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="That train together on this machine: one a GPU, or sharing the CPU threads. For several machines: torchrun.",
)


def divide_work(processes: int) -> None:
    """Let several processes run this very command, and end with them; nothing, if this is one of them, or one does."""
    from delineate.settings import launched

    if processes == 1 or launched() is not None:
        return
    from delineate.executors.companions import run_companions

    words = [sys.executable, "-m", "delineate", *sys.argv[1:]]
    sys.exit(run_companions(words, processes, say=warn))


@contextmanager
def open_company(device: str) -> Iterator[tuple[Any, Company]]:
    """A watch, which shows in one process how far all are, and the processes that work together."""
    from delineate.settings import launched
    from delineate.workflow.company import company
    from delineate.workflow.progress import nobody

    launch = launched()
    shown: Any = open_watch() if launch is None or launch.rank == 0 else nullcontext(nobody)
    with shown as watch, company(device) as together:
        yield watch, together


def finished(together: Company, made: Made | None) -> Made:
    """What was made, for the process that speaks for all; the others end here. So does it if the work was stopped."""
    if made is None and together.leads:
        click.echo("Stopped. Run the same command to go on.")
    if made is None:
        sys.exit(STOPPED)
    if not together.leads:
        sys.exit(0)
    return made
