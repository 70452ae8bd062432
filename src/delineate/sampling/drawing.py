"""Which case the n-th patch is of, and which structure it is to show.

Both depend on the plan's seed and n alone. As cases come, each is drawn once in a round, and in a case each of its
structures is equally likely; then a structure that few cases have is hardly ever seen. Balanced, the structure is drawn
first and then a case that has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray
from delineate.planning import Plan
from delineate.sampling.cases import TrainingCase

ANYWHERE = 0
_LONGEST_ROUND = 4  # times the cases


@dataclass(frozen=True, slots=True)
class Draw:
    """A patch to be made of case `case`, on the structure of this value; `ANYWHERE` in the case; None: whether it is on
    a structure, and on which, is left to the patch."""

    case: int
    structure: int | None = None


def draw(cases: Sequence[TrainingCase], plan: Plan, numbers: Iterable[int]) -> list[Draw]:
    """The patches of a run with these numbers (from 0)."""
    seed, balance, count = plan.training.seed, plan.training.balance, len(cases)
    if balance == 0:
        return [Draw(_case_of(number, count, seed)) for number in numbers]
    held = tuple(case.values_of_all for case in cases)
    # What a reference does not know a teacher says: then all cases are worth the same, those without a reference too.
    unknown = plan.training.missing_labels == "unknown" and plan.training.distillation is None
    shares = _shares(held, balance, unknown)
    background = 1 - plan.training.positive_fraction if shares.structures else 1.0
    length = _round_length(count, background * shares.least)
    places = (_place_in_round(length, seed, number) for number in numbers)
    return [_at(place, background, shares) for place in places]


def _case_of(number: int, count: int, seed: int) -> int:
    # Every image once in each round, in an order of its own.
    order = np.random.default_rng((seed, 1, number // count)).permutation(count)
    return int(order[number % count])


def reading_of(chosen: TrainingCase, structure: int | None, plan: Plan, number: int) -> TrainingCase:
    """The case as one of its readers saw it, who is drawn: of those that have the structure the patch is to show."""
    if not chosen.others:
        return chosen
    able = [one for one in chosen.readings if not structure or structure in one.values]
    return able[int(np.random.default_rng((plan.training.seed, 2, number, 1)).integers(len(able)))]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Of the patches on a structure. `structures`: values in the targets; `ends`: where each one's share of 0..1 ends;
    `cases`: indices of the cases that have it; `case_ends`: where each one's share of the structure's ends.

    `anywhere`: where each case's share of the patches ends that lie anywhere; `least`: the smallest that is not 0.
    """

    structures: tuple[int, ...]
    ends: FloatArray
    cases: tuple[npt.NDArray[np.int64], ...]
    case_ends: tuple[FloatArray, ...]
    anywhere: FloatArray
    least: float


@lru_cache(maxsize=8)
def _shares(held: tuple[tuple[int, ...], ...], balance: float, unknown: bool) -> Shares:
    """`held`: the structures of each case. Where what is missing is `unknown`, cases in which more was drawn come more
    often, in patches on a structure and in those that lie anywhere: they also say where structures are not. A case in
    which nothing was drawn says nothing."""
    structures = tuple(sorted({value for case in held for value in case}))
    has = np.array([[value in case for value in structures] for case in held], dtype=bool).reshape(len(held), -1)
    counts = has.sum(axis=1)
    rate = (has / np.maximum(counts, 1)[:, None]).mean(axis=0)  # of each structure, as cases come
    wanted = rate ** (1 - balance)
    worth = np.ones(len(held))
    if unknown and structures:
        worth = has @ (has.mean(axis=0) ** (-balance / 2))
    cases = tuple(np.flatnonzero(column) for column in has.T)
    case_ends = tuple(_ends(worth[chosen]) for chosen in cases)
    least = float(worth[worth > 0].min() / worth.sum())
    return Shares(structures, _ends(wanted), cases, case_ends, _ends(worth), least)


def _ends(weights: FloatArray) -> FloatArray:
    ends: FloatArray = np.cumsum(weights) / max(float(weights.sum()), 1e-300)
    return ends


def _round_length(count: int, least: float) -> int:
    """Patches of a round, in which each case lies anywhere at least once, if its share (at least `least`) allows it."""
    longest = _LONGEST_ROUND * count
    return min(longest, math.ceil(round(1 / least, 6))) if least > 0 else longest


def _place_in_round(length: int, seed: int, number: int) -> float:
    """From 0 to below 1: the shares laid end to end, a round looks at places that are evenly apart, in random order."""
    rng = np.random.default_rng((seed, 3, number // length, 1))
    start = rng.random()
    return float((rng.permutation(length)[number % length] + start) / length)


def _at(place: float, background: float, shares: Shares) -> Draw:
    if place < background:
        return Draw(_find(shares.anywhere, place / background)[0], ANYWHERE)
    rest = (place - background) / (1 - background)
    index, within = _find(shares.ends, rest)
    case, _ = _find(shares.case_ends[index], within)
    return Draw(int(shares.cases[index][case]), shares.structures[index])


def _find(ends: FloatArray, place: float) -> tuple[int, float]:
    """The share in which a place from 0 to below 1 lies, and how far into it, from 0 to below 1."""
    index = min(int(np.searchsorted(ends, place, side="right")), len(ends) - 1)
    before = float(ends[index - 1]) if index else 0.0
    return index, min(max((place - before) / (float(ends[index]) - before), 0.0), 1 - 1e-12)
