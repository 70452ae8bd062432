"""What is left of an organ after a planned resection: by a plane, by a margin around lesions, by segments.

All that is computed here is volume. Whether a remnant is enough is not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delineate.errors import InputError
from delineate.findings import Finding
from delineate.geometry import Grid, TripleMM, index_to_world
from delineate.labels import Label, LabelSet
from delineate.measurement.components import joined, joined_box
from delineate.measurement.contacts import contact, placed
from delineate.measurement.cropping import Cropped, crop_structure
from delineate.measurement.lesions import Lesion, LesionReport
from delineate.measurement.quantities import (
    BODY_SURFACE_AREA,
    ESTIMATED_VOLUME,
    FUNCTIONAL_VOLUME,
    MILLILITRE,
    PERCENT,
    REMNANT_SHARE,
    REMNANT_VOLUME,
    SQUARE_METRE,
    STANDARDISED_REMNANT,
)
from delineate.measurement.safety import taken_by_margin
from delineate.measurement.shapes import cut_words
from delineate.terminology import concept_of
from delineate.volume import Segmentation, structure_boxes

Fractions = npt.NDArray[np.float32]

_LIVER = "10200004"
_BODY_RANGES = {"height_cm": (100.0, 250.0), "weight_kg": (20.0, 400.0)}  # of the adults that the formula is for
_LEFT = 0.01  # of a lesion: less is a matter of voxels
BSA_WORDS = "square root of height in cm x weight in kg / 3600 (Mosteller 1987)"
TLV_WORDS = "-794.41 + 1267.28 x body surface area in m2 (Vauthey et al. 2002)"


@dataclass(frozen=True, slots=True)
class Plane:
    """A cut. `point_mm`: on it, LPS; `normal`: points to the side that is kept, of any length.

    Raises `InputError` for numbers that are not finite, and for a direction without length.
    """

    point_mm: TripleMM
    normal: TripleMM

    def __post_init__(self) -> None:
        numbers = (*self.point_mm, *self.normal)
        if len(numbers) != 6 or not all(math.isfinite(one) for one in numbers) or not any(self.normal):
            raise InputError(
                "not a plane",
                expected="a point in mm and a direction, as x,y,z,nx,ny,nz in LPS",
                got=", ".join(f"{one:g}" for one in numbers),
            )


@dataclass(frozen=True, slots=True)
class BodySize:
    """Raises `InputError` outside 100 to 250 cm and 20 to 400 kg: the formula that needs them is for adults."""

    height_cm: float
    weight_kg: float

    def __post_init__(self) -> None:
        for name, (low, high) in _BODY_RANGES.items():
            if not low <= getattr(self, name) <= high:
                what, unit = name.split("_")
                raise InputError(f"no adult's {what}", expected=f"{low:g} to {high:g} {unit}", got=getattr(self, name))

    @property
    def surface_m2(self) -> float:
        """Mosteller, New England Journal of Medicine 1987."""
        return math.sqrt(self.height_cm * self.weight_kg / 3600)

    @property
    def liver_ml(self) -> float:
        """The liver that an adult of this size has on average: Vauthey et al., Liver Transplantation 2002."""
        return -794.41 + 1267.28 * self.surface_m2


@dataclass(frozen=True, slots=True)
class Resection:
    """What is taken away, all of it together: what lies behind `plane`; `margin_mm` around every lesion that is in or
    at the organ; the structures `removed`. Lesions themselves are never part of a remnant.

    Raises `InputError` for a margin that is negative, and for a plan without any of them.
    """

    plane: Plane | None = None
    margin_mm: float | None = None
    removed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.plane is None and self.margin_mm is None and not self.removed:
            raise InputError("a resection that takes nothing away", expected="a plane, a margin, or structures")
        if self.margin_mm is not None and not 0 <= self.margin_mm < math.inf:
            raise InputError("not a margin", expected="0 mm or more", got=self.margin_mm)

    @property
    def words(self) -> str:
        """What is kept, in words."""
        parts = []
        if self.plane is not None:
            point, normal = (", ".join(f"{one:g}" for one in some) for some in (self.plane.point_mm, self.plane.normal))
            parts.append(f"on the side of the plane through ({point}) mm to which ({normal}) points, both LPS")
        if self.margin_mm is not None:
            parts.append(f"farther than {self.margin_mm:g} mm from lesions")
        if self.removed:
            parts.append(f"not in {', '.join(self.removed)}")
        return f"what lies {', and '.join(parts)}"


@dataclass(frozen=True, slots=True)
class RemnantReport:
    """Findings in a fixed order, and what people must know of them."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def measure_remnant(
    segmentation: Segmentation,
    organ: Sequence[str],
    resection: Resection,
    lesions: LesionReport,
    *,
    body: BodySize | None = None,
) -> RemnantReport:
    """The volume of an organ without lesions, what the resection leaves of it, in ml and percent.

    `organ`: the name of a structure, or of several that make it up, e.g. segments of a liver. Voxels that a plane or a
    margin cuts count in part. With `body`, of a liver, also the remnant's share of the volume that is expected for the
    patient's size. An organ without voxels gives no findings and a remark. Raises `LabelError` for an unknown name,
    `InputError` for removed structures that are no part of the organ, for no organ, and for a body size where the organ
    is no liver.
    """
    label = organ_label(segmentation.labels, organ)
    _check(segmentation.labels, organ, resection, body)
    boxes = dict(zip(segmentation.labels.names, structure_boxes(segmentation), strict=True))
    parts = [
        crop_structure(segmentation, segmentation.labels.named(name), box)
        for name in organ
        if (box := boxes[name]) is not None
    ]
    if not parts:
        return RemnantReport((), (f"{label.name}: no voxels, no remnant",))
    whole = joined(parts, joined_box([part.box for part in parts]))
    functional = whole.mask & ~_sick(segmentation, whole, lesions)
    near = [one for one in lesions.lesions if contact(one.part, whole, shape=segmentation.grid.shape).point_mm]
    kept = _kept(whole, functional, [part for part in parts if part.label.name in resection.removed], resection)
    if resection.margin_mm and near:
        index, taken = taken_by_margin(
            functional, whole, [one.part for one in near], resection.margin_mm, shape=segmentation.grid.shape
        )
        kept[tuple(index.T)] *= 1.0 - taken
    ml = segmentation.grid.voxel_volume_ml
    volumes = float(np.count_nonzero(functional)) * ml, float(kept[functional].sum(dtype=np.float64)) * ml
    cut = cut_words(whole.box, segmentation.grid)
    findings = _findings(label, volumes, resection, body, note=cut)
    remarks = [*_remarks(label.name, volumes, resection, near)]
    if resection.margin_mm is not None and lesions.unlisted:
        remarks.append(
            f"{label.name}: no margin is taken around parts of lesions that are not listed ({lesions.unlisted})"
        )
    if cut:
        remarks.append(f"{label.name}: {cut}")
    return RemnantReport(tuple(findings), tuple(remarks))


def organ_label(labels: LabelSet, organ: Sequence[str]) -> Label:
    """The label of an organ, or one of its own for structures that make it up together.

    Raises `LabelError` for an unknown name, `InputError` for none.
    """
    found = [labels.named(name) for name in organ]
    if not found:
        raise InputError("no organ to resect", expected=f"one of {', '.join(labels.names)}")
    if len(found) == 1:
        return found[0]
    return Label(found[0].value, " + ".join(one.name for one in found), found[0].colour)


def _check(labels: LabelSet, organ: Sequence[str], resection: Resection, body: BodySize | None) -> None:
    strange = [name for name in resection.removed if labels.named(name).name not in organ]
    if strange:
        raise InputError(
            "structures that are no part of the organ cannot be removed from it",
            expected=f"some of {', '.join(organ)}",
            got=", ".join(strange),
            remedy="Name all structures that make up the organ.",
        )
    if body is not None and not all(_is_of_liver(labels.named(name)) for name in organ):
        raise InputError(
            "the volume expected for a body's size is known for livers only",
            got=", ".join(organ),
            remedy="Leave height and weight out.",
        )


def _is_of_liver(label: Label) -> bool:
    return concept_of(label).type.value == _LIVER or "liver" in label.name.lower()


def _sick(segmentation: Segmentation, whole: Cropped, lesions: LesionReport) -> npt.NDArray[np.bool_]:
    """Where lesions are, in the organ's box; only where structures overlap can that be in the organ."""
    mask = np.zeros(whole.box.shape, dtype=bool)
    for label in lesions.labels if segmentation.labels.overlaps else ():
        mask |= segmentation.mask(label.name)[whole.box.slices]
    return mask


def _kept(
    whole: Cropped, functional: npt.NDArray[np.bool_], removed: Sequence[Cropped], resection: Resection
) -> Fractions:
    kept = functional.astype(np.float32)
    for part in removed:
        kept[placed(part, whole.box)] = 0.0
    if resection.plane is not None:
        index = np.argwhere(functional)
        kept[tuple(index.T)] *= before_plane(index, whole.grid, resection.plane)
    return kept


def before_plane(index: npt.NDArray[np.int64], grid: Grid, plane: Plane) -> Fractions:
    """(N,) of voxels (N, 3) the part that lies in front of a plane: exact for a plane along the grid's axes, and else
    by a ramp as wide as a voxel in the plane's direction."""
    towards = np.asarray(plane.normal) / np.linalg.norm(plane.normal)
    before_mm = (index_to_world(grid, index) - plane.point_mm) @ towards
    width_mm = float(np.abs(towards @ grid.affine[:3, :3]).sum())
    return np.asarray(np.clip(0.5 + before_mm / width_mm, 0.0, 1.0), dtype=np.float32)


def _findings(
    label: Label, volumes: tuple[float, float], resection: Resection, body: BodySize | None, *, note: str
) -> Iterator[Finding]:
    functional_ml, remnant_ml = volumes

    def said(*words: str) -> str:
        return "; ".join(filter(None, (*words, note)))

    yield Finding(label, FUNCTIONAL_VOLUME, functional_ml, MILLILITRE, note=said())
    yield Finding(label, REMNANT_VOLUME, remnant_ml, MILLILITRE, note=said(resection.words))
    if functional_ml:
        share = 100 * remnant_ml / functional_ml
        yield Finding(label, REMNANT_SHARE, share, PERCENT, note=said("remnant / volume without lesions"))
    if body is not None:
        yield Finding(label, BODY_SURFACE_AREA, body.surface_m2, SQUARE_METRE, note=BSA_WORDS)
        yield Finding(label, ESTIMATED_VOLUME, body.liver_ml, MILLILITRE, note=TLV_WORDS)
        standardised = 100 * remnant_ml / body.liver_ml
        words = said(f"remnant / estimated volume of the liver, {TLV_WORDS}")
        yield Finding(label, STANDARDISED_REMNANT, standardised, PERCENT, note=words)


def _remarks(name: str, volumes: tuple[float, float], resection: Resection, lesions: Sequence[Lesion]) -> Iterator[str]:
    functional_ml, remnant_ml = volumes
    if resection.margin_mm is not None and not lesions:
        yield f"{name}: there is no lesion to take a margin around"
    if math.isclose(functional_ml, remnant_ml):
        yield f"{name}: the resection takes nothing of it away"
    elif not remnant_ml:
        yield f"{name}: the resection leaves nothing of it"
    if resection.margin_mm is not None:
        return
    for lesion in lesions:
        share = _left(lesion, resection)
        if share > _LEFT:
            yield f"{name}: the resection leaves {lesion.name}" + (f" in part ({share:.0%})" if share < 0.995 else "")


def _left(lesion: Lesion, resection: Resection) -> float:
    """How much of a lesion a resection without margin leaves, 0 to 1."""
    if lesion.host is not None and lesion.host.label.name in resection.removed:
        return 0.0
    if resection.plane is None:
        return 1.0
    return float(before_plane(np.argwhere(lesion.part.mask), lesion.part.grid, resection.plane).mean())
