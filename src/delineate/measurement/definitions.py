"""How each quantity is measured, in a sentence: for files and pages that carry the numbers."""

from __future__ import annotations

from collections.abc import Mapping

from delineate.labels import Code
from delineate.measurement import quantities as q
from delineate.measurement.resection import BSA_WORDS, TLV_WORDS

_INTENSITY = "of the scan's values in the structure's voxels; percentiles linear, standard deviation divided by N"

DEFINITIONS: Mapping[Code, str] = {
    q.VOLUME: "number of voxels x volume of a voxel",
    q.MESH_VOLUME: "enclosed by the surface of marching cubes at 0.5 (IBSI RNU0)",
    q.SURFACE_AREA: "of the surface of marching cubes at 0.5 (IBSI C0JK)",
    q.SPHERICITY: "area of the ball of the mesh's volume / area of the mesh (Wadell 1935, IBSI QCFX)",
    q.EXTENT_LEFT_RIGHT: "along the patient's axis, from outer voxel face to outer voxel face",
    q.EXTENT_FRONT_BACK: "along the patient's axis, from outer voxel face to outer voxel face",
    q.EXTENT_HEAD_FOOT: "along the patient's axis, from outer voxel face to outer voxel face",
    q.COMPONENTS: "parts that are connected by faces, edges or corners of voxels",
    q.LARGEST_COMPONENT_SHARE: "volume of the largest part / volume",
    q.LONG_AXIS: "longest straight line in an axial slice, of the largest part (after RECIST 1.1)",
    q.SHORT_AXIS: "longest straight line at right angles to the long axis, in its slice (after RECIST 1.1)",
    q.DIAMETER_3D: "longest straight line in any direction, of the largest part",
    q.ATTENUATION: _INTENSITY,
    q.UPTAKE: _INTENSITY,
    q.MR_SIGNAL: _INTENSITY,
    q.INTENSITY: _INTENSITY,
    q.VOXELS_WITHOUT_VALUE: "voxels of the structure where the scan has no number",
    q.DISTANCE: "smallest distance between the two surfaces; 0 where they touch or overlap",
    q.MARGIN: "smallest distance from the lesion to the surface of its organ with all lesions in it",
    q.ORGAN_SHARE: "volume of the lesion / volume of its organ with all lesions in it",
    q.CONTACT_SHARE: "part of the lesion inside the organ, or of its surface against it: how sure the organ is",
    q.VOLUME_DIFFERENCE: "left - right",
    q.VOLUME_RATIO: "left / right",
    q.FUNCTIONAL_VOLUME: "volume of the organ without lesions",
    q.REMNANT_VOLUME: "what the planned resection leaves of the volume without lesions",
    q.REMNANT_SHARE: "remnant / volume without lesions",
    q.BODY_SURFACE_AREA: BSA_WORDS,
    q.ESTIMATED_VOLUME: f"of an adult's liver in ml: {TLV_WORDS}",
    q.STANDARDISED_REMNANT: "remnant / volume estimated from body size",
}
