"""Whether two images are nearly the same: their descriptors laid over each other, mirrored and shifted.

From coarse to fine, by the correlation of the cubes that both images have (as in Padfield, Masked object registration
in the Fourier domain, 2012, for few shifts at a time).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from delineate.evaluation.descriptors import CELLS, HALVINGS, Array, ImageDescriptor, Mask, Picture, Stored

THRESHOLD = 0.85
"""Images whose likeness is at least this are nearly the same: see docs/leakage.md for what it was measured on."""

_COARSE_THRESHOLD = 0.72  # below it a pair is not looked at: 0.76 was the least of copies with a third of them cut off
_HOPELESS = 0.75  # on the way, below which a pair is not refined: 0.91 was the least of copies
_HYPOTHESES = 4
_COARSE_SHIFT = 2  # of the 10 coarsest cubes, either way
_SHARED = 0.5  # of the smaller image's cubes that must lie in the other
_LEAST_CELLS = 27
_BLOCK = 256  # descriptors compared at once
_FLIPS = tuple(tuple(axis for axis in range(3) if bits >> axis & 1) for bits in range(8))

Shift = tuple[int, int, int]
Hypothesis = tuple[tuple[int, ...], Shift]  # mirrored axes, and by how many cubes it is shifted


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two images are: the `correlation` (-1..1) where they fit best, and the axes that are mirrored there.

    The mean of the correlation of all and of that of what lies inside the body, away from the air around it.
    -1 where they cannot be compared: one is more than 1.4 times as long in mm, or has no structure.
    """

    correlation: float
    flipped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two images that are nearly the same, by the names they were given under."""

    first: str
    second: str
    likeness: Likeness


def likeness(first: ImageDescriptor, second: ImageDescriptor) -> Likeness:
    """How alike two images are, in any of 8 mirrorings, shifted by up to a fifth of a picture's side."""
    shared = (picture.cell_mm for picture in reversed(first.pictures) if second.on_cells(picture.cell_mm))
    cell_mm = next(shared, None)
    if cell_mm is None:
        return Likeness(-1.0)
    pictures = first.on_cells(cell_mm), second.on_cells(cell_mm)
    assert pictures[0] is not None
    assert pictures[1] is not None
    return _refined(pictures[0], pictures[1])


def find_near_duplicates(
    descriptors: Mapping[str, ImageDescriptor],
    *,
    others: Mapping[str, ImageDescriptor] | None = None,
    threshold: float = THRESHOLD,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[NearDuplicate, ...]:
    """Pairs of images that are nearly the same, the most alike first.

    Within one set of images, or, where `others` are given, of one image of `descriptors` and one of `others` each.
    `tell`: told how many images were compared, of how many.
    """
    names = list(descriptors)
    partners = list(descriptors if others is None else others)
    known = list((descriptors if others is None else others).values())
    found = []
    for n, name in enumerate(names):
        start = n + 1 if others is None else 0
        coarse = coarse_likeness(descriptors[name], known[start:])
        for m in np.flatnonzero(coarse >= _COARSE_THRESHOLD):
            alike = likeness(descriptors[name], known[start + m])
            if alike.correlation >= threshold:
                found.append(NearDuplicate(name, partners[start + m], alike))
        tell(n + 1, len(names))
    return tuple(sorted(found, key=lambda pair: (-pair.likeness.correlation, pair.first, pair.second)))


def coarse_likeness(first: ImageDescriptor, others: Sequence[ImageDescriptor]) -> Array:
    """A quick look at many images: about their correlation on the coarsest cubes, (N,); -1 as `Likeness`."""
    result = np.full(len(others), -1.0, dtype=np.float32)
    for picture in first.pictures:
        matches = [(n, other.on_cells(picture.cell_mm)) for n, other in enumerate(others)]
        there = [(n, match) for n, match in matches if match is not None]
        for start in range(0, len(there), _BLOCK):
            block = there[start : start + _BLOCK]
            columns = np.stack([_normalised(match.pyramid[-1]) for _, match in block], axis=1)
            rows = [n for n, _ in block]
            result[rows] = np.maximum(result[rows], (_bank(picture) @ columns).max(axis=0))
    return result


@cache
def _coarse_shifts() -> tuple[Shift, ...]:
    steps = range(-_COARSE_SHIFT, _COARSE_SHIFT + 1)
    return tuple(itertools.product(steps, steps, steps))


@cache
def _places() -> npt.NDArray[np.int32]:
    """Which cube each cube of each mirroring and shift comes from, (8 * shifts, cubes); past the end: from outside."""
    side = CELLS >> HALVINGS
    cubes = np.arange(side**3, dtype=np.int32).reshape(side, side, side)
    rows = []
    for flip, shift in itertools.product(_FLIPS, _coarse_shifts()):
        place = np.full_like(cubes, cubes.size)
        to, source = _overlap(cubes.shape, shift)
        place[to] = np.flip(cubes, flip)[source]
        rows.append(place.ravel())
    return np.stack(rows)


@lru_cache(maxsize=4)  # the same picture is compared with many
def _bank(picture: Picture) -> Array:
    """The coarsest picture in all mirrorings and shifts, each row normalised, (8 * shifts, cubes)."""
    table = np.append(_wide(picture.pyramid[-1]).ravel(), np.float32(0))[_places()]
    bank: Array = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    return bank


def _wide(values: Stored) -> Array:
    wide: Array = values.astype(np.float32)
    return wide


def _normalised(values: Stored) -> Array:
    wide = _wide(values).ravel()
    normalised: Array = wide / max(float(np.linalg.norm(wide)), 1e-12)
    return normalised


def _refined(first: Picture, second: Picture) -> Likeness:
    """The best correlation on the finest cubes, found from coarse to fine; what is unlike on the way is left there."""
    scores = _bank(first) @ _normalised(second.pyramid[-1])
    shifts = _coarse_shifts()
    likely = np.argsort(scores)[::-1][:_HYPOTHESES].tolist()
    hypotheses: list[Hypothesis] = [(_FLIPS[n // len(shifts)], shifts[n % len(shifts)]) for n in likely]
    for level in range(HALVINGS - 1, -1, -1):
        correlation, best = max(_nearby(first, second, hypothesis, level=level) for hypothesis in hypotheses)
        if correlation < _HOPELESS:
            return Likeness(correlation, best[0])
        hypotheses = [best]
    return Likeness((correlation + _inside(first, second, best, correlation)) / 2, best[0])


def _inside(first: Picture, second: Picture, place: Hypothesis, otherwise: float) -> float:
    """The correlation of what lies inside both bodies; `otherwise` where next to nothing does."""
    if min(np.count_nonzero(picture.inside_mask) for picture in (first, second)) < _LEAST_CELLS:
        return otherwise
    flip, shift = place
    turned = np.flip(_wide(first.inside), flip), np.flip(first.inside_mask, flip)
    return _correlation(*turned, _wide(second.inside), second.inside_mask, shift)


def _nearby(first: Picture, second: Picture, hypothesis: Hypothesis, *, level: int) -> tuple[float, Hypothesis]:
    """The best of 27 shifts around one that was found on cubes of twice the size."""
    flip, (i, j, k) = hypothesis
    turned, other = np.flip(_wide(first.pyramid[level]), flip), _wide(second.pyramid[level])
    steps = itertools.product((-1, 0, 1), repeat=3)
    shifts = [(2 * i + a, 2 * j + b, 2 * k + c) for a, b, c in steps]
    # Values have a mean of about 0 and are 0 outside, so their product says where they fit best, and fast.
    best = max(shifts, key=lambda shift: _product(turned, other, shift))
    mask = np.flip(first.masks[level], flip)
    return _correlation(turned, mask, other, second.masks[level], best), (flip, best)


def _product(first: Array, second: Array, shift: Shift) -> float:
    to, source = _overlap(first.shape, shift)
    return float(np.einsum("ijk,ijk->", first[source], second[to]))


def _correlation(first: Array, first_mask: Mask, second: Array, second_mask: Mask, shift: Shift) -> float:
    """Pearson's correlation of the cubes that both images have, the first one shifted; -1 where they share too few."""
    to, source = _overlap(first.shape, shift)
    both = first_mask[source] & second_mask[to]
    least = _SHARED * min(np.count_nonzero(first_mask), np.count_nonzero(second_mask))
    if np.count_nonzero(both) < max(_LEAST_CELLS, least):
        return -1.0
    a, b = first[source][both], second[to][both]
    a, b = a - a.mean(), b - b.mean()
    spread = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return min(float(a @ b) / spread, 1.0) if spread > 0 else -1.0


def _overlap(shape: Sequence[int], shift: Shift) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a shifted array lies in one of the same shape, and which part of it that is."""
    to = tuple(slice(max(0, s), max(0, min(n, n + s))) for n, s in zip(shape, shift, strict=True))
    source = tuple(slice(max(0, -s), max(0, min(n, n - s))) for n, s in zip(shape, shift, strict=True))
    return to, source
