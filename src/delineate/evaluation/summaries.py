"""Cases summed up by structure, so that a miss makes every figure worse."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import LabelError
from delineate.evaluation.cases import CaseScores, counted, figures_of, nanmean
from delineate.evaluation.confusions import Counts, total_confusion
from delineate.evaluation.intervals import RESAMPLES, Interval, bootstrap_means
from delineate.metrics import Status
from delineate.metrics.choosing import Advice, advise_for_all
from delineate.metrics.definitions import METRICS, Metric
from delineate.metrics.lesions import LesionScores, pool_lesions

PERCENTILES = (5, 25, 75, 95)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Summary:
    """One metric over the `count` cases in which it counts (see `counted`); NaN where there are none.

    `std`: of the population. `percentiles`: values of `PERCENTILES`. `interval`: of the mean, see `bootstrap_means`;
    None if no generator was given.
    """

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]
    count: int
    interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class LesionCounts:
    """Lesions of one structure in the `cases` cases: of the references, and made up (false positives).

    They describe. Scores are the means over cases: of the counts of all, precision would gain from a case with many
    false positives in which nothing is predicted any more.
    """

    cases: int
    lesions: int
    found: int
    false_positives: int

    @property
    def missed(self) -> int:
        return self.lesions - self.found

    @property
    def false_positives_a_case(self) -> float:
        return self.false_positives / self.cases if self.cases else math.nan


@dataclass(frozen=True, slots=True)
class StructureSummary:
    """One structure over all cases: how many have each status, and a summary of each figure by its name.

    Missed and spurious cases count as the worst value of each figure: 0 in overlaps, the scan's diagonal in distances.
    Absent cases are left out. `failed`: of the missed ones, those without usable prediction. `patients`: those who have
    the structure in reference or prediction. `lesions`: of all cases, None if they were not asked for. `advice`: which
    figures to trust, given the structure's shapes, if these are known.
    """

    cases: int
    scored: int
    missed: int
    spurious: int
    absent: int
    failed: int
    patients: int
    metrics: Mapping[str, Summary]
    lesions: LesionCounts | None = None
    advice: Advice | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a dataset.

    `mean`: of each metric, the mean over the structures of each structure's mean over its cases, so that a
    rare structure weighs as much as a common one. `intervals`: 95 % bootstrap intervals of `mean`, where
    patients are drawn with all their cases; empty if no generator was given. `confusion`: voxels of each pair of
    structures in all cases, reference by prediction, in the structures' order after the background; None where
    structures overlap.
    """

    mean: Mapping[str, float]
    intervals: Mapping[str, Interval]
    structures: Mapping[str, StructureSummary]
    cases: tuple[CaseScores, ...]
    confusion: Counts | None = None

    @property
    def patients(self) -> int:
        return len({case.patient_id for case in self.cases})

    @property
    def failures(self) -> tuple[CaseScores, ...]:
        """The cases without usable prediction."""
        return tuple(case for case in self.cases if case.failed)


def summarise(
    cases: Sequence[CaseScores], *, generator: np.random.Generator | None = None, resamples: int = RESAMPLES
) -> Evaluation:
    """Sum up cases by structure, with bootstrap intervals of the means if a generator is given.

    Raises `ValueError` for no cases or a case id given twice; `LabelError` if the cases' structures differ.
    """
    _check_cases(cases)
    names = tuple(cases[0].scores)
    metrics = figures_of(cases)
    table = score_table(cases, metrics)
    patients = [case.patient_id for case in cases]
    drawn = None if generator is None else bootstrap_means(table, patients, generator, resamples=resamples)
    columns = [None] * len(names) if drawn is None else drawn.of_columns
    structures = {
        name: _summarise_structure(cases, name, _summaries(metrics, table[:, n], columns[n]))
        for n, name in enumerate(names)
    }
    means = {metric.name: nanmean([structures[name].metrics[metric.name].mean for name in names]) for metric in metrics}
    limits = {} if drawn is None else {m.name: _pair(row) for m, row in zip(metrics, drawn.of_means, strict=True)}
    return Evaluation(
        mean=means,
        intervals=limits,
        structures=structures,
        cases=tuple(cases),
        confusion=total_confusion(case.confusion for case in cases),
    )


def score_table(cases: Sequence[CaseScores], metrics: Sequence[Metric] = METRICS) -> Matrix:
    """What counts of each case, structure and metric: (cases, structures, metrics); NaN where nothing does.

    Structures are in the first case's order.
    """
    names = tuple(cases[0].scores)
    return np.array([[[counted(case, name, metric) for metric in metrics] for name in names] for case in cases])


def _check_cases(cases: Sequence[CaseScores]) -> None:
    if not cases:
        raise ValueError("no cases to sum up")
    twice = [case_id for case_id, n in Counter(case.case_id for case in cases).items() if n > 1]
    if twice:
        raise ValueError(f"cases given twice: {twice}")
    first = cases[0]
    for case in cases:
        if set(case.scores) != set(first.scores) or case.tolerance_mm != first.tolerance_mm:
            raise LabelError(
                "cases differ in their structures or tolerances",
                expected=dict(first.tolerance_mm),
                got=dict(case.tolerance_mm),
                case=case.case_id,
                remedy="Score all cases with the same labels and tolerances.",
            )


def _summarise_structure(cases: Sequence[CaseScores], name: str, metrics: Mapping[str, Summary]) -> StructureSummary:
    statuses = Counter(case.scores[name].status for case in cases)
    shapes = [case.shapes[name] for case in cases if name in case.shapes]
    return StructureSummary(
        cases=len(cases),
        scored=statuses[Status.SCORED],
        missed=statuses[Status.MISSED],
        spurious=statuses[Status.SPURIOUS],
        absent=statuses[Status.ABSENT],
        failed=sum(bool(case.failed) and case.scores[name].status is Status.MISSED for case in cases),
        patients=len({case.patient_id for case in cases if case.scores[name].status is not Status.ABSENT}),
        metrics=metrics,
        lesions=_count_lesions([case.lesions[name] for case in cases if name in case.lesions]),
        advice=advise_for_all(shapes, tolerance_mm=cases[0].tolerance_mm[name]) if shapes else None,
    )


def _count_lesions(scores: Sequence[LesionScores]) -> LesionCounts | None:
    if not scores:
        return None
    pooled = pool_lesions(scores)
    return LesionCounts(len(scores), len(pooled.lesions), pooled.found, pooled.false_positives)


def _summaries(metrics: Sequence[Metric], values: Matrix, limits: Matrix | None) -> dict[str, Summary]:
    """Of each metric, from the values (cases, metrics) of one structure."""
    return {
        metric.name: _summarise_metric(values[:, n], None if limits is None else _pair(limits[n]))
        for n, metric in enumerate(metrics)
    }


def _summarise_metric(values: Matrix, interval: Interval | None) -> Summary:
    defined = values[~np.isnan(values)]
    if not defined.size:
        nan = math.nan
        return Summary(nan, nan, nan, nan, nan, percentiles=(nan,) * len(PERCENTILES), count=0, interval=interval)
    return Summary(
        mean=float(defined.mean()),
        median=float(np.median(defined)),
        std=float(defined.std()),
        minimum=float(defined.min()),
        maximum=float(defined.max()),
        percentiles=tuple(np.percentile(defined, PERCENTILES).tolist()),
        count=int(defined.size),
        interval=interval,
    )


def _pair(limits: Matrix) -> Interval:
    return float(limits[0]), float(limits[1])
