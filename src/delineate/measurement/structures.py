"""All that is measured of every structure of a segmentation, as findings in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from delineate.findings import Finding
from delineate.geometry import Box, Grid
from delineate.labels import Label
from delineate.measurement.cropping import Cropped, crop_structure
from delineate.measurement.diameters import axial_diameters, diameter_3d, largest_part
from delineate.measurement.intensities import check_on_grid, intensity_findings, measure_intensities
from delineate.measurement.pairs import pair_findings
from delineate.measurement.quantities import (
    COMPONENTS,
    DIAMETER_3D,
    EXTENT_FRONT_BACK,
    EXTENT_HEAD_FOOT,
    EXTENT_LEFT_RIGHT,
    LARGEST_COMPONENT_SHARE,
    LONG_AXIS,
    MESH_VOLUME,
    MILLILITRE,
    MILLIMETRE,
    NO_UNITS,
    PERCENT,
    SHORT_AXIS,
    SPHERICITY,
    SQUARE_CENTIMETRE,
    SURFACE_AREA,
    VOLUME,
)
from delineate.measurement.shapes import Shape, cut_words, measure_shape
from delineate.volume import Segmentation, Volume, structure_boxes

EMPTY = "the structure has no voxels"


def measure_structures(
    segmentation: Segmentation,
    volume: Volume | None = None,
    *,
    structures: Sequence[str] = (),
    channel: int = 0,
    threads: int = 1,
) -> tuple[Finding, ...]:
    """Findings of all structures, or of those named, in the labels' order; after them the pairs of left and right.

    Of each structure, in this order: volume by voxels and of its mesh, surface, sphericity, extents, number of parts,
    share of the largest; the diameters of its largest part; what `channel` of the scan shows inside it, if a scan is
    given. A structure without voxels has a volume of 0 and nothing else, and its note says so. A structure that touches
    the scan's border says that in the note of every size, for it may go on outside.

    Raises `GeometryMismatch` if the scan does not have the segmentation's voxels, `LabelError` for an unknown name,
    `ValueError` for a channel that the scan does not have.
    """
    if volume is not None:
        check_on_grid(segmentation, volume)
        if not 0 <= channel < volume.channels:
            raise ValueError(f"no channel {channel}: the scan has {volume.channels}, counted from 0")

    chosen = {segmentation.labels.named(name).name for name in structures} or set(segmentation.labels.names)
    boxes = structure_boxes(segmentation)
    places = [place for place in zip(segmentation.labels, boxes, strict=True) if place[0].name in chosen]

    def measure(place: tuple[Label, Box | None]) -> tuple[Finding, ...]:
        label, box = place
        if box is None:
            return (Finding(label, VOLUME, 0.0, MILLILITRE, note=EMPTY),)
        found = crop_structure(segmentation, label, box)
        return (*size_findings(found, segmentation.grid), *_inside(found, volume, channel))

    with ThreadPoolExecutor(threads) as pool:
        findings = tuple(one for found in pool.map(measure, places) for one in found)
    return (*findings, *pair_findings(segmentation.labels, [one for one in findings if one.quantity == VOLUME]))


def size_findings(found: Cropped, scan: Grid) -> tuple[Finding, ...]:
    """Volume to diameters of one structure that has voxels; `scan`: the grid of the whole scan. Empty: nothing."""
    shape = measure_shape(found.mask, found.grid)
    if shape is None:
        return ()
    note = cut_words(found.box, scan)
    findings = (*_shape_findings(found.label, shape), *_diameter_findings(found, shape))
    return tuple(replace(one, note="; ".join(filter(None, (one.note, note)))) for one in findings)


def _shape_findings(label: Label, shape: Shape) -> Iterator[Finding]:
    across, deep, high = shape.extent_mm
    yield Finding(label, VOLUME, shape.volume_ml, MILLILITRE)
    yield Finding(label, MESH_VOLUME, shape.mesh_volume_ml, MILLILITRE)
    yield Finding(label, SURFACE_AREA, shape.surface_cm2, SQUARE_CENTIMETRE)
    yield Finding(label, SPHERICITY, shape.sphericity, NO_UNITS)
    yield Finding(label, EXTENT_LEFT_RIGHT, across, MILLIMETRE)
    yield Finding(label, EXTENT_FRONT_BACK, deep, MILLIMETRE)
    yield Finding(label, EXTENT_HEAD_FOOT, high, MILLIMETRE)
    yield Finding(label, COMPONENTS, float(len(shape.parts)), NO_UNITS)
    yield Finding(label, LARGEST_COMPONENT_SHARE, 100.0 * shape.parts[0] / shape.voxels, PERCENT)


def _diameter_findings(found: Cropped, shape: Shape) -> Iterator[Finding]:
    mask = found.mask if len(shape.parts) == 1 else largest_part(found.mask)
    of_part = f"of the largest of {len(shape.parts)} parts" if len(shape.parts) > 1 else ""
    axial, longest = axial_diameters(mask, found.grid), diameter_3d(mask, found.grid)
    if axial is None or longest is None:
        return
    for quantity, one in ((LONG_AXIS, axial.long), (SHORT_AXIS, axial.short), (DIAMETER_3D, longest)):
        ends = (one.start_mm, one.stop_mm)
        yield Finding(found.label, quantity, one.value_mm, MILLIMETRE, points_mm=ends, note=of_part)


def _inside(found: Cropped, volume: Volume | None, channel: int) -> tuple[Finding, ...]:
    if volume is None:
        return ()
    values = measure_intensities(found.mask, volume.array[channel][found.box.slices])
    return intensity_findings(found.label, values, volume.kind)
