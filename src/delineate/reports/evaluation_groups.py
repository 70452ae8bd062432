"""Groups of cases (site, phase, ...) compared, from what scores.json holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delineate.evaluation.bands import NOT_RECORDED, in_order
from delineate.evaluation.intervals import bootstrap_means
from delineate.evaluation.subgroups import SMALL
from delineate.reports.charts import Chart, ForestRow, forest_plot
from delineate.reports.evaluation_figures import Row, Sheet, count_of, with_interval
from delineate.reports.score_records import CaseRecord, ScoresRecord, number

_MOST_VALUES = 15  # of a kind of group; with more it names cases rather than groups
_SEED = 0


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The cases of one group: `dice`, the mean over cases of each case's mean Dice, and its interval by patient.

    `gap`: this mean minus that of all other cases; it describes.
    """

    name: str
    cases: int
    patients: int
    with_misses: int
    dice: tuple[float, float, float]
    gap: float

    @property
    def small(self) -> bool:
        return self.patients < SMALL


@dataclass(frozen=True, slots=True)
class GroupKind:
    """One way to group the cases, e.g. by site."""

    name: str
    groups: tuple[GroupFacts, ...]


def group_kinds(scores: ScoresRecord) -> tuple[GroupKind, ...]:
    """Every way of grouping that has more than one group. Cases without a value are a group of their own."""
    names = dict.fromkeys(name for case in scores.cases.values() for name in case.groups)
    kinds = (_kind(name, list(scores.cases.values())) for name in names)
    return tuple(kind for kind in kinds if kind is not None)


def unshown_kinds(scores: ScoresRecord) -> tuple[str, ...]:
    """Ways of grouping with so many values that they are not compared."""
    values: dict[str, Counter[str]] = {}
    for case in scores.cases.values():
        for name, value in case.groups.items():
            values.setdefault(name, Counter())[value] += 1
    return tuple(name for name, found in values.items() if len(found) > _MOST_VALUES)


def _kind(name: str, cases: Sequence[CaseRecord]) -> GroupKind | None:
    values = [case.groups.get(name) or NOT_RECORDED for case in cases]
    groups = in_order(values)
    if not 1 < len(groups) <= _MOST_VALUES:
        return None
    return GroupKind(name, tuple(_facts(group, values, cases) for group in groups))


def _facts(group: str, values: Sequence[str], cases: Sequence[CaseRecord]) -> GroupFacts:
    inside = [case for case, value in zip(cases, values, strict=True) if value == group]
    outside = [case for case, value in zip(cases, values, strict=True) if value != group]
    dice = _mean_dice(inside)
    return GroupFacts(
        group,
        cases=len(inside),
        patients=len({case.patient for case in inside}),
        with_misses=sum(bool(case.missed) for case in inside),
        dice=dice,
        gap=dice[0] - _mean_dice(outside)[0],
    )


def _mean_dice(cases: Sequence[CaseRecord]) -> tuple[float, float, float]:
    """The mean over cases of their mean Dice with its limits; NaN without any."""
    known = [(case.patient, dice) for case in cases if not math.isnan(dice := number(case.mean.get("dice")))]
    if not known:
        return math.nan, math.nan, math.nan
    column = np.array([dice for _, dice in known])
    drawn = bootstrap_means(column.reshape(-1, 1, 1), [patient for patient, _ in known], np.random.default_rng(_SEED))
    low, high = drawn.of_means[0].tolist()
    return float(column.mean()), low, high


def group_sheet(kind: GroupKind) -> Sheet:
    """The groups of one kind, each against all other cases."""
    rows = tuple(_row(group) for group in kind.groups)
    columns = (_title(kind), "Patients", "Cases", "Mean Dice of cases", "Minus all others", "Cases with a miss")
    note = f"Small: fewer than {SMALL} patients; what such a group shows may be chance."
    return Sheet(f"By {kind.name}", columns, rows, note=note if any(group.small for group in kind.groups) else "")


def _row(group: GroupFacts) -> Row:
    return (
        group.name,
        f"{group.patients}{' (small)' if group.small else ''}",
        str(group.cases),
        with_interval("dice", *group.dice, 3),
        "–" if math.isnan(group.gap) else f"{group.gap:+.3f}".replace("-", "\N{MINUS SIGN}"),
        count_of(group.with_misses),
    )


def group_chart(kind: GroupKind, mean: float) -> Chart:
    """The groups of one kind as a forest plot, small ones hollow; `mean`: of all cases."""
    rows = [ForestRow(group.name, *group.dice, count=group.patients, small=group.small) for group in kind.groups]
    return forest_plot(rows, axis=f"Mean Dice by {kind.name}", reference=mean, reference_name="all cases")


def _title(kind: GroupKind) -> str:
    return kind.name[:1].upper() + kind.name[1:]
