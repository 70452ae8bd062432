"""Permutation tests over patients, and Holm's correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLES = 9999
"""Random permutations where not all can be gone through."""
_SMALLEST_DRAWN = 2 / (RESAMPLES + 1)
_AT_ONCE = 4_000_000  # numbers, of which some copies are made

Vector = npt.NDArray[np.float64]
Units = npt.NDArray[np.intp]
Gap = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A two-sided p-value; NaN without patients. `exact`: all permutations were gone through.

    `smallest`: the lowest p-value that so few patients could give, whatever they show.
    """

    p: float
    exact: bool
    smallest: float


def flip_tests(differences: Vector, generator: np.random.Generator) -> tuple[Outcome, ...]:
    """Whether paired differences (columns, patients) have sums other than 0: each one's sign might as well be the
    other. One outcome a column; all columns of a patient are turned together.

    All 2^n sign patterns where these are fewer than `RESAMPLES`, random ones else (Good, Permutation, Parametric, and
    Bootstrap Tests of Hypotheses, 2005; as `scipy.stats.permutation_test`, "samples").
    """
    from scipy.stats import permutation_test

    columns, n = int(differences.shape[0]), int(differences.shape[1])
    exact = 2**n <= RESAMPLES
    smallest = max(2.0 ** (1 - n), 0.0 if exact else _SMALLEST_DRAWN) if n else math.nan
    if n < 2 or not columns:
        return (Outcome(1.0 if n else math.nan, exact=True, smallest=smallest),) * columns
    found = permutation_test(
        (differences,),
        lambda x, axis: x.sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _AT_ONCE // differences.size),
        axis=-1,
        rng=generator,
    )
    return tuple(Outcome(float(p), exact, smallest) for p in found.pvalue)


def relabel_test(
    sums: Vector, counts: Vector, inside: npt.NDArray[np.bool_], generator: np.random.Generator
) -> Outcome:
    """Whether a group's mean differs from that of the rest: each unit might as well lie in the other.

    Units are patients: `sums` and `counts` of their cases' values, (n,); `inside`: those of the group. Group and rest
    keep their numbers of units. NaN if either is empty.
    """
    from scipy.stats import permutation_test

    group, rest = np.flatnonzero(inside), np.flatnonzero(~inside)
    if not group.size or not rest.size:
        return Outcome(math.nan, exact=True, smallest=math.nan)

    def gap(one: Units, other: Units, axis: int = -1) -> Any:
        means = [sums[units].sum(axis=axis) / counts[units].sum(axis=axis) for units in (one, other)]
        return means[0] - means[1]

    ways = math.comb(inside.size, group.size)
    exact = ways <= RESAMPLES
    smallest = min(1.0, 2 / ways) if exact else _SMALLEST_DRAWN
    if min(group.size, rest.size) == 1:
        return _single_test(gap, group, rest)
    found = permutation_test(
        (group, rest),
        gap,
        permutation_type="independent",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=generator,
    )
    return Outcome(float(found.pvalue), exact, smallest)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values corrected for being several (Holm 1979): the chance that any is below its limit by chance is kept.

    NaN stays NaN, and does not count as a test. None give none.
    """
    # statsmodels' `multipletests` collects the whole process's garbage, which takes longer than what is corrected.
    given = np.array(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")[: int((~np.isnan(given)).sum())]  # NaN comes last
    factors = np.arange(len(order), 0, -1)
    given[order] = np.minimum(1, np.maximum.accumulate(factors * given[order]))
    return tuple(given.tolist())


def _single_test(gap: Gap, group: Units, rest: Units) -> Outcome:
    """The same where one side is a single unit, which SciPy refuses: every unit takes its place in turn."""
    every = np.concatenate([group, rest])
    alone = group.size == 1
    others = [np.delete(every, n) for n in range(every.size)]
    null = np.array(
        [gap(unit, other) if alone else gap(other, unit) for unit, other in zip(every[:, None], others, strict=True)]
    )
    found = gap(group, rest)
    near = 1e-12 * max(1.0, abs(found))
    tails = np.mean(null >= found - near), np.mean(null <= found + near)
    return Outcome(min(1.0, 2 * float(min(tails))), exact=True, smallest=min(1.0, 2 / every.size))
