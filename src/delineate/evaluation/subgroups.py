"""Scores by group of cases (site, scanner, age, size, ...): each group against all other cases, small ones named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from delineate.evaluation.bands import NOT_RECORDED, band, in_order, terciles
from delineate.evaluation.cases import CaseScores, counted, figures_of, mean_of_case
from delineate.evaluation.intervals import Interval, Matrix, draw_means, limits_of
from delineate.evaluation.permutation import holm, relabel_test
from delineate.evaluation.rivals import MAIN
from delineate.metrics import Status
from delineate.metrics.definitions import Metric

SMALL = 10
"""Patients below which a group is called small: what it shows may be chance."""
MEAN = ""
"""The name of the structure that stands for the mean over all structures of a case."""
SIZE = "size"

_MOST_GROUPS = 15
_NOWHERE = "not in the reference"
_ONE_SIZE = "of one size"
_THIRDS = ("small", "middle", "large")

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Grouping:
    """One way to part the cases. `members`: each case's group; `by_structure`: each case's group for one structure,
    where groups differ from structure to structure; `groups`: all of them, in order."""

    name: str
    groups: tuple[str, ...]
    members: Mapping[str, str] = field(default_factory=dict)
    by_structure: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupScore:
    """One figure of one structure (`MEAN`: of each case's mean over its structures) in one group.

    `cases`, `patients`: of the group in which the figure counts; `missed`: cases in which the structure was missed or
    made up (`MEAN`: any structure). `mean` over cases, and its 95 % `interval` by patient. `rest`: the mean of all
    other cases; `gap`: the group's minus that, with its interval; `p`: of `relabel_test`, `p_holm`: corrected over
    groups and structures. `small`: fewer than `SMALL` patients. NaN where there is no value.
    """

    grouping: str
    group: str
    structure: str
    metric: Metric
    cases: int
    patients: int
    missed: int
    mean: float
    interval: Interval
    rest: float
    gap: float
    gap_interval: Interval
    p: float
    small: bool
    p_holm: float = math.nan


def groupings_of(cases: Sequence[CaseScores]) -> tuple[Grouping, ...]:
    """Every way in which `CaseScores.groups` part the cases into up to 15. Cases without a value are one of them."""
    return tuple(one for one in _all_groupings(cases) if len(one.groups) <= _MOST_GROUPS)


def ungrouped(cases: Sequence[CaseScores]) -> tuple[str, ...]:
    """Names of `CaseScores.groups` with so many values that they tell cases apart rather than part them."""
    return tuple(one.name for one in _all_groupings(cases) if len(one.groups) > _MOST_GROUPS)


def _all_groupings(cases: Sequence[CaseScores]) -> Iterator[Grouping]:
    for name in dict.fromkeys(name for case in cases for name in case.groups):
        members = {case.case_id: case.groups.get(name) or NOT_RECORDED for case in cases}
        groups = in_order(members.values())
        if len(groups) > 1:
            yield Grouping(name, groups, members)


def size_grouping(cases: Sequence[CaseScores], edges: Sequence[float] | None = None) -> Grouping:
    """By the volume of the reference's structure in ml: bands between `edges`, or each structure's own terciles.

    Cases whose reference lacks the structure, and those of a structure that is of one size, are groups of their own.
    """
    by_structure: dict[str, dict[str, str]] = {}
    groups: list[str] = []
    for name in cases[0].scores if cases else ():
        volumes = {case.case_id: case.scores[name].reference_ml for case in cases}
        own = None if edges is not None else terciles(volume for volume in volumes.values() if volume > 0)
        by_structure[name] = {case: _size(volume, edges, own) for case, volume in volumes.items()}
        groups += by_structure[name].values()
    order = (*_THIRDS, _ONE_SIZE)
    ordered = [group for group in order if group in groups]
    bands = [group for group in in_order(groups) if group not in order and group != _NOWHERE]
    return Grouping(SIZE, (*ordered, *bands, *[_NOWHERE][: _NOWHERE in groups]), by_structure=by_structure)


def _size(volume: float, edges: Sequence[float] | None, own: Sequence[float] | None) -> str:
    if not volume > 0:
        return _NOWHERE
    if edges is not None:
        return band(volume, edges, unit="ml")
    if own is None:
        return _ONE_SIZE
    return _THIRDS[int(np.searchsorted(own, volume, side="right")) * (1 if len(own) == 2 else 2)]


def score_groups(
    cases: Sequence[CaseScores],
    grouping: Grouping,
    generator: np.random.Generator,
    *,
    metrics: Sequence[Metric] = MAIN,
) -> tuple[GroupScore, ...]:
    """Every group in each figure that any case has: of each structure and, unless groups differ from structure to
    structure, of the cases' means.

    No group is left out, however small; one in which a structure does not occur has NaN. p-values are corrected by
    Holm for each figure apart: over groups and structures, and the cases' means over groups. No cases give nothing.
    """
    if not cases:
        return ()
    known = figures_of(cases)
    found: list[GroupScore] = []
    for metric in (metric for metric in metrics if metric in known):
        rows = [] if grouping.by_structure else _score(cases, grouping, metric, MEAN, generator)
        found += _corrected(rows)
        apart = [_score(cases, grouping, metric, name, generator) for name in cases[0].scores]
        found += _corrected([row for rows in apart for row in rows])
    return tuple(found)


def _score(
    cases: Sequence[CaseScores], grouping: Grouping, metric: Metric, structure: str, generator: np.random.Generator
) -> list[GroupScore]:
    """All groups in one figure of one structure."""
    values = np.array([_value(case, structure, metric) for case in cases])
    members = grouping.by_structure.get(structure, grouping.members)
    groups = np.array([members[case.case_id] for case in cases])
    patients = [case.patient_id for case in cases]
    lost = np.array([_is_lost(case, structure) for case in cases])
    inside = np.stack([groups == group for group in grouping.groups], axis=1)
    # Each group, and after them what is not in it: drawn together, so that their gap has an interval.
    table = np.where(np.stack([inside, ~inside], axis=2), values[:, None, None], math.nan)
    drawn, counts = draw_means(table, patients, generator)
    limits, gap_limits = limits_of(drawn), limits_of(drawn[:, :, 0] - drawn[:, :, 1])
    limits[counts < 2] = math.nan
    gap_limits[counts.min(axis=1) < 2] = math.nan
    ps = _tests(values, patients, inside, generator)
    rows = []
    for n, group in enumerate(grouping.groups):
        mean, rest = _mean(table[:, n, 0]), _mean(table[:, n, 1])
        rows.append(
            GroupScore(
                grouping=grouping.name,
                group=group,
                structure=structure,
                metric=metric,
                cases=int((~np.isnan(table[:, n, 0])).sum()),
                patients=int(counts[n, 0]),
                missed=int((lost & inside[:, n]).sum()),
                mean=mean,
                interval=_pair(limits[n, 0]),
                rest=rest,
                gap=mean - rest,
                gap_interval=_pair(gap_limits[n]),
                p=ps[n],
                small=bool(counts[n, 0] < SMALL),
            )
        )
    return rows


def _tests(
    values: Vector, patients: Sequence[str], inside: npt.NDArray[np.bool_], generator: np.random.Generator
) -> list[float]:
    """A p-value a group; of two groups only the first has one, since its rest is the other."""
    known = ~np.isnan(values)
    filled = [n for n in range(inside.shape[1]) if (inside[:, n] & known).any()]
    ps = [math.nan] * inside.shape[1]
    for n in filled[:1] if len(filled) == 2 else filled:
        # A patient with cases on both sides is a unit of each.
        owners = [f"{patient}\0{side}" for patient, side in zip(patients, inside[:, n], strict=True)]
        units, which = np.unique(np.asarray(owners)[known], return_inverse=True)
        sums, counts = (np.bincount(which, w).astype(np.float64) for w in (values[known], None))
        within = np.array([unit.endswith("True") for unit in units], dtype=bool)
        ps[n] = relabel_test(sums, counts, within, generator).p
    return ps


def _corrected(rows: Sequence[GroupScore]) -> list[GroupScore]:
    """With Holm's correction. Who was not tested, being the rest of the other, has the other's values."""
    corrected = [replace(row, p_holm=p) for row, p in zip(rows, holm([row.p for row in rows]), strict=True)]
    tested = {row.structure: row for row in corrected if not math.isnan(row.p)}
    return [
        replace(row, p=tested[row.structure].p, p_holm=tested[row.structure].p_holm)
        if math.isnan(row.p) and not math.isnan(row.gap) and row.structure in tested
        else row
        for row in corrected
    ]


def _value(case: CaseScores, structure: str, metric: Metric) -> float:
    return mean_of_case(case, metric) if structure == MEAN else counted(case, structure, metric)


def _is_lost(case: CaseScores, structure: str) -> bool:
    scores = case.scores.values() if structure == MEAN else [case.scores[structure]]
    return any(one.status in (Status.MISSED, Status.SPURIOUS) for one in scores)


def _mean(values: Vector) -> float:
    known = values[~np.isnan(values)]
    return math.fsum(known) / known.size if known.size else math.nan


def _pair(limits: Matrix) -> Interval:
    return float(limits[0]), float(limits[1])
