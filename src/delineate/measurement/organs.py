"""The organ that a lesion lies in, and how near the lesion comes to that organ's surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delineate.geometry import Grid, Triple
from delineate.labels import Label
from delineate.measurement.components import joined, joined_box, without_holes
from delineate.measurement.contacts import Contact, contact, meet, placed, surroundings
from delineate.measurement.cropping import Cropped
from delineate.measurement.distances import Gap, Surface, gap, surface_of, touching
from delineate.measurement.shapes import cut_sides
from delineate.terminology import TISSUE, concept_of

_WHOLE_BODY = "38266002"
_LEAST = 0.1  # of a lesion's volume or surface: less is a neighbour
_AS_MUCH = 0.9  # of the largest overlap: then the smaller structure says more


@dataclass(frozen=True, slots=True)
class Host:
    """The structure that a lesion lies in. `share`, 0 to 1: of the lesion's volume, if the two overlap, else of the
    lesion's surface, which is in contact with it; 1 is sure."""

    label: Label
    share: float
    overlaps: bool


@dataclass(frozen=True, slots=True, eq=False)
class Organ:
    """A structure together with the lesions in it. `part`: without holes; `volume_ml`: holes do not count; `cut`: the
    sides on which it may go on outside the scan."""

    part: Cropped
    volume_ml: float
    surface: Surface
    cut: tuple[str, ...]


def host_of(lesion: Cropped, structures: Sequence[Cropped], shape: Triple) -> Host | None:
    """The structure of a scan of `shape` that a lesion lies in; None where no structure has a tenth of it.

    Where structures overlap: the one that holds most of the lesion; of several that hold about as much, the smallest.
    Where they exclude each other: the one that most of the lesion's surface is in contact with. The body as a whole,
    and tissues such as fat, count only where there is no organ.
    """
    around = surroundings(lesion.box, shape)
    near = [one for one in structures if meet(around, one.box)]
    met = [(one, contact(lesion, one, shape=shape)) for one in near]
    met = [(one, how) for one, how in met if how.point_mm is not None]
    return _most(lesion, [(one, how) for one, how in met if not _is_everywhere(one.label)]) or _most(lesion, met)


def organ_with(structure: Cropped, lesions: Sequence[Cropped], scan: Grid) -> Organ:
    """An organ and the lesions in it as one; vessels and other holes that it encloses count as inside."""
    parts = (structure, *lesions)
    box = joined_box([part.box for part in parts])
    whole = joined(parts, surroundings(box, scan.shape))
    volume_ml = int(np.count_nonzero(whole.mask)) * whole.grid.voxel_volume_ml
    filled = without_holes(whole)
    return Organ(filled, volume_ml, surface_of(filled, scan.shape), cut_sides(box, scan))


def margin(lesion: Cropped, surface: Surface, organ: Organ, shape: Triple) -> Gap | None:
    """From a lesion, whose `surface` it is, to the outer surface of its organ: 0 where it is part of that surface.

    None for an organ of which the scan shows no surface.
    """
    around = surroundings(lesion.box, shape)
    # Its grid is not asked for.
    beyond = Cropped(organ.part.label, ~placed(organ.part, around), organ.part.grid, around)
    return touching(lesion, beyond, shape=shape) or gap(surface, organ.surface)


def _most(lesion: Cropped, met: Sequence[tuple[Cropped, Contact]]) -> Host | None:
    if not met:
        return None
    most = max(how.shared_voxels for _, how in met)
    if most:
        holders = [pair for pair in met if pair[1].shared_voxels >= _AS_MUCH * most]
        best, how = min(holders, key=lambda pair: int(np.count_nonzero(pair[0].mask)))
        host = Host(best.label, how.shared_voxels / int(np.count_nonzero(lesion.mask)), overlaps=True)
    else:
        best, how = max(met, key=lambda pair: pair[1].area_mm2)
        host = Host(best.label, how.share, overlaps=False)
    return host if host.share >= _LEAST else None


def is_whole_body(label: Label) -> bool:
    return concept_of(label).type.value == _WHOLE_BODY


def _is_everywhere(label: Label) -> bool:
    return is_whole_body(label) or concept_of(label).category == TISSUE
