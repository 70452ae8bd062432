"""Models ranked, and how sure the ranks are: other patients might have given another order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from delineate.evaluation.comparing import MEAN
from delineate.evaluation.intervals import CONFIDENCE, draw_means
from delineate.evaluation.rivals import MAIN, Rivals, value_table
from delineate.metrics.definitions import Better, Metric

_DIGITS = 12  # beyond them, equal means differ by rounding

Table = npt.NDArray[np.float64]


class By(Enum):
    """What models are ranked by."""

    MEANS = "means"  # rank the means over cases
    RANKS = "ranks"  # rank in every case, then the mean of these ranks


@dataclass(frozen=True, slots=True)
class Place:
    """One model's place. `value`: the mean, or the mean rank, that it is ranked by; `rank`: 1 is the best, equal ones
    share the better rank. `interval`: 95 % of the drawn ranks. `shares`: of the draws, how many have it at rank 1, 2,
    ...; equal ones share their ranks. NaN where no draw has a value."""

    model: str
    value: float
    rank: int
    interval: tuple[float, float]
    shares: tuple[float, ...]

    @property
    def first(self) -> float:
        """The share of draws in which it is the best."""
        return self.shares[0]


@dataclass(frozen=True, slots=True)
class Ranking:
    """Models in one figure of one structure (`MEAN`: over structures), the best first.

    `stability`: the mean of Kendall's tau between the ranking and those of the draws: 1 if all draws agree; NaN if all
    are equal.
    """

    structure: str
    metric: Metric
    by: By
    cases: int
    patients: int
    places: tuple[Place, ...]
    stability: float


def rank_models(
    rivals: Rivals, generator: np.random.Generator, *, metrics: Sequence[Metric] = MAIN, by: By = By.MEANS
) -> tuple[Ranking, ...]:
    """The models ranked in every structure, and in the mean over structures, by each figure that any case has.

    What a model missed counts as the worst, so that it ranks last in that case. The uncertainty is that of drawing
    patients with all their cases (Wiesenfarth et al. 2021, Methods and open-source toolkit for analyzing and
    visualizing challenge results). Raises `ValueError` for a figure that only describes.
    """
    found = []
    for metric in metrics:
        if metric.better is Better.NEITHER:
            raise ValueError(f"{metric.name} only describes: no value of it is better")
        table = value_table(rivals, metric)
        if np.isnan(table).all():
            continue
        # (cases, structures, models), lower is better in what is ranked.
        values = np.moveaxis(table, 0, 2) * (-1 if metric.better is Better.HIGHER else 1)
        ranked = values if by is By.MEANS else _ranks_of_cases(values)
        sign = -1 if by is By.MEANS and metric.better is Better.HIGHER else 1
        drawn, _ = draw_means(ranked, rivals.patients, generator)
        for n, name in enumerate((MEAN, *rivals.structures)):
            part = slice(None) if name == MEAN else slice(n - 1, n)
            known = ~np.isnan(table[0][:, part]).all(axis=1)
            places, stability = _places(tuple(rivals.models), ranked[:, part], drawn[:, part], sign=sign)
            patients = len({one for one, there in zip(rivals.patients, known, strict=True) if there})
            found.append(Ranking(name, metric, by, int(known.sum()), patients, places, stability))
    return tuple(found)


def _ranks_of_cases(values: Table) -> Table:
    """Ranks over the models, in each case and structure; equal ones have the mean of their ranks."""
    from scipy.stats import rankdata

    ranks = rankdata(np.round(values, _DIGITS), axis=2)
    return np.where(np.isnan(values), math.nan, ranks)


def _places(models: Sequence[str], ranked: Table, drawn: Table, *, sign: int) -> tuple[tuple[Place, ...], float]:
    """Of (cases, structures, models) and (draws, structures, models), lower is better; best first, and the stability.

    Draws without a value are left out.
    """
    from scipy.stats import rankdata

    means = _mean(_mean(ranked, axis=0), axis=0)
    draws = _mean(drawn, axis=1)
    draws = np.round(draws[~np.isnan(draws).any(axis=1)], _DIGITS)
    best, worst = (rankdata(draws, method=method, axis=1) for method in ("min", "max"))
    ranks = rankdata(np.round(means, _DIGITS), method="min")
    tail = (1 - CONFIDENCE) / 2
    places = []
    for n, model in enumerate(models):
        at = [_share(best[:, n], worst[:, n], rank) for rank in range(1, len(models) + 1)]
        limits = (math.nan, math.nan)
        if len(draws):
            low = np.quantile(best[:, n], tail, method="inverted_cdf")
            limits = float(low), float(np.quantile(worst[:, n], 1 - tail, method="inverted_cdf"))
        places.append(
            Place(model, sign * float(means[n]), int(ranks[n]) if not np.isnan(means[n]) else 0, limits, tuple(at))
        )
    return tuple(sorted(places, key=lambda place: place.rank)), _stability(means, draws)


def _share(best: Table, worst: Table, rank: int) -> float:
    if not best.size:
        return math.nan
    return float(np.mean(((best <= rank) & (rank <= worst)) / (worst - best + 1)))


def _stability(means: Table, draws: Table) -> float:
    """NaN where tau has no value, i.e. where all are equal."""
    from scipy.stats import kendalltau

    orders, counts = np.unique(np.sign(draws[:, :, None] - draws[:, None, :]), axis=0, return_counts=True)
    if not orders.size or np.isnan(means).any():
        return math.nan
    # Sums of signs have the order of what they are of, so that each order is looked at once.
    taus = np.array([kendalltau(np.round(means, _DIGITS), order.sum(axis=1)).statistic for order in orders])
    known = ~np.isnan(taus)
    return float(np.average(taus[known], weights=counts[known])) if known.any() else math.nan


def _mean(values: Table, axis: int) -> Table:
    """Without NaN; NaN where there is nothing else."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    empty = np.full(counts.shape, math.nan)
    means: Table = np.divide(np.nan_to_num(values).sum(axis=axis), counts, out=empty, where=counts > 0)
    return means
