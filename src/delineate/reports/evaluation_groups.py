"""Groups of cases (site, phase, ...) compared, from what scores.json holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from delineate.evaluation.bands import NOT_RECORDED, in_order
from delineate.evaluation.intervals import bootstrap_means
from delineate.evaluation.subgroups import SIZE, SMALL
from delineate.reports.charts import Chart, ForestRow, forest_plot
from delineate.reports.charts.words import fixed
from delineate.reports.comparison_tables import show_p
from delineate.reports.evaluation_figures import Row, Sheet, count_of, with_interval, words_of
from delineate.reports.score_parts import GroupRecord
from delineate.reports.score_records import CaseRecord, ScoresRecord, number

NO_GAP = (math.nan, math.nan)
_FIGURE = "dice"
_MOST_VALUES = 15  # of a kind of group; with more it names cases rather than groups
_SEED = 0


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The cases of one group: `dice`, the mean over cases of each case's mean Dice, and its interval by patient.

    `gap`: this mean minus that of all other cases; it describes. Its interval, and the p-value of a permutation test
    corrected by Holm over groups, are there where the evaluation was asked for these groups, else NaN.
    """

    name: str
    cases: int
    patients: int
    with_misses: int
    dice: tuple[float, float, float]
    gap: float
    gap_interval: tuple[float, float] = NO_GAP
    p: float = math.nan

    @property
    def small(self) -> bool:
        return self.patients < SMALL


@dataclass(frozen=True, slots=True)
class GroupKind:
    """One way to group the cases, e.g. by site."""

    name: str
    groups: tuple[GroupFacts, ...]

    @property
    def tested(self) -> bool:
        return any(not math.isnan(group.p) for group in self.groups)


def group_kinds(scores: ScoresRecord) -> tuple[GroupKind, ...]:
    """Every way of grouping that has more than one group. Cases without a value are a group of their own."""
    names = dict.fromkeys(name for case in scores.cases.values() for name in case.groups)
    tested = {
        (one.by, one.group): one for one in scores.subgroups.scores if one.metric == _FIGURE and not one.structure
    }
    kinds = (_kind(name, list(scores.cases.values()), tested) for name in names)
    return tuple(kind for kind in kinds if kind is not None)


def unshown_kinds(scores: ScoresRecord) -> tuple[str, ...]:
    """Ways of grouping with so many values that they are not compared."""
    values: dict[str, Counter[str]] = {}
    for case in scores.cases.values():
        for name, value in case.groups.items():
            values.setdefault(name, Counter())[value] += 1
    return tuple(name for name, found in values.items() if len(found) > _MOST_VALUES)


def _kind(name: str, cases: Sequence[CaseRecord], tested: Mapping[tuple[str, str], GroupRecord]) -> GroupKind | None:
    values = [case.groups.get(name) or NOT_RECORDED for case in cases]
    groups = in_order(values)
    if not 1 < len(groups) <= _MOST_VALUES:
        return None
    return GroupKind(name, tuple(_facts(group, values, cases, tested.get((name, group))) for group in groups))


def _facts(group: str, values: Sequence[str], cases: Sequence[CaseRecord], tested: GroupRecord | None) -> GroupFacts:
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
        gap_interval=NO_GAP if tested is None else _limits(tested.gap_interval),
        p=number(None if tested is None else tested.p_holm),
    )


def _limits(interval: tuple[float | None, float | None]) -> tuple[float, float]:
    return number(interval[0]), number(interval[1])


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
    columns = (_title(kind), "Patients", "Cases", "Mean Dice", "Minus all others", "With a miss")
    head = (*columns, "p") if kind.tested else columns
    rows = tuple((*_row(group), show_p(group.p)) if kind.tested else _row(group) for group in kind.groups)
    small = [group.name for group in kind.groups if group.small]
    return Sheet(f"By {kind.name}", head, rows, note=" ".join(filter(None, (_p_words(kind), _small_words(small)))))


def _p_words(kind: GroupKind) -> str:
    """What the p-values of groups are; "" where there are none."""
    if not kind.tested:
        return ""
    return "p: permutation test of each group against all other cases by patient, corrected by Holm over the groups."


def _small_words(groups: Sequence[str]) -> str:
    """Which groups are small, and what that means; "" if none is."""
    if not groups:
        return ""
    return f"Small, with fewer than {SMALL} patients: {', '.join(groups)}. What they show may be chance."


def sizes_sheet(scores: ScoresRecord) -> Sheet | None:
    """Each structure by its size in the reference; None where evaluation was not asked for it."""
    found = _by_structure(scores, SIZE)
    note = (
        "Small, middle and large: thirds of each structure's volumes in the references, unless bands were given. p: "
        "permutation test, corrected by Holm over sizes and structures."
    )
    return _structures_sheet(found, "By size of the structure", "Structure, size", note) if found else None


def structure_sheets(scores: ScoresRecord) -> dict[str, Sheet]:
    """Each structure in the groups of each kind that evaluation was asked for, sizes left out; by the kind's name."""
    kinds = dict.fromkeys(one.by for one in scores.subgroups.scores if one.by != SIZE)
    sheets = {}
    for kind in kinds:
        found = _by_structure(scores, kind)
        note = "p: permutation test by patient, corrected by Holm over groups and structures."
        if found:
            sheets[kind] = _structures_sheet(found, f"Each structure by {kind}", f"Structure, {kind}", note)
    return sheets


def _by_structure(scores: ScoresRecord, kind: str) -> list[GroupRecord]:
    asked = (one for one in scores.subgroups.scores if one.by == kind and one.metric == _FIGURE)
    return [one for one in asked if one.structure and one.cases]


def _structures_sheet(found: Sequence[GroupRecord], caption: str, first: str, note: str) -> Sheet:
    rows = tuple(
        (
            f"{words_of(one.structure or '')}, {one.group}",
            f"{one.patients}{' (few)' if one.small else ''}",
            str(one.cases),
            with_interval(_FIGURE, number(one.mean), *_limits(one.interval), 3),
            _gap_words(number(one.gap), _limits(one.gap_interval)),
            count_of(one.missed),
            show_p(number(one.p_holm)),
        )
        for one in found
    )
    if any(one.small for one in found):
        note += f" Few: fewer than {SMALL} patients; what such a row shows may be chance."
    columns = (first, "Patients", "Cases", "Mean Dice", "Minus all others", "Missed or spurious", "p")
    return Sheet(caption, columns, rows, note=note)


def _row(group: GroupFacts) -> Row:
    return (
        group.name,
        f"{group.patients}{' (small)' if group.small else ''}",
        str(group.cases),
        with_interval(_FIGURE, *group.dice, 3),
        _gap_words(group.gap, group.gap_interval),
        count_of(group.with_misses),
    )


def _gap_words(gap: float, interval: tuple[float, float]) -> str:
    """`+0.031 (−0.02 to +0.08)`; without interval the gap alone."""
    if math.isnan(gap):
        return "–"
    shown = _signed(gap, 3)
    return shown if any(map(math.isnan, interval)) else f"{shown} ({' to '.join(_signed(x, 2) for x in interval)})"


def _signed(value: float, places: int) -> str:
    return f"{'+' * (round(value, places) > 0)}{fixed(value, places)}"


def group_chart(kind: GroupKind, mean: float) -> Chart:
    """The groups of one kind as a forest plot, small ones hollow; `mean`: of all cases."""
    rows = [ForestRow(group.name, *group.dice, count=group.patients, small=group.small) for group in kind.groups]
    return forest_plot(rows, axis=f"Mean Dice by {kind.name}", reference=mean, reference_name="all cases")


def _title(kind: GroupKind) -> str:
    return kind.name[:1].upper() + kind.name[1:]
