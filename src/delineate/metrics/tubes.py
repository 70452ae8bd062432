"""Centre lines of vessels, airways and other tubes: how much of them was found, and how much was made up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from delineate.geometry import FloatArray
from delineate.metrics.counting import checked_spacing
from delineate.metrics.definitions import Better, Metric, Miss

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

TUBE_METRICS: tuple[Metric, ...] = (
    Metric(
        "cldice",
        "clDice",
        "",
        Better.HIGHER,
        Miss.ZERO,
        "harmonic mean of topology precision and topology sensitivity",
        "Shit et al. 2021",
    ),
    Metric(
        "topology_sensitivity",
        "Length found",
        "",
        Better.HIGHER,
        Miss.ZERO,
        "share of the reference's centre line that lies in the prediction",
        "Shit et al. 2021",
    ),
    Metric(
        "topology_precision",
        "Length that is right",
        "",
        Better.HIGHER,
        Miss.ZERO,
        "share of the prediction's centre line that lies in the reference",
        "Shit et al. 2021",
    ),
)
"""The figures of `TubeScores`."""

# Each pair of neighbours once: the 13 steps whose first component that is not 0 is positive.
_STEPS = tuple(step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0))

# Axes along which a piece is made one layer thicker where thinning fails.
_THICKER = ((0, 1, 2), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2))


@dataclass(frozen=True, slots=True)
class TubeScores:
    """The centre lines of one structure in one case.

    | reference | prediction | topology_precision | topology_sensitivity | cldice |
    |-----------|------------|--------------------|----------------------|--------|
    | some      | some       | 0 to 1             | 0 to 1               | 0 to 1 |
    | some      | none       | NaN                | 0                    | 0      |
    | none      | some       | 0                  | NaN                  | 0      |
    | none      | none       | NaN                | NaN                  | NaN    |

    In means a precision of nothing predicted counts as 0 (`Metric.miss`). `..._mm`: the length of each centre line;
    `..._pieces`: 26-connected components of each mask, so that a vessel broken in two is seen.
    """

    cldice: float
    topology_precision: float
    topology_sensitivity: float
    reference_mm: float
    prediction_mm: float
    reference_pieces: int
    prediction_pieces: int


@dataclass(frozen=True, slots=True)
class CentreLine:
    """Voxels of a mask's skeleton: (N, 3) `points` in the array's indices, (N,) the `length_mm` each stands for."""

    points: npt.NDArray[np.int64]
    length_mm: FloatArray
    pieces: int

    @property
    def total_mm(self) -> float:
        return float(self.length_mm.sum())

    def share_in(self, mask: Mask) -> float:
        """The share of the length that lies in a mask; NaN for a line without points."""
        if not len(self.points):
            return math.nan
        return float(self.length_mm[mask[tuple(self.points.T)]].sum()) / self.total_mm


def score_tubes(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> TubeScores:
    """clDice of two (I, J, K) masks (Shit et al., "clDice", CVPR 2021, equations 1 and 2), with lengths in mm.

    The paper counts skeleton voxels; here each counts with the length that it stands for, because with thick slices a
    voxel along a vessel through the slices is several times as long as one within a slice. With equal spacings and
    straight tubes both are the same. For masks without voxels see `TubeScores`. Raises as `centre_line`, and
    `ValueError` for masks of different shapes.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"two masks of one shape are needed: got {reference.shape}, {prediction.shape}")
    lines = centre_line(reference, spacing_mm), centre_line(prediction, spacing_mm)
    sensitivity, precision = lines[0].share_in(prediction), lines[1].share_in(reference)
    return TubeScores(
        cldice=_harmonic_mean(precision, sensitivity),
        topology_precision=precision,
        topology_sensitivity=sensitivity,
        reference_mm=lines[0].total_mm,
        prediction_mm=lines[1].total_mm,
        reference_pieces=lines[0].pieces,
        prediction_pieces=lines[1].pieces,
    )


def centre_line(mask: Mask, spacing_mm: Sequence[float]) -> CentreLine:
    """The skeleton of an (I, J, K) mask (Lee, Kashyap, Chu 1994), piece by piece; every piece has one.

    A voxel stands for half the way to each of its skeleton neighbours (of 26), or, alone, for the mean edge of a voxel.
    The line follows the voxels, so that a curve's length is up to a tenth too long; and it may lie one voxel aside
    when the array's axes run the other way. An empty mask has no points. Raises `TypeError` for a mask that is not of
    bool, `ValueError` unless it is 3D and the spacing three positive numbers.
    """
    import cc3d
    from scipy.ndimage import find_objects

    if mask.dtype != bool:
        raise TypeError(f"masks are bool arrays: got {mask.dtype}")
    spacing = checked_spacing(spacing_mm)
    if mask.ndim != 3:
        raise ValueError(f"a mask (I, J, K) is needed: got shape {mask.shape}")
    # A copy: cc3d takes no arrays that must not be written to.
    components = cc3d.connected_components(mask.astype(np.uint8), connectivity=26)
    boxes = find_objects(components)
    parts = [
        _measure(_skeleton(components[box] == number), np.array([s.start for s in box]), np.array(spacing))
        for number, box in enumerate(boxes, start=1)
    ]
    points = np.concatenate([np.empty((0, 3), dtype=np.int64), *(points for points, _ in parts)])
    return CentreLine(points, np.concatenate([np.empty(0), *(lengths for _, lengths in parts)]), len(boxes))


def _skeleton(piece: Mask) -> Mask:
    """The skeleton of one connected piece, in one piece wherever thinning can be brought to it.

    skimage's thinning takes the last two layers of a tube of even width away together, so that a vessel of 2 x 2 voxels
    leaves nothing. One layer more on one side of an axis makes its width odd, and its middle stays inside.
    """
    if piece.sum() <= 2:
        return piece
    thin = _thin(piece)
    if _pieces(thin) == 1:
        return thin
    left = thin
    for axes in _THICKER:
        thickened = np.pad(piece, ((0, 1),) * 3)
        for axis in axes:
            thickened |= np.roll(thickened, 1, axis=axis)
        thin = _thin(thickened)[:-1, :-1, :-1] & piece
        if _pieces(thin) == 1:
            return thin
        left = max(left, thin, key=np.count_nonzero)
    # A lump with hollows: what is left of it, in pieces or not.
    return left if left.any() else _deepest(piece)


def _thin(piece: Mask) -> Mask:
    from skimage.morphology import skeletonize

    thin: Mask = np.asarray(skeletonize(piece, method="lee")) > 0  # type: ignore[no-untyped-call]
    return thin


def _pieces(mask: Mask) -> int:
    import cc3d

    return int(cc3d.connected_components(mask.astype(np.uint8), connectivity=26, return_N=True)[1])


def _deepest(piece: Mask) -> Mask:
    """One voxel as far inside as any: for lumps of which thinning leaves nothing."""
    import edt

    depth = edt.edt(np.ascontiguousarray(piece), black_border=True)
    deepest = np.zeros_like(piece)
    deepest[np.unravel_index(int(depth.argmax()), piece.shape)] = True
    return deepest


def _measure(skeleton: Mask, start: Array, spacing_mm: FloatArray) -> tuple[Array, FloatArray]:
    """Points in the whole array, and the length that each stands for."""
    points = np.argwhere(skeleton)
    padded = np.pad(np.where(skeleton, 1, 0), 1)
    padded[padded > 0] = np.arange(1, len(points) + 1)
    lengths = np.zeros(len(points) + 1)
    at = tuple((points + 1).T)
    for step in _STEPS:
        neighbours = padded[tuple(a + s for a, s in zip(at, step, strict=True))]
        half = float(np.linalg.norm(np.array(step) * spacing_mm)) / 2 * (neighbours > 0)
        lengths[1:] += half
        np.add.at(lengths, neighbours, half)
    lengths = lengths[1:]
    lengths[lengths == 0] = spacing_mm.mean()
    return points + start, lengths


def _harmonic_mean(precision: float, sensitivity: float) -> float:
    if math.isnan(precision) and math.isnan(sensitivity):
        return math.nan
    if math.isnan(precision) or math.isnan(sensitivity) or precision + sensitivity == 0:
        return 0.0
    return 2 * precision * sensitivity / (precision + sensitivity)
