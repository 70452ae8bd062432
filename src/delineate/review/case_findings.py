"""What is measured on a case, beside its picture: each number with the voxel where it can be seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from delineate.findings import Finding
from delineate.geometry import FloatArray, Triple, world_to_index
from delineate.measurement import quantities as q
from delineate.measurement.components import pieces_of
from delineate.measurement.cropping import Cropped, crop_structure
from delineate.measurement.scan_findings import ScanFindings, measure_scan
from delineate.review.case_facts import middle_index
from delineate.volume import Segmentation, Volume, structure_boxes
from delineate.workflow.structures import read_scan

IndexArray = npt.NDArray[np.intp]

_INTENSITIES = (q.ATTENUATION, q.UPTAKE, q.MR_SIGNAL, q.INTENSITY)
_SHOWN = {
    q.VOLUME: "volume",
    q.COMPONENTS: "separate parts",
    q.LONG_AXIS: "long axis",
    q.SHORT_AXIS: "short axis",
    q.MARGIN: "margin to the surface of",
    q.VOLUME_RATIO: "volume, times that of",
}
_DIGITS = 3


class ShownFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One number. `structure`: the name of a structure, or of a lesion with its number; `text`: all of it in words.

    `index`: the voxel (i, j, k) to jump to, inside what is measured; None where there is none.
    """

    structure: str
    quantity: str
    value: float
    unit: str
    text: str
    index: Triple | None = None


class ShownFindings(msgspec.Struct, frozen=True, kw_only=True):
    """Structures in the labels' order, and lesions, the largest of each structure first."""

    findings: list[ShownFinding] = []
    lesions: list[ShownFinding] = []


def findings(segmentation: Segmentation, scan: Path | Volume | None = None, *, threads: int = 2) -> ShownFindings:
    """Volume, axial diameters, separate parts and mean intensity of structures and lesions, and where each is seen.

    Of several parts the place is in the second largest, which most likely is a mistake; of a diameter, near its
    middle; else the voxel of the structure nearest to its centroid. Numbers are those of `delineate measure`. An empty
    structure has a volume of 0 and no place. `scan`: for intensities; its path, or its voxels on the same grid. Raises
    what reading the scan raises, and `GeometryMismatch` for a scan of other voxels.
    """
    volume = read_scan(scan) if isinstance(scan, Path) else scan
    measured = measure_scan(segmentation, volume, threads=threads)
    boxes = zip(segmentation.labels, structure_boxes(segmentation), strict=True)
    parts = {label.name: crop_structure(segmentation, label, box) for label, box in boxes if box is not None}
    return ShownFindings(
        findings=list(_of_structures(measured, parts)),
        lesions=list(_of_lesions(measured)),
    )


def place_in(part: Cropped, near_mm: FloatArray | None = None) -> Triple:
    """The voxel of a structure nearest to a point (LPS), its centroid without; of several as near the first."""
    target = middle_index(part.mask) if near_mm is None else world_to_index(part.grid, near_mm)
    # Of all voxels of a large organ only those around the point are looked at, farther and farther.
    reach_mm = 2 * max(part.grid.spacing_mm)
    nearest = _nearest(part, target, reach_mm)
    while nearest is None:
        reach_mm *= 2
        nearest = _nearest(part, target, reach_mm)
    i, j, k = (int(n) for n in nearest + part.box.start)
    return i, j, k


def _nearest(part: Cropped, target: FloatArray, reach_mm: float) -> IndexArray | None:
    """The voxel nearest to an index, if one is within reach."""
    # How far a ball reaches along each axis, on sheared grids, too.
    reach = reach_mm * np.linalg.norm(np.linalg.inv(part.grid.affine[:3, :3]), axis=1)
    shape = np.array(part.mask.shape)
    start = np.clip(np.ceil(target - reach), 0, shape).astype(int)
    stop = np.clip(np.floor(target + reach) + 1, 0, shape).astype(int)
    around = part.mask[start[0] : stop[0], start[1] : stop[1], start[2] : stop[2]]
    voxels = np.argwhere(around) + start
    distances_mm = np.linalg.norm((voxels - target) @ part.grid.affine[:3, :3].T, axis=1)
    if not len(voxels) or distances_mm.min() > reach_mm:
        return None
    found: IndexArray = voxels[int(np.argmin(distances_mm))]
    return found


def _of_structures(measured: ScanFindings, parts: Mapping[str, Cropped]) -> Iterator[ShownFinding]:
    centres = {name: place_in(part) for name, part in parts.items()}
    for finding in measured.findings:
        name = finding.label.name
        if finding.component is None and _is_shown(finding):
            part = parts.get(name)
            place = None if part is None else _place(finding, part, centres[name])
            yield _shown(name, finding, place)


def _of_lesions(measured: ScanFindings) -> Iterator[ShownFinding]:
    lesions = {(lesion.label, lesion.number): lesion for lesion in measured.lesions}
    centres = {key: place_in(lesion.part) for key, lesion in lesions.items()}
    for finding in measured.findings:
        if finding.component is not None and _is_shown(finding):
            key = (finding.label, finding.component)
            lesion = lesions[key]
            yield _shown(lesion.name, finding, _place(finding, lesion.part, centres[key]))


def _is_shown(finding: Finding) -> bool:
    if finding.quantity in _INTENSITIES:
        return finding.derivation == q.MEAN
    if finding.quantity == q.COMPONENTS:
        return finding.value > 1
    return finding.quantity in _SHOWN


def _place(finding: Finding, part: Cropped, centre: Triple) -> Triple:
    if finding.quantity == q.COMPONENTS:
        return place_in(pieces_of(part)[1].part)
    if len(finding.points_mm) == 2:
        return place_in(part, np.mean(finding.points_mm, axis=0))
    return centre


def _shown(structure: str, finding: Finding, place: Triple | None) -> ShownFinding:
    unit = "" if finding.unit == q.NO_UNITS else finding.unit.meaning
    return ShownFinding(
        structure=structure,
        quantity=finding.meaning,
        value=finding.value,
        unit=unit,
        text=f"{structure}: {_words(finding, unit)}",
        index=place,
    )


def _words(finding: Finding, unit: str) -> str:
    if finding.quantity == q.COMPONENTS:
        return f"{finding.value:.0f} separate parts"
    what = "mean" if finding.quantity in _INTENSITIES else _SHOWN[finding.quantity]
    other = f" {finding.other.name}" if finding.other is not None else ""
    number = f"{finding.value:.0f}" if abs(finding.value) >= 10**_DIGITS else f"{finding.value:.{_DIGITS}g}"
    # What the volume's note says holds for all sizes, and is enough said once.
    note = finding.note if finding.quantity == q.VOLUME else ""
    note = "largest part" if finding.note.startswith("of the largest") else note
    return f"{what}{other} {number} {unit}".rstrip() + (f" ({note})" if note else "")
