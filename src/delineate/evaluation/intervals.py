"""Bootstrap intervals, drawing patients with all their cases, and the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
RESAMPLES = 2000
FEW_PATIENTS = 5
"""Below this many patients an interval says little: the draws repeat the same few values."""

Matrix = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Intervals:
    """`of_columns`: (A, B, 2) limits of each column's mean; `of_means`: (B, 2) of the means over A of these means."""

    of_columns: Matrix
    of_means: Matrix


def bootstrap_means(
    table: Matrix, patients: Sequence[str], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> Intervals:
    """95 % percentile intervals of the means over the cases of a table (cases, A, B), NaN where there is no value.

    `patients`: of each case. Patients are drawn, with all their cases (the cluster bootstrap; Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993). Percentiles are taken as they are, not BCa: its correction may lift the
    lower limit when one value falls, and a score must not profit from a miss. Of one patient nothing is known about
    others: a column with values of fewer than two has NaN limits.
    """
    means, patients_with_values = draw_means(table, patients, generator, resamples=resamples)
    overall = _divide(np.nan_to_num(means).sum(axis=1), (~np.isnan(means)).sum(axis=1))
    alone = patients_with_values < 2
    limits = limits_of(means)
    limits[alone] = math.nan
    limits_of_means = limits_of(overall)
    limits_of_means[alone.all(axis=0)] = math.nan
    return Intervals(limits, limits_of_means)


def draw_means(
    table: Matrix, patients: Sequence[str], generator: np.random.Generator, *, resamples: int = RESAMPLES
) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """(draws, A, B): means over the drawn cases of a table (cases, A, B); and of how many patients each column has
    values (A, B). Patients are drawn with all their cases; NaN where none that was drawn has a value."""
    names, which = np.unique(np.asarray(patients), return_inverse=True)
    sums, counts = (np.zeros((len(names), *table.shape[1:])) for _ in range(2))
    np.add.at(sums, which, np.nan_to_num(table))
    np.add.at(counts, which, ~np.isnan(table))
    # How often each patient is drawn says all that a resample is.
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples).astype(float)
    means = _divide(np.tensordot(draws, sums, axes=1), np.tensordot(draws, counts, axes=1))
    return means, np.asarray((counts > 0).sum(axis=0))


def _divide(sums: Matrix, counts: npt.NDArray[np.number]) -> Matrix:
    ratio: Matrix = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio


def limits_of(means: Matrix) -> Matrix:
    """(..., 2) limits of draws (resamples, ...); draws without a value are left out."""
    limits = np.full((*means.shape[1:], 2), math.nan)
    for column in np.ndindex(means.shape[1:]):
        drawn = means[(slice(None), *column)]
        known = drawn[~np.isnan(drawn)]
        if known.size:
            limits[column] = np.quantile(known, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return limits


def wilson_interval(count: int, of: int) -> Interval:
    """95 % limits of a share of cases, `count` out of `of`; (NaN, NaN) of none.

    Wilson's score interval (Wilson, Probable inference, the law of succession, and statistical inference, 1927): it
    stays within 0..1 and is of use also for few cases and shares near its ends. Cases count as independent.
    Raises `ValueError` for a count that is not in 0..of.
    """
    if not 0 <= count <= of:
        raise ValueError(f"a share is of 0 to all of the cases: got {count} of {of}")
    if not of:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, weight = count / of, 1 / (1 + z * z / of)
    centre = weight * (share + z * z / (2 * of))
    half = weight * z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    # What rounding leaves beyond the ends.
    return (0.0 if count == 0 else max(centre - half, 0.0)), (1.0 if count == of else min(centre + half, 1.0))
