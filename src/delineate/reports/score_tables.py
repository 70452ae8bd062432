"""Scores as tables for the terminal. They are returned; the command line prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delineate.evaluation import SideConfusion, StructureSummary
from delineate.evaluation.worst import Reason, WorstCase
from delineate.labels import Colour
from delineate.reports.tables import plain_table, plain_text, printable, show_count, show_number

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One structure's scores over the `cases` cases in which reference or prediction has it; NaN: no value.

    `dice`, `surface_dice`: means, 0..1; `interval`: of `dice`. `hd95_mm`: the median; `mean_hd95_mm`: the mean. In all
    of them a missed or spurious structure counts as the worst value: 0, or the scan's diagonal. `missed`: cases in
    which only the reference has it; `spurious`: only the prediction.
    """

    name: str
    cases: int
    dice: float
    interval: tuple[float, float] | None = None
    surface_dice: float = math.nan
    hd95_mm: float = math.nan
    mean_hd95_mm: float = math.nan
    missed: int = 0
    spurious: int = 0
    colour: Colour | None = None


def scores_table(
    rows: Sequence[ScoreRow],
    *,
    title: str = "Scores",
    caption: str | None = None,
    interval: tuple[float, float] | None = None,
) -> Table:
    """A line a structure, and the mean over structures where there are several; `interval`: of that mean's Dice."""
    table = plain_table(title, caption)
    table.collapse_padding = True
    table.add_column("structure", overflow="fold", min_width=14)
    for column in ("cases", "Dice", "95 %", "surface\nDice", "HD95\nmean", "mm\nmedian", "mis-\nsed", "spu-\nrious"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        name = plain_text(("■ " if row.colour else "") + row.name)
        if row.colour is not None:
            name.stylize("rgb({},{},{})".format(*row.colour), 0, 1)
        table.add_row(name, str(row.cases), *_numbers(row))
    if len(rows) > 1:
        total = mean_row(rows, interval=interval)
        table.add_section()
        table.add_row(total.name, "", *_numbers(total), style="bold")
    return table


def mean_row(rows: Sequence[ScoreRow], *, interval: tuple[float, float] | None = None) -> ScoreRow:
    """The mean over structures that have a value, and the sums of missed and spurious ones."""
    return ScoreRow(
        "mean",
        max((row.cases for row in rows), default=0),
        _mean(row.dice for row in rows),
        interval=interval,
        surface_dice=_mean(row.surface_dice for row in rows),
        hd95_mm=_mean(row.hd95_mm for row in rows),
        mean_hd95_mm=_mean(row.mean_hd95_mm for row in rows),
        missed=sum(row.missed for row in rows),
        spurious=sum(row.spurious for row in rows),
    )


def show_interval(interval: tuple[float, float] | None, digits: int) -> str:
    """Both limits, e.g. 0.88–0.93; empty where there is no interval."""
    if interval is None or any(map(math.isnan, interval)):
        return ""
    return "–".join(show_number(limit, digits) for limit in interval)


def sides_table(pairs: Sequence[SideConfusion]) -> Table:
    """A line a left/right pair, with the voxels that got the other side's label."""
    table = plain_table("Left and right")
    for column in ("left", "right", "left labelled right", "right labelled left"):
        table.add_column(column, justify="right" if "labelled" in column else "left")
    for pair in pairs:
        table.add_row(
            plain_text(pair.left),
            plain_text(pair.right),
            f"{pair.left_as_right} voxels",
            f"{pair.right_as_left} voxels",
        )
    return table


def lesions_table(structures: Mapping[str, StructureSummary]) -> Table:
    """A line a structure that was scored lesion by lesion: counts over all cases, and means over cases."""
    table = plain_table(
        "Lesion by lesion",
        caption="Sensitivity, F1, Dice: means over cases. False: predicted where there is none.",
    )
    table.collapse_padding = True
    table.add_column("structure", overflow="fold", min_width=14)
    for column in ("lesions", "found", "mis-\nsed", "false\na case", "sensi-\ntivity", "F1", "95 %", "lesion\nDice"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, structure in structures.items():
        if structure.lesions is None:
            continue
        counts, f1 = structure.lesions, structure.metrics["lesion_f1"]
        means = [structure.metrics[f"lesion_{figure}"].mean for figure in ("sensitivity", "mean_dice")]
        table.add_row(
            plain_text(name),
            *map(str, (counts.lesions, counts.found)),
            show_count(counts.missed),
            show_number(counts.false_positives_a_case, 2),
            show_number(means[0], 3),
            show_number(f1.mean, 3),
            show_interval(f1.interval, 2),
            show_number(means[1], 3),
        )
    return table


def tubes_table(structures: Mapping[str, StructureSummary]) -> Table:
    """A line a structure that was scored by its centre lines; means over cases."""
    table = plain_table("Centre lines")
    table.add_column("structure", overflow="fold", min_width=14)
    for column in ("clDice", "95 %", "length found", "length that is right"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, structure in structures.items():
        cldice = structure.metrics.get("cldice")
        if cldice is not None and cldice.count:
            lengths = [structure.metrics[f"topology_{way}"].mean for way in ("sensitivity", "precision")]
            limits = show_interval(cldice.interval, 2)
            table.add_row(
                plain_text(name), show_number(cldice.mean, 3), limits, *(show_number(share, 3) for share in lengths)
            )
    return table


def worst_table(worst: Sequence[WorstCase], *, most: int = 5, most_lines: int = 4) -> Table:
    """The worst cases, at most so many, with the first guess for each structure, at most so many lines a case."""
    table = plain_table("Worst cases first", caption="What may be behind them, guessed from what is measured.")
    table.add_column("case", overflow="fold")
    table.add_column("Dice", justify="right")
    table.add_column("what stands out", overflow="fold", ratio=1)
    for one in worst[:most]:
        first = {reason.structure: reason for reason in reversed(one.reasons)}
        lines = [_guess(first[structure]) for structure in dict.fromkeys(reason.structure for reason in one.reasons)]
        shown = lines[:most_lines]
        rest = len(one.reasons) - len(shown)
        shown += [f"and {rest} more in scores.json"] if rest else []
        table.add_row(plain_text(one.case.case_id), show_number(one.mean_dice, 3), plain_text("\n".join(shown) or "–"))
    return table


def _guess(reason: Reason) -> str:
    text = f"{reason.cause.value}: {reason.words}"
    return printable(f"{reason.structure} {text}" if reason.structure else text)


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _numbers(row: ScoreRow) -> tuple[str, ...]:
    return (
        show_number(row.dice, 3),
        show_interval(row.interval, 2),
        show_number(row.surface_dice, 3),
        show_number(row.mean_hd95_mm, 1),
        show_number(row.hd95_mm, 1),
        show_count(row.missed),
        show_count(row.spurious),
    )
