"""From what was pointed at to a mask: a guess in coarse cells, then its outline in fine ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from delineate.editing.boxes import Mask, checked_spacing
from delineate.editing.distances import distance_to, signed_distance
from delineate.editing.prompts.geodesic import distances, grown
from delineate.editing.prompts.intensities import likeness, noise_of, smoothed
from delineate.editing.prompts.pointing import PointedAt, Pointing, Proposal, Seeds, seeds_of
from delineate.editing.prompts.walker import walk
from delineate.editing.prompts.windows import Values, Window, around
from delineate.errors import InputError
from delineate.geometry import Box, TripleMM, foreground_box

Method = Literal["auto", "geodesic", "random_walker"]

_COARSE_MM = 3.0  # cells of the first look are at most about this large
_LOOK = 32  # cells on each side of what was pointed at
_FEW = 500  # cells: a guess of fewer is made again in finer ones
_NEAR = 1.8  # cells about a point whose intensities are taken to be those of what is meant
_STEP = 0.2  # the cost of a change of intensity by one standard deviation, in mm
_CLIPPED = 16.0  # standard deviations beyond which a step is no sharper
_BAND = 0.25  # of the radius of a ball of the same volume: how far the outline may be off the guess
_CORE = 0.6  # of a box's sides: the ellipsoid that is taken to be inside, to begin with
_BESIDE = 0.25  # of a box's mean side: how far around it is looked for what it is not
_BOX_CELLS = 48  # along a box's longest side, for the guess
_BOX_TURNS = 2
_CENTRED = 2.0  # the odds (logarithm) that the middle of a box is in the structure, whatever its intensity
_TURNS = 2  # how often the outline is found again with the intensities that it gives


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A window with its intensities, blurred a little, and their noise."""

    window: Window
    image: Values
    noise: float


def propose(
    image: npt.NDArray[Any], pointed: PointedAt, *, spacing_mm: Sequence[float], method: Method = "auto"
) -> Proposal:
    """The mask of what was pointed at in an (I, J, K) image.

    With points, a region grows from them by geodesic distance and stops where its outline is sharpest, at negative
    points, and not before it holds all positive ones. With a box, what lies in it and is unlike what is around it.
    Then the outline is found anew near that guess: by geodesic distances from inside and outside, or by a random
    walker. At most 128 cells along an axis are looked at; in a larger structure several voxels make a cell.
    All points are honoured: a positive one is in the mask, a negative one is not.

    Raises `InputError` if nothing says what is meant, a point lies outside, or a method is not known.
    """
    if image.ndim != 3:
        raise InputError("an image of one channel is needed", expected="(I, J, K)", got=image.shape)
    if method not in ("auto", *REFINERS):
        raise InputError("there is no such method", expected=f"auto, {', '.join(REFINERS)}", got=method)
    spacing, seeds = checked_spacing(spacing_mm), seeds_of(pointed, image.shape)
    guess = _in_box(image, seeds, spacing) if seeds.box else _from_points(image, seeds, spacing)
    chosen = "random_walker" if method == "auto" else method
    return _outlined(image, seeds, spacing, guess, chosen)


def warm_up() -> None:
    """Compiles or loads what proposals need, so that the first person who points at something does not wait for it."""
    image = np.zeros((12, 12, 12), np.float32)
    image[3:9, 3:9, 3:9] = 1
    for method in REFINERS:
        propose(image, Pointing(np.full((1, 3), 5.0), np.full((1, 3), 1.0)), spacing_mm=(1, 1, 1), method=method)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, eq=False)
class Guess:
    """Where something is, roughly: a mask of a window's cells."""

    window: Window
    mask: Mask


def _look(image: npt.NDArray[Any], window: Window) -> Look:
    values = window.means(image)
    return Look(window, smoothed(values), noise_of(values))


def _from_points(image: npt.NDArray[Any], seeds: Seeds, spacing: TripleMM) -> Guess:
    """Looks in cells of a few mm, and again in finer ones if what is found there is small."""
    finest = min(spacing)
    level = max(int(np.floor(np.log2(_COARSE_MM / finest))), 0)
    low, high = seeds.positive.min(axis=0), seeds.positive.max(axis=0)
    while True:
        cell = finest * 2.0**level
        window = around(low, high, _LOOK * cell, cell, spacing, image.shape)
        guess = Guess(window, _grown_from(_look(image, window), seeds, image.shape))
        if level == 0 or guess.mask.sum() >= _FEW:
            return guess
        level -= 1


def _grown_from(look: Look, seeds: Seeds, shape: tuple[int, int, int]) -> Mask:
    window = look.window
    inside, outside = window.cells(seeds.positive), window.cells(seeds.negative)
    outside &= ~inside
    near = _like_seeds(look, inside)
    spread = max(float(np.median(np.abs(look.image[near] - np.median(look.image[near])))) * 1.4826, look.noise / 2)
    alike = likeness(look.image, near, np.ones_like(near), 1.5 * spread)
    units = (look.image / spread).astype(np.float32)
    distance = distances(inside, alike, units, window.cell_mm, contrast=_STEP)
    if outside.any():
        other = likeness(look.image, _like_seeds(look, outside), near, 1.5 * spread)
        rival = distances(outside, other, units, window.cell_mm, contrast=_STEP)
        distance[rival <= distance] = np.inf
    centre = float(np.median(look.image[near]))
    clipped = np.clip((look.image - centre) / max(spread, look.noise), -_CLIPPED, _CLIPPED).astype(np.float32)
    return grown(distance, clipped, window.cell_mm, closed=window.open_border(shape)) | inside


def _like_seeds(look: Look, seeds: Mask) -> Mask:
    """The cells near seeds whose intensity is near that of a seed's: not what is over the edge beside one."""
    from scipy.ndimage import maximum_filter, minimum_filter

    held = np.where(seeds, look.image, np.float32(np.nan))
    low = minimum_filter(np.where(seeds, held, np.inf), 3)
    high = maximum_filter(np.where(seeds, held, -np.inf), 3)
    apart = 2 * look.noise
    near: Mask = _cells_near(seeds) & (look.image >= low - apart) & (look.image <= high + apart)
    return near | seeds


def _cells_near(cells: Mask) -> Mask:
    near: Mask = distance_to(cells, (1.0, 1.0, 1.0)) <= _NEAR
    return near


def _in_box(image: npt.NDArray[Any], seeds: Seeds, spacing: TripleMM) -> Guess:
    """Like the core of the box rather than what is around it, and near its middle rather than in its corners.

    With positive points in it: like these, wherever in the box, in one piece with one of them.
    The random walker decides where both leave it open; what it finds is the core of the next turn (Rother et al. 2004).
    """
    assert seeds.box is not None
    low, high = np.array(seeds.box.start), np.array(seeds.box.stop) - 1
    sides = (high - low + 1) * spacing
    margin = _BESIDE * float(sides.mean())
    first, last = np.vstack([low, seeds.positive]).min(axis=0), np.vstack([high, seeds.positive]).max(axis=0)
    window = around(first, last, margin, float(sides.max()) / _BOX_CELLS, spacing, image.shape)
    look = _look(image, window)
    radius = _from_middle(window, seeds.box)
    positive, negative = window.cells(seeds.positive), window.cells(seeds.negative)
    inside = window.cells_of(seeds.box) | positive
    negative &= ~positive
    said = bool(positive.any())
    core = max(_CORE, float(radius[inside].min()))
    mask: Mask = _like_seeds(look, positive) & inside if said else (radius <= core) & inside
    for _ in range(_BOX_TURNS):
        alike = likeness(look.image, mask & ~negative, ~inside | (inside & ~mask & (radius > 1)), look.noise)
        odds = np.log(alike + 1e-3) - np.log(1 - alike + 1e-3)
        odds += (_CENTRED / 2 if said else _CENTRED) * (1 - radius)
        belief = (1 / (1 + np.exp(-odds))).astype(np.float32)
        start = np.where(positive, 1, np.where(inside & ~negative, belief, 0)).astype(np.float32)
        free = inside & ~positive & ~negative
        found = walk(start, free, look.image, belief, window.cell_mm, noise=look.noise) > 0.5
        mask = _held(found, positive) if said else _largest(found) if found.any() else mask
    return Guess(window, mask | positive)


def _from_middle(window: Window, box: Box) -> Values:
    """How far each cell is from a box's middle: 1 on the ellipsoid that touches its sides."""
    square = np.zeros((1, 1, 1))
    for axis in range(3):
        cells = window.box.start[axis] + (np.arange(window.shape[axis]) + 0.5) * window.strides[axis] - 0.5
        middle, half = (box.start[axis] + box.stop[axis] - 1) / 2, (box.stop[axis] - box.start[axis]) / 2
        square = square + np.expand_dims(((cells - middle) / half) ** 2, [n for n in range(3) if n != axis])
    radius: Values = np.sqrt(square).astype(np.float32)
    return radius


def _largest(mask: Mask) -> Mask:
    import cc3d

    pieces = cc3d.connected_components(mask.astype(np.uint8), connectivity=6)
    voxels = np.bincount(pieces.ravel())
    voxels[0] = 0
    kept: Mask = pieces == voxels.argmax()
    return kept


def _outlined(image: npt.NDArray[Any], seeds: Seeds, spacing: TripleMM, guess: Guess, method: str) -> Proposal:
    found = foreground_box(guess.mask)
    assert found is not None
    strides = np.array(guess.window.strides)
    low = np.array(guess.window.box.start) + np.array(found.start) * strides
    high = np.array(guess.window.box.start) + np.array(found.stop) * strides - 1
    radius = (3 * guess.mask.sum() * guess.window.cell_volume / (4 * np.pi)) ** (1 / 3)
    band = max(_BAND * radius, 1.5 * max(guess.window.cell_mm))
    window = around(low, np.minimum(high, np.array(image.shape) - 1), 2 * band, 0.0, spacing, image.shape)
    look = _look(image, window)
    mask = _placed(guess, window)
    for turn in range(_TURNS):
        mask = _refined(look, mask, seeds, max(band / 2**turn, 1.5 * max(window.cell_mm)), REFINERS[method])
    return Proposal(window.box, _honoured(window.voxels(mask).copy(), window, seeds), method)


def _placed(guess: Guess, window: Window) -> Mask:
    """The guess in the cells of another window that holds it."""
    fine = guess.window.voxels(guess.mask)
    whole = np.zeros(window.box.shape, np.float32)
    low = np.maximum(guess.window.box.start, window.box.start)
    high = np.minimum(guess.window.box.stop, window.box.stop)
    to = tuple(slice(a, b) for a, b in zip(low - window.box.start, high - window.box.start, strict=True))
    of = tuple(slice(a, b) for a, b in zip(low - guess.window.box.start, high - guess.window.box.start, strict=True))
    whole[to] = fine[of]
    own = Window(Box((0, 0, 0), window.box.shape), window.strides, window.cell_mm)
    mask: Mask = own.means(whole) > 0.5
    return mask


Refiner = Callable[[Look, Values, Mask, Mask, Mask], Mask]


def _refined(look: Look, mask: Mask, seeds: Seeds, band_mm: float, refine: Refiner) -> Mask:
    """The outline anew, within the band about it; what is deeper is inside, what is farther is outside."""
    window = look.window
    positive, negative = window.cells(seeds.positive), window.cells(seeds.negative)
    depth = signed_distance(mask, window.cell_mm)
    deepest = float(depth.max())
    inside = (depth > min(band_mm, 0.7 * deepest)) | positive
    outside = (depth < -band_mm) | (negative & ~positive)
    if seeds.box is not None:
        outside |= ~window.cells_of(seeds.box)
        outside &= ~positive
    inside &= ~outside
    shell = (depth < 0) & (depth > -2 * band_mm)
    alike = likeness(look.image, mask, shell if shell.any() else ~mask, look.noise)
    new = refine(look, alike, mask, inside, outside)
    return _held(new, positive if positive.any() else inside)


def _held(mask: Mask, seeds: Mask) -> Mask:
    """The pieces of a mask that hold a seed."""
    import cc3d

    pieces = cc3d.connected_components((mask | seeds).astype(np.uint8), connectivity=6)
    wanted = np.zeros(int(pieces.max()) + 1, np.bool_)
    wanted[np.unique(pieces[seeds])] = True
    wanted[0] = False
    kept: Mask = wanted[pieces]
    return kept


def _by_walker(look: Look, alike: Values, mask: Mask, inside: Mask, outside: Mask) -> Mask:
    probable = np.where(inside, 1, np.where(outside, 0, mask)).astype(np.float32)
    free = ~(inside | outside)
    meant: Mask = walk(probable, free, look.image, alike, look.window.cell_mm, noise=look.noise) > 0.5
    return meant


def _by_distance(look: Look, alike: Values, mask: Mask, inside: Mask, outside: Mask) -> Mask:
    from scipy.ndimage import maximum_filter

    units = (look.image / look.noise).astype(np.float32)
    near: Mask = maximum_filter(~(inside | outside), 3)  # and the seeds beside it, where ways begin
    ways = [
        distances(seeds, like, units, look.window.cell_mm, contrast=_STEP, within=near & ~others)
        for seeds, like, others in ((inside, alike, outside), (outside, 1 - alike, inside))
    ]
    meant: Mask = (ways[0] < ways[1]) | inside
    return meant


REFINERS: dict[str, Refiner] = {"geodesic": _by_distance, "random_walker": _by_walker}


def _honoured(mask: Mask, window: Window, seeds: Seeds) -> Mask:
    """Voxel by voxel what was said, even where several make a cell."""
    if seeds.box is not None:
        low, high = (np.array(end) - window.box.start for end in (seeds.box.start, seeds.box.stop))
        within = np.zeros_like(mask)
        within[tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low.tolist(), high.tolist(), strict=True))] = True
        mask = mask & within
    for places, said in ((seeds.positive, True), (seeds.negative, False)):
        inside = places[((places >= window.box.start) & (places < window.box.stop)).all(axis=1)]
        mask[tuple((inside - window.box.start).T)] = said
    return mask
