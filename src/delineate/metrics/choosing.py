"""Which figures say something about a structure, given its size, its shape and the voxels it is drawn in.

The questions are those of Metrics Reloaded (Maier-Hein, Reinke et al., "Metrics reloaded: recommendations for image
analysis validation", Nat Methods 2024) and of Reinke et al., "Understanding metric-related pitfalls in image analysis
validation", Nat Methods 2024: is the structure small against the voxels, is it a tube, are there several? The papers
leave the thresholds to the reader; ours are the constants below, each with what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import groupby

from delineate.metrics.definitions import METRICS
from delineate.metrics.shapes import StructureShape, describe_shape, describe_shapes

__all__ = [
    "Advice",
    "Doubt",
    "Reason",
    "StructureShape",
    "advise",
    "advise_for_all",
    "describe_shape",
    "describe_shapes",
]

FEW_VOXELS = 50
"""Below this, one voxel changes Dice by 0.01 or more, which is as much as good models differ by."""
MOSTLY_BORDER = 0.5
"""Share of border voxels above which a prediction one voxel too small all round has a Dice below 0.67."""
THIN_TUBE = 1 / 3
"""Share of border voxels above which a tube is so thin, about ten voxels, that its width rules Dice."""
BULKY_DICE = 0.9
"""A Dice that a prediction one voxel too small all round still reaches in bulky structures."""
THICK_SLICES = 3
"""Slices this many times as far apart as voxels within them make the largest distance a count of slices."""
FEW_SLICES = 10
"""A structure on fewer slices has more than a twentieth of its surface on the first and last, which is HD95's share."""
LARGEST_PIECE = 0.9
"""Share of the volume below which the other pieces matter."""
COMMON = 0.25
"""Share of the cases from which on a doubt holds for the structure's mean over all cases."""

_OVERLAPS = ("dice", "iou", "precision", "recall", "volume_similarity", "surface_dice", "boundary_iou")


class Doubt(Enum):
    """Why a figure says little about a structure."""

    EMPTY = "no voxels"
    FEW_VOXELS = "few voxels"
    MOSTLY_BORDER = "mostly border"
    BULKY = "bulky"
    TUBE = "tube"
    PIECES = "several pieces"
    THICK_SLICES = "thick slices"
    FINE_TOLERANCE = "tolerance finer than the voxels"
    WIDE_TOLERANCE = "tolerance wider than the structure"


@dataclass(frozen=True, slots=True)
class Reason:
    """One doubt in `words`: about which `metrics` (none if they only need reading with care), and what says more."""

    doubt: Doubt
    words: str
    metrics: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Advice:
    """Names of figures to trust and to distrust, and why.

    Names are those of `definitions.METRICS`; `cldice` is that of `tubes`, and `lesion_f1` and `lesion_sensitivity`
    are `f1` and `sensitivity` of `lesions`.
    """

    trusted: tuple[str, ...]
    distrusted: tuple[str, ...]
    reasons: tuple[Reason, ...]


def advise(shape: StructureShape, *, tolerance_mm: float | None = None) -> Advice:
    """Which figures to trust for one structure; `tolerance_mm` of the surface Dice and boundary IoU, where known."""
    return _advice(_reasons(shape, tolerance_mm))


def advise_for_all(shapes: Sequence[StructureShape], *, tolerance_mm: float | None = None) -> Advice:
    """Which figures to trust for a structure's means over cases, from its shape in each of them.

    A doubt counts if it holds in a quarter of the cases that have the structure; its words say in how many, and
    are those of the case of the median volume among them. No cases, or none with voxels: as `advise` for no voxels.
    """
    present = sorted((shape for shape in shapes if shape.voxels), key=lambda shape: shape.volume_ml)
    if not present:
        return _advice(_no_voxels())
    found = [reason for shape in present for reason in _reasons(shape, tolerance_mm)]
    order = list(Doubt)
    found.sort(key=lambda reason: order.index(reason.doubt))
    common = []
    for _, group in groupby(found, key=lambda reason: reason.doubt):
        alike = list(group)
        if len(alike) >= COMMON * len(present):
            middle = alike[len(alike) // 2]
            words = f"in {len(alike)} of {len(present)} cases: {middle.words}" if len(present) > 1 else middle.words
            common.append(Reason(middle.doubt, words, middle.metrics, middle.instead))
    return _advice(common)


def _advice(reasons: Sequence[Reason]) -> Advice:
    names = tuple(metric.name for metric in METRICS)
    doubted = {name for reason in reasons for name in reason.metrics}
    instead = dict.fromkeys(name for reason in reasons for name in reason.instead if name not in names)
    trusted = tuple(name for name in names if name not in doubted)
    return Advice((*trusted, *instead), tuple(name for name in names if name in doubted), tuple(reasons))


def _reasons(shape: StructureShape, tolerance_mm: float | None) -> list[Reason]:
    if not shape.voxels:
        return _no_voxels()
    size = _few_voxels(shape) or (*_tube(shape), *_border(shape))
    fit = _tolerance(shape, tolerance_mm) if tolerance_mm is not None else ()
    return [*size, *_pieces(shape), *_slices(shape), *fit]


def _no_voxels() -> list[Reason]:
    words = "the reference has no voxels: only whether something was predicted counts"
    return [Reason(Doubt.EMPTY, words, tuple(metric.name for metric in METRICS))]


def _few_voxels(shape: StructureShape) -> tuple[Reason, ...]:
    if shape.voxels >= FEW_VOXELS:
        return ()
    count = "1 voxel" if shape.voxels == 1 else f"{shape.voxels} voxels"
    words = f"{count}: one voxel changes Dice by {shape.dice_of_one_voxel:.2g}; count what was found, and where"
    return (
        Reason(
            Doubt.FEW_VOXELS,
            words,
            (*_OVERLAPS, "volume_error_percent"),
            ("lesion_sensitivity", "lesion_f1", "centroid_distance_mm"),
        ),
    )


def _tube(shape: StructureShape) -> tuple[Reason, ...]:
    if not shape.tubular:
        return ()
    size = f"a tube about {shape.length_mm:.0f} mm long and {shape.tube_width_mm:.2g} mm wide"
    if shape.border_share > THIN_TUBE:
        words = f"{size}: its width rules Dice, and a gap hardly lowers it; clDice sees the gap"
        return (Reason(Doubt.TUBE, words, ("dice", "iou", "boundary_iou", "centroid_distance_mm"), ("cldice",)),)
    return (Reason(Doubt.TUBE, f"{size}: Dice hardly sees a gap; clDice does", instead=("cldice",)),)


def _border(shape: StructureShape) -> tuple[Reason, ...]:
    share, off = f"{100 * shape.border_share:.0f} %", f"{shape.dice_one_voxel_off:.2f}"
    instead = ("surface_dice", "mean_surface_distance_mm", "hd95_mm")
    if shape.border_share > MOSTLY_BORDER:
        words = f"{share} of its voxels lie at the border: one voxel too small all round, Dice is {off}"
        return (Reason(Doubt.MOSTLY_BORDER, words, ("dice", "iou"), instead),)
    if shape.dice_one_voxel_off >= BULKY_DICE:
        words = f"Dice is {off} even one voxel too small all round: errors at the border show in surface distances"
        return (Reason(Doubt.BULKY, words, instead=instead),)
    return ()


def _pieces(shape: StructureShape) -> tuple[Reason, ...]:
    if shape.pieces < 2 or shape.largest_piece >= LARGEST_PIECE or shape.tubular:
        return ()
    words = (
        f"{shape.pieces} pieces, the largest with {100 * shape.largest_piece:.0f} % of the volume: Dice of the whole "
        "can hide that small ones are missed"
    )
    return (Reason(Doubt.PIECES, words, instead=("lesion_sensitivity", "lesion_f1")),)


def _slices(shape: StructureShape) -> tuple[Reason, ...]:
    thickest, finest = max(shape.spacing_mm), min(shape.spacing_mm)
    if thickest < THICK_SLICES * finest:
        return ()
    slices = shape.extent_voxels[shape.spacing_mm.index(thickest)]
    on = "1 slice" if slices == 1 else f"{slices} slices"
    words = f"on {on}, {thickest:.2g} mm apart: one slice more or less is a distance of {thickest:.2g} mm"
    metrics = ("hd95_mm", "hd_mm") if slices < FEW_SLICES else ("hd_mm",)
    return (Reason(Doubt.THICK_SLICES, words, metrics, ("mean_surface_distance_mm",)),)


def _tolerance(shape: StructureShape, tolerance_mm: float) -> tuple[Reason, ...]:
    reasons = []
    if tolerance_mm < min(shape.spacing_mm):
        words = f"a tolerance of {tolerance_mm:.2g} mm is less than any voxel's edge: no voxel may differ"
        reasons.append(Reason(Doubt.FINE_TOLERANCE, words, ("surface_dice",)))
    elif tolerance_mm < max(shape.spacing_mm):
        words = (
            f"a tolerance of {tolerance_mm:.2g} mm is less than the {max(shape.spacing_mm):.2g} mm between slices: "
            "one slice off counts as wrong"
        )
        reasons.append(Reason(Doubt.FINE_TOLERANCE, words))
    if tolerance_mm >= shape.radius_mm:
        words = (
            f"all of it lies within {tolerance_mm:.2g} mm of its border, so boundary IoU repeats IoU, and surface Dice "
            "forgives what is as thick as the structure"
        )
        reasons.append(Reason(Doubt.WIDE_TOLERANCE, words, ("boundary_iou", "surface_dice")))
    return tuple(reasons)
