"""Where our figures equal those of MetricsReloaded, MONAI, MedPy and surface-distance, and by how much they differ.

    python benchmarks/metrics_reloaded.py --reloaded CHECKOUT --medpy FOLDER

CHECKOUT: of the repository MetricsReloaded (it is on no registry; needs scikit-learn and pandas). FOLDER: an unpacked
source archive of MedPy (its compiled parts are not needed). What is not given is left out. Shapes are random, of
spacings that differ; then come masks that are empty. For what the differences come from see docs/metrics.md.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from metrics import mend_surface_distance
from scipy import ndimage

from delineate.metrics import score_masks
from delineate.metrics.voxel_borders import score_voxel_borders

Mask = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
Figures = Mapping[str, Callable[[], float]]
Peer = Callable[[Mask, Mask, Spacing], Figures]

SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (0.7, 1.3, 3.0), (5.0, 0.4, 0.9), (0.8, 0.8, 2.5)]
SHAPE = (24, 19, 21)
PAIRS = 40
TOLERANCE_MM = 1.37  # no multiple of a spacing, so that rounding decides nothing
EQUAL = 1e-5  # MONAI's figures are of float32
FIGURES = (
    "dice",
    "iou",
    "precision",
    "recall",
    "volume_error_percent",
    "centroid_distance_mm",
    "boundary_iou",
    "hd_mm",
    "hd95_mm",
    "mean_surface_distance_mm",
    "masd_mm",
    "surface_dice",
)


def blobs(generator: np.random.Generator) -> tuple[Mask, Mask]:
    """Two smooth random masks that overlap in part, sometimes cut by the array's border."""
    fields = [ndimage.gaussian_filter(generator.normal(size=SHAPE), 2.2) for _ in range(3)]
    masks = [fields[0] + 0.6 * other for other in fields[1:]]
    return masks[0] > np.quantile(masks[0], 0.8), masks[1] > np.quantile(masks[1], 0.83)


def by_area(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
    scores = score_masks(reference, prediction, spacing_mm, tolerance_mm=TOLERANCE_MM)
    in_voxels = score_masks(reference, prediction, (1.0, 1.0, 1.0), tolerance_mm=1.0)
    figures = {name: getattr(scores, name) for name in FIGURES} | {"boundary_iou": in_voxels.boundary_iou}
    return {name: partial(float, value) for name, value in figures.items()}


def by_voxel(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
    scores = score_voxel_borders(reference, prediction, spacing_mm, tolerance_mm=TOLERANCE_MM)
    figures = {
        "hd_mm": scores.hd_mm,
        "hd95_mm": scores.hd95_mm,
        "hd95_pooled_mm": scores.hd95_pooled_mm,
        "mean_surface_distance_mm": scores.assd_mm,
        "masd_mm": scores.masd_mm,
        "surface_dice": scores.nsd,
    }
    return {name: partial(float, value) for name, value in figures.items()}


def surface_distance(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
    import surface_distance as peer

    distances = peer.compute_surface_distances(reference, prediction, spacing_mm)
    return {
        "dice": partial(peer.compute_dice_coefficient, reference, prediction),
        "hd_mm": partial(peer.compute_robust_hausdorff, distances, 100),
        "hd95_mm": partial(peer.compute_robust_hausdorff, distances, 95),
        "masd_mm": lambda: sum(peer.compute_average_surface_distance(distances)) / 2,
        "surface_dice": partial(peer.compute_surface_dice_at_tolerance, distances, TOLERANCE_MM),
    }


def reloaded_of(checkout: Path) -> Peer:
    sys.path.insert(0, str(checkout))
    from MetricsReloaded.metrics.pairwise_measures import BinaryPairwiseMeasures  # type: ignore[import-not-found]

    def reloaded(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
        settings = {"nsd": TOLERANCE_MM, "boundary_dist": 1.0 + 1e-6}
        masks = prediction.astype(np.int64), reference.astype(np.int64)
        measures = BinaryPairwiseMeasures(*masks, pixdim=list(spacing_mm), dict_args=settings)
        return {
            "dice": measures.dsc,
            "iou": measures.intersection_over_union,
            "precision": measures.positive_predictive_values,
            "recall": measures.recall,
            "volume_error_percent": measures.rel_vol_error,
            "centroid_distance_mm": measures.com_dist,
            "boundary_iou": measures.boundary_iou,
            "hd_mm": measures.measured_hausdorff_distance,
            "hd95_mm": measures.measured_hausdorff_distance_perc,
            "mean_surface_distance_mm": measures.measured_average_distance,
            "masd_mm": measures.measured_masd,
            "surface_dice": measures.normalised_surface_distance,
        }

    return reloaded


def monai_of(*, subvoxels: bool) -> Peer:
    def monai(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
        import torch

        peer: Any = importlib.import_module("monai.metrics")
        pair = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        everything = {"include_background": True, "spacing": list(spacing_mm)}
        nsd = partial(peer.compute_surface_dice, *pair, [TOLERANCE_MM], use_subvoxels=subvoxels, **everything)
        if subvoxels:
            return {"surface_dice": nsd}
        return {
            "dice": partial(peer.compute_dice, *pair),
            "iou": partial(peer.compute_iou, *pair),
            "hd_mm": partial(peer.compute_hausdorff_distance, *pair, **everything),
            "hd95_mm": partial(peer.compute_hausdorff_distance, *pair, percentile=95, **everything),
            "mean_surface_distance_mm": partial(
                peer.compute_average_surface_distance, *pair, symmetric=True, **everything
            ),
            "surface_dice": nsd,
        }

    return monai


def medpy_of(folder: Path) -> Peer:
    spec = importlib.util.spec_from_file_location("medpy_binary", folder / "medpy" / "metric" / "binary.py")
    assert spec is not None
    assert spec.loader is not None
    peer: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)

    def medpy(reference: Mask, prediction: Mask, spacing_mm: Spacing) -> Figures:
        pair = prediction, reference
        return {
            "dice": partial(peer.dc, *pair),
            "iou": partial(peer.jc, *pair),
            "precision": partial(peer.precision, *pair),
            "recall": partial(peer.recall, *pair),
            "volume_error_percent": lambda: 100 * peer.ravd(*pair),
            "hd_mm": partial(peer.hd, *pair, spacing_mm),
            "hd95_pooled_mm": partial(peer.hd95, *pair, spacing_mm),
            "mean_surface_distance_mm": partial(peer.assd, *pair, spacing_mm),
        }

    return medpy


def compare(peers: Mapping[str, Peer]) -> None:
    """Print, for each peer and figure, the largest relative difference to ours and to our voxel-border figures."""
    generator = np.random.default_rng(0)
    pairs = [(*blobs(generator), SPACINGS[n % len(SPACINGS)]) for n in range(PAIRS)]
    print(f"largest relative difference over {PAIRS} random pairs ('=': below {EQUAL}), by area | by border voxels")
    for name, peer in peers.items():
        print(f"\n{name}")
        rows = [(peer(*pair), by_area(*pair), by_voxel(*pair)) for pair in pairs]
        for figure in rows[0][0]:
            theirs, *ours = (np.array([_value(row[n], figure) for row in rows]) for n in range(3))
            print(f"  {figure:26s}", " | ".join(f"{_difference(theirs, mine):>8s}" for mine in ours))


def _value(figures: Figures, figure: str) -> float:
    return float(figures[figure]()) if figure in figures else math.nan


def _difference(theirs: npt.NDArray[np.float64], ours: npt.NDArray[np.float64]) -> str:
    if np.isnan(ours).all():
        return ""
    largest = float(np.max(np.abs(theirs - ours) / np.maximum(np.abs(theirs), 1e-9)))
    return "=" if largest < EQUAL else f"{100 * largest:.2g} %"


def show_empty(peers: Mapping[str, Peer]) -> None:
    """Print what each gives for a missed, a spurious and an absent structure."""
    something, nothing = blobs(np.random.default_rng(1))[0], np.zeros(SHAPE, dtype=bool)
    empty = {"missed": (something, nothing), "spurious": (nothing, something), "absent": (nothing, nothing)}
    for name, peer in {"ours": by_area, "ours, by border voxels": by_voxel, **peers}.items():
        print(f"\n{name}: {', '.join(empty)}")
        columns = [peer(*pair, SPACINGS[1]) for pair in empty.values()]
        for figure in columns[0]:
            print(f"  {figure:26s}", " ".join(f"{_shown(column[figure]):>12s}" for column in columns))


def _shown(figure: Callable[[], float]) -> str:
    try:
        return f"{float(figure()):.4g}"
    except Exception as error:  # whatever a peer raises is what is to be shown
        return type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reloaded", type=Path, help="a checkout of MetricsReloaded")
    parser.add_argument("--medpy", type=Path, help="an unpacked source archive of MedPy")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    mend_surface_distance()
    peers: dict[str, Peer] = {"surface-distance": surface_distance}
    if options.reloaded:
        peers["MetricsReloaded"] = reloaded_of(options.reloaded)
    peers["MONAI"] = monai_of(subvoxels=False)
    peers["MONAI, with subvoxels"] = monai_of(subvoxels=True)
    if options.medpy:
        peers["MedPy"] = medpy_of(options.medpy)
    compare(peers)
    show_empty(peers)


if __name__ == "__main__":
    main()
