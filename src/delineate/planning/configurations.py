"""The networks that are worth training for a dataset: slices, volumes, coarse volumes, and both one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from delineate.fingerprint import Fingerprint
from delineate.geometry import TripleMM
from delineate.planning.grids import coarsened, in_orientation, thick_axis
from delineate.planning.options import Machine, PlanOptions
from delineate.planning.plan import Plan
from delineate.planning.rules import make_plan

FULL, SLICES, LOW, CASCADE = "3d_fullres", "2d", "3d_lowres", "3d_cascade"
COVERED = 0.25  # share of the median scan under which a patch sees too little around it
_SAVED = 0.5  # of the voxels a coarser grid must save at least, or it is the same network again


def make_configurations(
    fingerprint: Fingerprint, machine: Machine, options: PlanOptions | None = None
) -> Mapping[str, Plan]:
    """Plans worth training, by their name in the field; each says why it is there, first in its reasons.

    "3d_fullres" always; "2d" where slices are over three times as thick as pixels, or if `options` ask for two
    dimensions; "3d_lowres" where the patch covers under a quarter of the median scan, and then "3d_cascade": the
    network of "3d_fullres" that also sees the masks of "3d_lowres" (Isensee et al. 2021, Fig. 2), unless structures
    overlap. Raises as `make_plan` does.
    """
    options = options or PlanOptions()
    volumes = msgspec.structs.replace(options, dimensions=3)
    full = make_plan(fingerprint, machine, volumes)
    found = {FULL: _because(full, f"{FULL}: patches in three dimensions, on the plan's own grid")}
    spacing = fingerprint.median_spacing_mm
    thick = thick_axis(spacing)
    if thick is not None or options.dimensions == 2:
        flat = make_plan(fingerprint, machine, msgspec.structs.replace(options, dimensions=2))
        times = max(spacing) / sorted(spacing)[1]
        why = "it was asked for" if thick is None else f"slices are {times:.1f} times as thick as pixels"
        found[SLICES] = _because(flat, f"{SLICES}: slice by slice, because {why}")
    share = covered_share(full, fingerprint)
    if share >= COVERED or options.resize_to is not None:
        return found
    coarse = _low_spacing(full, fingerprint)
    low = make_plan(fingerprint, machine, msgspec.structs.replace(volumes, spacing_mm=coarse))
    if math.prod(full.spacing_mm) / math.prod(low.spacing_mm) > _SAVED:
        return found
    words = f"the patch of {FULL} covers {100 * share:.0f} % of the median scan, under {100 * COVERED:.0f} %"
    found[LOW] = _because(low, f"{LOW}: a coarser grid, because {words}")
    if full.regions:  # a second stage sees one label a voxel
        return found
    second = msgspec.structs.replace(full, previous=full.labels)
    found[CASCADE] = _because(second, f"{CASCADE}: {FULL} that also sees the masks of {LOW}, because {words}")
    return found


def covered_share(plan: Plan, fingerprint: Fingerprint) -> float:
    """Share (0..1) of the median scan's patient part that one patch of a plan covers."""
    extent = in_orientation(fingerprint.median_extent_mm, plan.orientation)
    sizes = plan.resize_to or tuple(mm / s for mm, s in zip(extent, plan.spacing_mm, strict=True))
    return math.prod(min(1.0, n / size) for n, size in zip(plan.patch_size, sizes, strict=True))


def _low_spacing(full: Plan, fingerprint: Fingerprint) -> TripleMM:
    """The spacing at which the patch of `full` holds just over a quarter of the median scan's voxels."""
    extent = in_orientation(fingerprint.median_extent_mm, full.orientation)
    return coarsened(full.spacing_mm, extent, most=math.prod(full.patch_size) / COVERED)


def _because(plan: Plan, reason: str) -> Plan:
    return msgspec.structs.replace(plan, reasons=(reason, *plan.reasons))
