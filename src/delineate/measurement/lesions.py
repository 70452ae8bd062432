"""Lesion by lesion: how large, in which organ, how near to everything else.

Lesions are the parts of a structure that are connected by faces, edges or corners; the largest has number 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from delineate.findings import Finding
from delineate.geometry import Grid
from delineate.labels import Label, LabelSet
from delineate.measurement.components import Piece, groups_of, pieces_of
from delineate.measurement.cropping import Cropped, crop_structure
from delineate.measurement.diameters import AxialDiameters, Diameter, axial_diameters, diameter_3d
from delineate.measurement.distances import Gap, Surface, gap, surface_of, touching
from delineate.measurement.intensities import check_on_grid, intensity_findings, measure_intensities
from delineate.measurement.organs import Host, Organ, host_of, is_whole_body, margin, organ_with
from delineate.measurement.quantities import (
    CONTACT_SHARE,
    DIAMETER_3D,
    DISTANCE,
    LONG_AXIS,
    MARGIN,
    MILLILITRE,
    MILLIMETRE,
    ORGAN_SHARE,
    PERCENT,
    SHORT_AXIS,
    VOLUME,
)
from delineate.measurement.shapes import cut_words
from delineate.terminology import ABNORMAL_STRUCTURE, concept_of
from delineate.volume import Segmentation, Volume, structure_boxes

SMALLEST_ML = 0.05
"""About a ball of 4.6 mm: half of the diameter that RECIST 1.1 calls measurable."""

_FEW_VOXELS = 100  # a ball of less than six voxels across


@dataclass(frozen=True, slots=True)
class LesionOptions:
    """`names`: of the structures that are lesions; none means those whose names say it. `smallest_ml`: lesions below
    are counted and not listed. `to`: the structures to which distances are measured; none means all, but the body
    as a whole."""

    names: tuple[str, ...] = ()
    smallest_ml: float = SMALLEST_ML
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another structure, and how far it is."""

    label: Label
    gap: Gap


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """One lesion. `number`: within its structure, 1 is the largest; `part`: its voxels. `host`: the organ it lies in;
    `organ_share`: its part of that organ's volume with all lesions, 0 to 1; `margin`: to that organ's surface,
    with a remark where the scan cuts that.

    `neighbours`: the other structures in the labels' order, but for the organ it lies in. `cut`: on which sides the
    scan cuts it, in words, or ""; `doubts`: what else makes its numbers rough.
    """

    label: Label
    number: int
    part: Cropped
    volume_ml: float
    axial: AxialDiameters
    diameter_3d: Diameter
    host: Host | None
    organ_share: float | None
    margin: Gap | None
    margin_remark: str
    neighbours: tuple[Neighbour, ...]
    cut: str
    doubts: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.label.name} {self.number}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why to be careful with its numbers, in words."""
        return (*([self.cut] if self.cut else []), *self.doubts)


@dataclass(frozen=True, slots=True)
class LesionReport:
    """All lesions that are listed, their findings in the same order, and what people must know of both.

    `labels`: the structures taken for lesions; `unlisted`: how many of their parts are too small to be listed.
    """

    labels: tuple[Label, ...]
    lesions: tuple[Lesion, ...]
    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]
    unlisted: int = 0


def lesion_labels(labels: LabelSet, names: Sequence[str] = ()) -> tuple[Label, ...]:
    """The labels of those names; without names, those that say that they are lesions ("liver tumour", "cyst").

    Raises `LabelError` for a name that is not there.
    """
    if names:
        return tuple(labels.named(name) for name in dict.fromkeys(names))
    return tuple(label for label in labels if concept_of(label).category == ABNORMAL_STRUCTURE)


def measure_lesions(
    segmentation: Segmentation, volume: Volume | None = None, *, options: LesionOptions | None = None
) -> LesionReport:
    """Every lesion with its volume, diameters, organ, margin and distances, and what the scan shows inside it.

    Structures without voxels are left out. Raises `LabelError` for an unknown name, `GeometryMismatch` if the scan does
    not have the segmentation's voxels.
    """
    options = options or LesionOptions()
    labels = lesion_labels(segmentation.labels, options.names)
    for name in options.to:
        segmentation.labels.named(name)
    if volume is not None:
        check_on_grid(segmentation, volume)
    if not labels:
        return LesionReport((), (), (), ())
    places = zip(segmentation.labels, structure_boxes(segmentation), strict=True)
    structures = [crop_structure(segmentation, label, box) for label, box in places if box is not None]
    pieces, unlisted, remarks = _listed([one for one in structures if one.label in labels], options.smallest_ml)
    scene = _Scene(segmentation.grid, tuple(structures), labels)
    lesions = scene.lesions(pieces, options.to)
    findings = tuple(one for lesion in lesions for one in (*_findings(lesion), *_inside(lesion, volume)))
    said = [f"{lesion.name}: {remark}" for lesion in lesions for remark in lesion.remarks]
    return LesionReport(labels, lesions, findings, (*remarks, *said), unlisted)


def _listed(structures: Sequence[Cropped], smallest_ml: float) -> tuple[list[Piece], int, list[str]]:
    """The lesions that are large enough, how many are not, and what to say of those."""
    listed: list[Piece] = []
    unlisted = 0
    remarks = []
    for structure in structures:
        pieces = pieces_of(structure)
        # A lesion of just that volume is listed.
        large = [piece for piece in pieces if piece.volume_ml >= smallest_ml * (1 - 1e-9)]
        small = pieces[len(large) :]
        listed += large
        unlisted += len(small)
        if small:
            parts = f"{len(small)} part{'s' * (len(small) > 1)} of less than {smallest_ml:g} ml"
            together = f", {sum(piece.volume_ml for piece in small):.2g} ml together," if len(small) > 1 else ""
            remarks.append(f"{structure.label.name}: {parts}{together} not listed")
    return listed, unlisted, remarks


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """A scan's structures, of which some are lesions."""

    grid: Grid
    structures: tuple[Cropped, ...]
    labels: tuple[Label, ...]

    def lesions(self, pieces: Sequence[Piece], to: Sequence[str]) -> tuple[Lesion, ...]:
        shape = self.grid.shape
        parts = [piece.part for piece in pieces]
        sick = [one for one in self.structures if one.label in self.labels]
        sound = [one for one in self.structures if one.label not in self.labels]
        hosts = [host_of(group, sound, shape) for group in groups_of(sick, parts)]
        named = {one.label.name: one for one in self.structures}

        @cache
        def surface(name: str) -> Surface:
            return surface_of(named[name], shape)

        @cache
        def organ(name: str) -> Organ:
            inside = [part for part, host in zip(parts, hosts, strict=True) if host and host.label.name == name]
            return organ_with(named[name], inside, self.grid)

        return tuple(
            self._lesion(piece, host, None if host is None else organ(host.label.name), surface, to)
            for piece, host in zip(pieces, hosts, strict=True)
        )

    def _lesion(
        self,
        piece: Piece,
        host: Host | None,
        organ: Organ | None,
        surface: Callable[[str], Surface],
        to: Sequence[str],
    ) -> Lesion:
        part, own = piece.part, surface_of(piece.part, self.grid.shape)
        axial, longest = axial_diameters(part.mask, part.grid), diameter_3d(part.mask, part.grid)
        if axial is None or longest is None:
            raise ValueError("a lesion without voxels")
        others = [one for one in self.structures if one.label not in (part.label, host and host.label)]
        gaps = [
            (one.label, touching(part, one, shape=self.grid.shape) or gap(own, surface(one.label.name)))
            for one in others
            if (one.label.name in to if to else not is_whole_body(one.label))
        ]
        return Lesion(
            label=part.label,
            number=piece.number,
            part=part,
            volume_ml=piece.volume_ml,
            axial=axial,
            diameter_3d=longest,
            host=host,
            organ_share=None if organ is None else piece.volume_ml / organ.volume_ml,
            margin=None if organ is None else margin(part, own, organ, self.grid.shape),
            margin_remark=_goes_on(organ),
            neighbours=tuple(Neighbour(label, apart) for label, apart in gaps if apart is not None),
            cut=cut_words(part.box, self.grid),
            doubts=tuple(_doubts(piece, longest.value_mm, self.grid)),
        )


def _goes_on(organ: Organ | None) -> str:
    if organ is None or not organ.cut:
        return ""
    return f"{organ.part.label.name} touches the scan's border ({', '.join(organ.cut)}): it may be less outside"


def _doubts(piece: Piece, longest_mm: float, scan: Grid) -> Iterator[str]:
    if piece.voxels < _FEW_VOXELS:
        yield f"only {piece.voxels} voxel{'s' * (piece.voxels > 1)}: its sizes are rough"
    if max(scan.spacing_mm) > longest_mm / 2:
        yield f"voxels of {max(scan.spacing_mm):.3g} mm are more than half as long as the lesion"


def _findings(lesion: Lesion) -> Iterator[Finding]:
    label, number = lesion.label, lesion.number
    yield Finding(label, VOLUME, lesion.volume_ml, MILLILITRE, component=number, note=lesion.cut)
    for quantity, one in (
        (LONG_AXIS, lesion.axial.long),
        (SHORT_AXIS, lesion.axial.short),
        (DIAMETER_3D, lesion.diameter_3d),
    ):
        ends = (one.start_mm, one.stop_mm)
        yield Finding(label, quantity, one.value_mm, MILLIMETRE, component=number, points_mm=ends, note=lesion.cut)
    if lesion.host is not None:
        yield from _organ_findings(lesion, lesion.host)
    for neighbour in lesion.neighbours:
        yield _distance(lesion, neighbour.label, neighbour.gap)


def _organ_findings(lesion: Lesion, host: Host) -> Iterator[Finding]:
    label, number = lesion.label, lesion.number
    how = "of the lesion's volume inside" if host.overlaps else "of the lesion's surface, with lesions that adjoin it"
    yield Finding(label, CONTACT_SHARE, 100 * host.share, PERCENT, component=number, other=host.label, note=how)
    if lesion.margin is not None:
        yield replace(_distance(lesion, host.label, lesion.margin), quantity=MARGIN, note=lesion.margin_remark)
    if lesion.organ_share is not None:
        share = 100 * lesion.organ_share
        yield Finding(
            label, ORGAN_SHARE, share, PERCENT, component=number, other=host.label, note="of the organ with all lesions"
        )


def _distance(lesion: Lesion, other: Label, apart: Gap) -> Finding:
    ends = (apart.start_mm, apart.stop_mm)
    return Finding(
        lesion.label,
        DISTANCE,
        apart.value_mm,
        MILLIMETRE,
        component=lesion.number,
        other=other,
        points_mm=ends,
    )


def _inside(lesion: Lesion, volume: Volume | None) -> tuple[Finding, ...]:
    if volume is None:
        return ()
    values = measure_intensities(lesion.part.mask, volume.array[0][lesion.part.box.slices])
    found = intensity_findings(lesion.label, values, volume.kind)
    return tuple(replace(one, component=lesion.number) for one in found)
