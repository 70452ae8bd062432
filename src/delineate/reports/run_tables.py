"""What happened in a run, for the terminal: where its time went, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.reports.tables import plain_table
from delineate.training import STEP_PARTS, Incident, Profile

if TYPE_CHECKING:
    from rich.table import Table

WAITING_AIM = 0.05  # of a step: less is hardly worth anybody's time
_MOST_STEPS = 12


def profile_table(profile: Profile) -> Table:
    """A line a part of a step, and below it a line for each thing that lies between steps."""
    total = sum(profile.seconds.values()) or 1.0
    steps = max(1, profile.steps)
    waiting = 100 * profile.waiting_share
    judgement = "" if profile.waiting_share < WAITING_AIM else f" (aim: under {100 * WAITING_AIM:.0f} %)"
    table = plain_table(
        f"Where the time of {profile.steps:,} steps went",
        f"A step takes {1000 * profile.step_seconds / steps:,.1f} ms; it waits for data for "
        f"{waiting:.1f} % of it{judgement}.",
    )
    table.min_width = 72
    table.add_column("part", no_wrap=True)
    for column in ("ms a step", "seconds", "% of the time"):
        table.add_column(column, justify="right", no_wrap=True)
    rows = [name for name in STEP_PARTS if name in profile.seconds]
    beside = sorted(set(profile.seconds) - set(rows), key=lambda name: -profile.seconds[name])
    for name in (*rows, *beside):
        if beside and name == beside[0]:
            table.add_section()
        seconds = profile.seconds[name]
        each = f"{1000 * seconds / steps:,.2f}" if name in STEP_PARTS else ""
        table.add_row(name, each, f"{seconds:,.2f}", f"{100 * seconds / total:.1f}")
    return table


def incident_lines(incidents: Sequence[Incident]) -> tuple[str, ...]:
    """What went wrong in a run that went on, a sentence a kind; () if nothing did."""
    steps: dict[str, list[int]] = {}
    for incident in incidents:
        steps.setdefault(incident.what, []).append(incident.step)
    return tuple(_line(what, found, _factor(incidents)) for what, found in steps.items())


def _factor(incidents: Sequence[Incident]) -> float:
    return float(0.5 ** sum(incident.back_to is not None for incident in incidents))


def _line(what: str, steps: Sequence[int], factor: float) -> str:
    several = f"steps {', '.join(str(step) for step in steps[:_MOST_STEPS])}" if len(steps) > 1 else f"step {steps[0]}"
    several += " and more" if len(steps) > _MOST_STEPS else ""
    line = f"{what[:1].upper()}{what[1:]} (at {several})."
    if "not finite" in what:
        line += f" The run went back to weights before it, and on with {factor:.3g} of the plan's learning rate;"
        line += " the batches are in training/incidents."
    return line
