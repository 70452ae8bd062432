"""Models compared two by two on the same cases: how much they differ, and whether that may be chance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from delineate.evaluation.cases import nanmean
from delineate.evaluation.intervals import Interval, bootstrap_means
from delineate.evaluation.permutation import Outcome, flip_tests, holm
from delineate.evaluation.rivals import MAIN, Rivals, Table, case_means, value_table
from delineate.metrics.definitions import Better, Metric

LEVEL = 0.05
FEW_PATIENTS = 6
"""Below this many patients no p-value can be below `LEVEL`: 2 / 2^5 is 0.06."""
MEAN = ""
"""The name of the structure that stands for the mean over all of them."""

_SAME = 1e-12  # differences below are of rounding

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two models in one figure of one structure (`MEAN`: the mean over the structures), over cases that count.

    `means`: of `first` and `second`, over cases. `difference`: first minus second, its 95 % `interval` from drawing
    patients. `effect`: Cohen's d_z, the mean of the patients' mean differences over their standard deviation.
    `wins`, `ties`, `losses`: cases in which the first is better, equal, worse. `p`: of `flip_tests` by patient;
    `p_holm`: corrected, see `compare_models`; `smallest_p`: what so few patients could give at best; `exact`: see
    `Outcome`. NaN where there is no value.
    """

    first: str
    second: str
    structure: str
    metric: Metric
    cases: int
    patients: int
    means: tuple[float, float]
    difference: float
    interval: Interval
    effect: float
    wins: int
    ties: int
    losses: int
    p: float
    exact: bool
    smallest_p: float
    p_holm: float = math.nan

    @property
    def better(self) -> str:
        """The name of the model whose mean is better; "" if they are equal or there is none."""
        if math.isnan(self.difference) or abs(self.difference) <= _SAME:
            return ""
        return self.first if (self.difference > 0) is (self.metric.better is Better.HIGHER) else self.second

    @property
    def is_shown(self) -> bool:
        """Whether the difference is more than chance would give, all tests taken together."""
        return self.p_holm < LEVEL


@dataclass(frozen=True, slots=True)
class _Column:
    """One structure of two models, or the mean over structures. `means`: of each; `gaps`: of each case, (cases,), NaN
    where nothing counts. `owners`: the n patients that have the structure; `parts`: of each, its part in the difference
    of the means, (n,); `patient_means`: (n,)."""

    means: tuple[float, float]
    interval: Interval
    gaps: Vector
    owners: tuple[str, ...]
    parts: Vector
    patient_means: Vector


def compare_models(
    rivals: Rivals, generator: np.random.Generator, *, metrics: Sequence[Metric] = MAIN
) -> tuple[Difference, ...]:
    """Every pair of models in every structure, and in the mean over structures, by each figure that any case has.

    The test turns round the signs of patients' differences, with all their cases. p-values are corrected by Holm over
    all structures and pairs of models, for each figure apart; those of the mean over structures are a family of their
    own, over the pairs. Raises `ValueError` for a figure that only describes.
    """
    found: list[Difference] = []
    for metric in metrics:
        if metric.better is Better.NEITHER:
            raise ValueError(f"{metric.name} only describes: no value of it is better")
        differences = [
            difference
            for first, second in itertools.combinations(rivals.models, 2)
            for difference in _compare(rivals.only(first, second), metric, generator)
        ]
        found += [*_corrected([d for d in differences if d.structure == MEAN])]
        found += [*_corrected([d for d in differences if d.structure != MEAN])]
    return tuple(found)


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    corrected = holm([one.p for one in differences])
    return [replace(one, p_holm=p) for one, p in zip(differences, corrected, strict=True)]


def _compare(pair: Rivals, metric: Metric, generator: np.random.Generator) -> list[Difference]:
    """The mean over structures, and each structure; nothing where no case has the figure."""
    table = value_table(pair, metric)
    if np.isnan(table).all():
        return []
    limits = bootstrap_means((table[0] - table[1])[:, :, None], pair.patients, generator)
    columns = {MEAN: _overall(table, pair.patients, _pair(limits.of_means[0]))}
    for n, name in enumerate(pair.structures):
        columns[name] = _column(table[:, :, n], pair.patients, _pair(limits.of_columns[n, 0]))
    outcomes = _test(columns, generator)
    return [_difference(pair, metric, name, column, outcomes[name]) for name, column in columns.items()]


def _test(columns: Mapping[str, _Column], generator: np.random.Generator) -> dict[str, Outcome]:
    """Columns that the same patients have are tested at once, which takes a fraction of the time."""
    together: dict[tuple[str, ...], list[str]] = {}
    for name, column in columns.items():
        together.setdefault(column.owners, []).append(name)
    outcomes: dict[str, Outcome] = {}
    for names in together.values():
        parts = np.stack([columns[name].parts for name in names])
        outcomes |= dict(zip(names, flip_tests(parts, generator), strict=True))
    return outcomes


def _difference(pair: Rivals, metric: Metric, structure: str, column: _Column, outcome: Outcome) -> Difference:
    first, second = pair.models
    known = column.gaps[~np.isnan(column.gaps)]
    ahead = known if metric.better is Better.HIGHER else -known
    return Difference(
        first=first,
        second=second,
        structure=structure,
        metric=metric,
        cases=known.size,
        patients=column.parts.size,
        means=column.means,
        difference=column.means[0] - column.means[1],
        interval=column.interval,
        effect=_effect(column.patient_means),
        wins=int((ahead > _SAME).sum()),
        ties=int((np.abs(ahead) <= _SAME).sum()),
        losses=int((ahead < -_SAME).sum()),
        p=outcome.p,
        exact=outcome.exact,
        smallest_p=outcome.smallest,
    )


def _column(values: Table, patients: Sequence[str], interval: Interval) -> _Column:
    """Of one structure: (2, cases). A patient's part is the sum of the differences over the number of all cases."""
    gaps = values[0] - values[1]
    known = ~np.isnan(gaps)
    owners, sums, counts = _by_patient(gaps[known], np.asarray(patients)[known])
    return _Column(_means(values), interval, gaps, owners, _rounded(sums / max(1, known.sum())), sums / counts)


def _overall(table: Table, patients: Sequence[str], interval: Interval) -> _Column:
    """Of the mean over structures: (2, cases, structures). A patient's part is the mean of the parts in each."""
    gaps = table[0] - table[1]
    known = ~np.isnan(gaps)
    there = known.any(axis=1)
    weights = 1 / np.maximum(known.sum(axis=0), 1) / max(1, known.any(axis=0).sum())
    of_cases = np.asarray(patients)[there]
    owners, parts, _ = _by_patient((np.nan_to_num(gaps) * weights)[there].sum(axis=1), of_cases)
    cases = case_means(table)
    _, sums, counts = _by_patient((cases[0] - cases[1])[there], of_cases)
    means = np.array([_means(table[:, :, n]) for n in range(table.shape[2])])
    return _Column(_means(means.T), interval, cases[0] - cases[1], owners, _rounded(parts), sums / counts)


def _by_patient(values: Vector, patients: npt.NDArray[np.str_]) -> tuple[tuple[str, ...], Vector, Vector]:
    """Each patient's name, the sum of its values, and how many there are."""
    names, which = np.unique(patients, return_inverse=True)
    sums, counts = (np.bincount(which, weights).astype(np.float64) for weights in (values, None))
    return tuple(names.tolist()), sums, counts


def _means(values: Table) -> tuple[float, float]:
    """Of two rows, without NaN; NaN if there is nothing else."""
    first, second = (nanmean(row.tolist()) for row in values)
    return first, second


def _rounded(values: Vector) -> Vector:
    """Without the last digits, in which equal differences may differ."""
    return np.asarray(np.round(values, 14))


def _effect(means: Vector) -> float:
    """NaN for fewer than two patients, or if all differ by the same."""
    spread = float(means.std(ddof=1)) if means.size > 1 else 0.0
    return float(means.mean()) / spread if spread > _SAME else math.nan


def _pair(limits: Vector) -> Interval:
    return float(limits[0]), float(limits[1])
