"""What is measured, as codes: quantities, the statistics taken of them, and units.

Codes are those of DICOM PS3.16: CID 7470 (linear), 7471 (area), 7472 (volume), 7477 (shape; the codes of the Image
Biomarker Standardisation Initiative, IBSI), 7180 and 7469 (what a voxel measures), 7464 (statistics of a region), 7181
(units, UCUM). What none of them has gets a code of our own in the scheme "99DELINEATE": a wrong code is worse than a
private one. In particular DCM 113288 "Volume Ratio" is an index of diffusion, not the ratio of two volumes.
"""

from __future__ import annotations

from dataclasses import dataclass

from delineate.findings import MILLILITRE as MILLILITRE
from delineate.findings import VOLUME as VOLUME
from delineate.labels import Code
from delineate.terminology import PRIVATE_SCHEME
from delineate.volume import Kind


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


# Units
MILLIMETRE = Code("mm", "UCUM", "mm")
SQUARE_CENTIMETRE = Code("cm2", "UCUM", "cm2")
SQUARE_METRE = Code("m2", "UCUM", "m2")
PERCENT = Code("%", "UCUM", "%")
NO_UNITS = Code("1", "UCUM", "no units")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "HU")
SUV_BODY_WEIGHT = Code("g/ml{SUVbw}", "UCUM", "g/ml (SUVbw)")

# Shape. VOLUME is the voxels' number times the volume of one.
MESH_VOLUME = Code("RNU0", "IBSI", "Volume of Mesh")
SURFACE_AREA = Code("C0JK", "IBSI", "Surface Area of Mesh")
SPHERICITY = Code("QCFX", "IBSI", "Sphericity")
EXTENT_LEFT_RIGHT = _private("EXTENT_LR", "Extent from left to right")
EXTENT_FRONT_BACK = _private("EXTENT_AP", "Extent from front to back")
EXTENT_HEAD_FOOT = _private("EXTENT_SI", "Extent from head to foot")
COMPONENTS = _private("COMPONENTS", "Number of separate parts")
LARGEST_COMPONENT_SHARE = _private("LARGEST_PART", "Share of the largest part")

# Diameters
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
SHORT_AXIS = Code("103340004", "SCT", "Short Axis")
DIAMETER_3D = Code("81827009", "SCT", "Diameter")  # in any direction; IBSI's L0JK ends half a voxel further out

# Intensities
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
UPTAKE = Code("126401", "DCM", "SUVbw")
MR_SIGNAL = Code("110852", "DCM", "MR signal intensity")
INTENSITY = _private("INTENSITY", "Intensity")
VOXELS_WITHOUT_VALUE = _private("WITHOUT_VALUE", "Voxels without a value")

# Statistics of a region, a finding's derivation
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
MEDIAN = Code("373099004", "SCT", "Median")
MINIMUM = Code("255605001", "SCT", "Minimum")
MAXIMUM = Code("56851009", "SCT", "Maximum")
PERCENTILE_5 = _private("PERCENTILE_5", "5th percentile")
PERCENTILE_25 = _private("PERCENTILE_25", "25th percentile")
PERCENTILE_75 = _private("PERCENTILE_75", "75th percentile")
PERCENTILE_95 = _private("PERCENTILE_95", "95th percentile")

# Between structures; `other` is the second one
DISTANCE = Code("121206", "DCM", "Distance")
MARGIN = _private("MARGIN", "Smallest margin to the surface")
ORGAN_SHARE = _private("ORGAN_SHARE", "Share of the organ's volume")
CONTACT_SHARE = _private("CONTACT_SHARE", "Share of the lesion in or against the organ")
VOLUME_DIFFERENCE = _private("VOLUME_DIFF", "Volume difference to the other side")
VOLUME_RATIO = _private("VOLUME_RATIO", "Volume ratio to the other side")

# After a planned resection
FUNCTIONAL_VOLUME = _private("FUNCTIONAL", "Volume without lesions")
REMNANT_VOLUME = _private("REMNANT", "Remnant volume")
REMNANT_SHARE = _private("REMNANT_SHARE", "Remnant share of the volume without lesions")
ESTIMATED_VOLUME = _private("ESTIMATED_VOLUME", "Volume estimated from body size")
STANDARDISED_REMNANT = _private("STD_REMNANT", "Remnant share of the estimated volume")
BODY_SURFACE_AREA = Code("3140-1", "LN", "Body surface area derived from formula")


@dataclass(frozen=True, slots=True)
class Scale:
    """What the numbers of an image are, and their unit."""

    quantity: Code
    unit: Code


SCALES = {
    Kind.CT: Scale(ATTENUATION, HOUNSFIELD),
    Kind.PET: Scale(UPTAKE, SUV_BODY_WEIGHT),
    Kind.MR: Scale(MR_SIGNAL, NO_UNITS),
    Kind.OTHER: Scale(INTENSITY, NO_UNITS),
}
