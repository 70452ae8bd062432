"""What each figure is, whose it is, and what a miss counts as: the one table that scores, pages and docs go by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """Which values of a figure are better."""

    HIGHER = "higher"
    LOWER = "lower"
    NEITHER = "neither"  # it describes: a signed error whose mean may be 0 for bad results


class Miss(Enum):
    """What a structure that only the reference or only the prediction has counts as, in means and comparisons."""

    ZERO = "0"  # the worst value of an overlap
    SCAN = "the scan's diagonal"  # farther than any two points of the scan lie apart
    LEFT_OUT = "left out"  # only for figures that describe


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure of `StructureScores`. `name`: its field; `unit`: "", "mm", "ml" or "%"; `source`: a paper, in short."""

    name: str
    title: str
    unit: str
    better: Better
    miss: Miss
    definition: str
    source: str = ""


_UP, _DOWN, _NEITHER = Better.HIGHER, Better.LOWER, Better.NEITHER

METRICS: tuple[Metric, ...] = (
    Metric("dice", "Dice", "", _UP, Miss.ZERO, "2 |R ∩ P| / (|R| + |P|)", "Dice 1945"),
    Metric("iou", "IoU", "", _UP, Miss.ZERO, "|R ∩ P| / |R ∪ P|", "Jaccard 1912"),
    Metric("precision", "Precision", "", _UP, Miss.ZERO, "|R ∩ P| / |P|"),
    Metric("recall", "Recall", "", _UP, Miss.ZERO, "|R ∩ P| / |R|"),
    Metric(
        "volume_similarity",
        "Volume similarity",
        "",
        _UP,
        Miss.ZERO,
        "1 - ||P| - |R|| / (|P| + |R|), of the volumes alone",
        "Taha and Hanbury 2015",
    ),
    Metric(
        "surface_dice",
        "Surface Dice",
        "",
        _UP,
        Miss.ZERO,
        "share of both surfaces' area that lies within the tolerance of the other surface",
        "Nikolov et al. 2021",
    ),
    Metric(
        "boundary_iou",
        "Boundary IoU",
        "",
        _UP,
        Miss.ZERO,
        "IoU of the voxels of each mask that lie within the tolerance of its own border voxels",
        "Cheng et al. 2021",
    ),
    Metric(
        "hd95_mm",
        "HD95",
        "mm",
        _DOWN,
        Miss.SCAN,
        "the larger of the two directions' 95th percentiles, by area, of the distances to the other surface",
        "Huttenlocher et al. 1993",
    ),
    Metric(
        "hd_mm",
        "HD",
        "mm",
        _DOWN,
        Miss.SCAN,
        "the largest distance from either surface to the other",
        "Huttenlocher et al. 1993",
    ),
    Metric(
        "mean_surface_distance_mm",
        "ASSD",
        "mm",
        _DOWN,
        Miss.SCAN,
        "mean, over the area of both surfaces together, of the distance to the other",
        "Heimann et al. 2009",
    ),
    Metric(
        "masd_mm",
        "MASD",
        "mm",
        _DOWN,
        Miss.SCAN,
        "mean of the two directions' means, by area, of the distances to the other surface",
        "Beneš and Zitová 2015",
    ),
    Metric(
        "centroid_distance_mm",
        "Centroid distance",
        "mm",
        _DOWN,
        Miss.SCAN,
        "from the reference's centre of mass to the prediction's",
    ),
    Metric("volume_error_ml", "Volume error", "ml", _NEITHER, Miss.LEFT_OUT, "prediction minus reference"),
    Metric("volume_error_percent", "Volume error", "%", _NEITHER, Miss.LEFT_OUT, "of the reference's volume"),
)
