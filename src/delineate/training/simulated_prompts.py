"""A person who points, simulated: where they point first, and what they do about a mistake."""

from __future__ import annotations

import edt
import numpy as np

from delineate.geometry import FloatArray, TripleMM, foreground_box
from delineate.inference.prompting import Mask, Prompts

_CLICK, _BOX, _SCRIBBLE = 0.5, 0.25, 0.25  # how often each is what a person begins with
_BOX_ERROR = 0.1  # of the structure's edge, at most, that each side of a box is off
_SCRIBBLED = 0.2  # of the corrections


def first_prompts(target: Mask, spacing_mm: TripleMM, rng: np.random.Generator) -> Prompts:
    """A click, a box or a scribble on a structure (I, J, K); nothing where there is none."""
    box = foreground_box(target)
    if box is None:
        return Prompts()
    kind = rng.choice(3, p=(_CLICK, _BOX, _SCRIBBLE))
    if kind == 1:
        low, high = np.asarray(box.start, dtype=float), np.asarray(box.stop, dtype=float) - 1
        error = _BOX_ERROR * (high - low + 1)
        return Prompts(box=np.array([low + rng.uniform(-error, error), high + rng.uniform(-error, error)]))
    drawn = _click(target, spacing_mm, rng) if kind == 0 else _scribble(target, spacing_mm, rng)
    return Prompts(positive=drawn)


def correction(target: Mask, found: Mask, spacing_mm: TripleMM, rng: np.random.Generator) -> Prompts:
    """A click or scribble on the thickest mistake: positive where the structure was missed; nothing if all is well."""
    missed, added = target & ~found, found & ~target
    depths = [float(_depth(one, spacing_mm).max(initial=0)) for one in (missed, added)]
    if max(depths) == 0:
        return Prompts()
    wrong = missed if depths[0] >= depths[1] else added
    draw = _scribble if rng.random() < _SCRIBBLED else _click
    points = draw(wrong, spacing_mm, rng)
    return Prompts(positive=points) if wrong is missed else Prompts(negative=points)


def _depth(mask: Mask, spacing_mm: TripleMM) -> FloatArray:
    """The distance in mm to the mask's surface, of its voxels; within the smallest box that holds it."""
    box = foreground_box(mask)
    depth = np.zeros(mask.shape)
    if box is not None:
        part = np.ascontiguousarray(mask[box.slices])
        depth[box.slices] = edt.edt(part, anisotropy=spacing_mm, black_border=True, parallel=1)
    return depth


def _click(mask: Mask, spacing_mm: TripleMM, rng: np.random.Generator) -> FloatArray:
    """(1, 3): people click well inside, but seldom in the very middle."""
    depth = _depth(mask, spacing_mm)
    able = np.argwhere(depth >= rng.uniform(0.3, 1.0) * depth.max())
    return able[[rng.integers(len(able))]].astype(np.float64)


def _scribble(mask: Mask, spacing_mm: TripleMM, rng: np.random.Generator) -> FloatArray:
    """(n, 3): a line in a slice, as far as it lies in the mask, a point every voxel."""
    start = _click(mask, spacing_mm, rng)[0]
    able = [axis for axis in range(3) if mask.shape[axis] > 1]
    across = int(rng.choice(able)) if len(able) == 3 else next(a for a in range(3) if a not in able)
    plane = np.argwhere(mask.take(int(start[across]), axis=across))
    end = np.insert(plane[rng.integers(len(plane))].astype(np.float64), across, start[across])
    count = int(np.abs(end - start).max()) + 1
    line = start + np.linspace(0, 1, count)[:, None] * (end - start)
    inside: FloatArray = line[mask[tuple(np.round(line).astype(int).T)]]
    return inside
