"""Which cases to annotate next: those of which the model is unsure, and that differ from what was annotated already.

Diversity by greedy k-centre selection (Gonzalez, Clustering to minimize the maximum intercluster distance, 1985; for
learning from few labels: Sener and Savarese, Active learning for convolutional neural networks, 2018), here with each
candidate's distance weighted by its uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.errors import InputError

Matrix = npt.NDArray[np.float64]

_CERTAIN = 0.25
"""The weight of a case of which the model is sure, 1 being that of the least sure one: it may be sure and wrong."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A case as it is compared with others. `features`: by name, in any units; all cases have those of the same names,
    NaN where one is not known. `uncertainty`: 0 (sure) and more, None where nothing tells."""

    key: str
    features: tuple[tuple[str, float], ...]
    uncertainty: float | None = None


class Suggested(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A case to annotate. `score`: its weighted distance when it was chosen; `reason`: in words; `unlike`: features in
    which it is farthest from what was annotated or chosen before it."""

    key: str
    reason: str
    score: float
    unlike: tuple[str, ...] = ()


def suggest(
    candidates: Sequence[Candidate], count: int, *, annotated: Sequence[Candidate] = ()
) -> tuple[Suggested, ...]:
    """`count` of the candidates, or all if there are fewer, the most useful first; none of none.

    Features are standardised by the median and the spread (from 16 % to 84 %) of all cases, annotated ones included;
    one that is the same in all of them says nothing. A score is the distance to the nearest annotated or chosen case,
    times a weight from 0.25 to 1 by the rank of the uncertainty (0.625 where it is not known). Without annotated cases
    distances of the first choice are to the middle of all. Ties go to the first key.
    Raises `InputError` for a count below 1, keys that occur twice and cases with other features.
    """
    _check(candidates, annotated, count)
    if not candidates:
        return ()
    names = tuple(name for name, _ in candidates[0].features)
    ordered = sorted(candidates, key=lambda one: one.key)
    table = standardised(np.array([[value for _, value in one.features] for one in (*ordered, *annotated)], float))
    open_rows, known_rows = table[: len(ordered)], table[len(ordered) :]
    weights = _weights([one.uncertainty for one in ordered])
    ranks = _ranks([one.uncertainty for one in ordered])
    anchors = known_rows if len(known_rows) else np.zeros((1, table.shape[1]))
    distances = np.array([_distances(anchors, row) for row in open_rows])
    nearest, towards = distances.min(axis=1), anchors[distances.argmin(axis=1)]
    chosen: list[Suggested] = []
    left = np.ones(len(ordered), bool)
    for _ in range(min(count, len(ordered))):
        scores = np.where(left, nearest * weights, -1.0)
        n = int(scores.argmax())
        if scores[n] <= 0:  # all that is left is like what is there: then by uncertainty alone
            n = int(np.where(left, weights, -1.0).argmax())
        unlike = _farthest(open_rows[n] - towards[n], names)
        reason = _reason(ranks[n], unlike, first=not annotated and not chosen)
        chosen.append(Suggested(key=ordered[n].key, reason=reason, score=max(float(scores[n]), 0.0), unlike=unlike))
        left[n] = False
        closer = _distances(open_rows, open_rows[n])
        # Without annotated cases there was nothing but the middle, which is no case, to be near to.
        nearer = closer < nearest if annotated or len(chosen) > 1 else np.ones(len(ordered), bool)
        nearest, towards = np.where(nearer, closer, nearest), np.where(nearer[:, None], open_rows[n], towards)
    return tuple(chosen)


def standardised(table: Matrix) -> Matrix:
    """Columns of (cases, features) around their medians in units of half their spread from 16 % to 84 %, where that is
    0 of their standard deviation; 0 where a value is NaN and where a column does not vary. What lies 4 units away
    counts as that: one odd value must not be all that there is to a case."""
    result = np.zeros(table.shape)
    for n, column in enumerate(table.T):
        known = column[np.isfinite(column)]
        if not known.size:
            continue
        low, middle, high = np.quantile(known, (0.16, 0.5, 0.84))
        unit = (high - low) / 2 or float(known.std())
        if unit > 0:
            result[:, n] = np.where(np.isfinite(column), np.clip((column - middle) / unit, -4, 4), 0.0)
    return result


def coverage(rows: Matrix, chosen: Sequence[int]) -> float:
    """How far the cases are on average from the nearest chosen one: smaller is more variety covered. `rows`: (cases,
    features). Raises `ValueError` without a choice."""
    if not chosen:
        raise ValueError("coverage is of chosen cases")
    return float(np.min([_distances(rows, rows[n]) for n in chosen], axis=0).mean())


def _distances(rows: Matrix, point: Matrix) -> Matrix:
    found: Matrix = np.sqrt(((rows - point) ** 2).mean(axis=1)) if rows.shape[1] else np.zeros(len(rows))
    return found


def _ranks(uncertainties: Sequence[float | None]) -> list[float | None]:
    """From 0 to 1 by order among those known, ties in the middle of their ranks; None as it is."""
    known = np.array([value for value in uncertainties if value is not None])
    if not known.size:
        return list(uncertainties)
    below = [None if value is None else (known < value).sum() + (known == value).sum() / 2 for value in uncertainties]
    return [None if rank is None else float(rank) / known.size for rank in below]


def _weights(uncertainties: Sequence[float | None]) -> Matrix:
    ranks = [0.5 if rank is None else rank for rank in _ranks(uncertainties)]
    return np.array([_CERTAIN + (1 - _CERTAIN) * rank for rank in ranks])


def _farthest(difference: Matrix, names: Sequence[str]) -> tuple[str, ...]:
    """Up to three features that differ by a unit or more, the most different first."""
    order = np.argsort(-np.abs(difference), kind="stable")[:3]
    return tuple(names[n] for n in order if abs(difference[n]) >= 1)


def _reason(rank: float | None, unlike: Sequence[str], *, first: bool) -> str:
    words = [] if rank is None or rank < 0.75 else ["the model is less sure of it than of most others"]
    than = "most cases" if first else "what was annotated or is suggested before it"
    words += [f"differs from {than} in {_joined(unlike)}"] if unlike else []
    if not words:
        words = ["fills a gap between the others"]
    text = ", and ".join(words)
    return f"{text[0].upper()}{text[1:]}."


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _check(candidates: Sequence[Candidate], annotated: Sequence[Candidate], count: int) -> None:
    if count < 1:
        raise InputError("how many cases are to be suggested", expected="1 or more", got=count)
    keys = [one.key for one in (*candidates, *annotated)]
    if len(set(keys)) < len(keys):
        raise InputError("cases that occur twice", got=sorted({key for key in keys if keys.count(key) > 1})[:5])
    names = {tuple(name for name, _ in one.features) for one in (*candidates, *annotated)}
    if len(names) > 1:
        raise InputError("cases with other features than others", expected=sorted(names)[0], got=sorted(names)[1])
