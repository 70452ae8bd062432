"""The scores of 20 structures: delineate, MONAI and surface-distance.

    python benchmarks/metrics.py --size small                   about half a minute
    python benchmarks/metrics.py                                512 x 512 x 200: minutes, and 12 GB of memory for MONAI
    python benchmarks/metrics.py --size large --without-monai   512 x 512 x 400, at which MONAI would need 24 GB

Needs `surface-distance` (PyPI). MONAI and surface-distance compute Dice, HD95 and surface Dice; delineate computes
these and its eleven other figures at once. The last row adds its lesion-wise scores of every structure and its advice
on which figures to trust. All run in one process on the same label maps; MONAI's one-hot masks are made beforehand and
not timed. Processor seconds are those of all threads, and suffer less from a busy machine. The scores must agree with
surface-distance to 1e-6; MONAI measures between voxels instead of surface elements, so that its scores differ a little
and are not compared here (see metrics_reloaded.py).
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from timing import print_table

from delineate.evaluation import Details, score_case, with_details
from delineate.geometry import Grid
from delineate.labels import label_set
from delineate.metrics import score_label_maps
from delineate.metrics.choosing import advise
from delineate.volume import Segmentation

LabelMap = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]

SIZES = {"small": (128, 128, 64), "medium": (256, 256, 100), "full": (512, 512, 200), "large": (512, 512, 400)}
SPACING_MM = (0.8, 0.8, 1.5)
STRUCTURES = 20
TOLERANCE_MM = 2.0


def make_label_maps(shape: tuple[int, int, int], *, seed: int = 0) -> tuple[LabelMap, LabelMap]:
    """A reference of smooth blobs of many sizes, and a prediction with shifted, rougher borders and islands."""
    generator = np.random.default_rng(seed)
    reference, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for value in range(1, STRUCTURES + 1):
        column, row = divmod(value - 1, 4)
        centre = np.array(shape) * ((column + 0.5) / 5, (row + 0.5) / 4, generator.uniform(0.3, 0.7))
        radii = np.array(shape) * (0.13, 0.13, 0.28) * generator.uniform(0.25, 1.0)
        low = np.maximum(np.floor(centre - 1.4 * radii).astype(int), 0)
        high = np.minimum(np.ceil(centre + 1.4 * radii).astype(int), shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        field = _ellipsoid(low, high, centre, radii) + 0.25 * _noise(high - low, generator, cells=4)
        reference[box][field > 0] = value
        moved = field + 0.06 * _noise(high - low, generator, cells=10) + generator.uniform(-0.05, 0.05)
        prediction[box][moved > 0] = value
    return reference, prediction


def _ellipsoid(
    low: npt.NDArray[np.int_], high: npt.NDArray[np.int_], centre: Scores, radii: Scores
) -> npt.NDArray[np.float64]:
    i, j, k = (((np.arange(a, b) - c) / r) ** 2 for a, b, c, r in zip(low, high, centre, radii, strict=True))
    return np.asarray(1 - np.sqrt(i[:, None, None] + j[:, None] + k))


def _noise(shape: npt.NDArray[np.int_], generator: np.random.Generator, *, cells: int) -> npt.NDArray[np.float64]:
    coarse = generator.normal(size=(cells, cells, cells))
    smooth = ndimage.zoom(coarse, shape / cells, order=1, grid_mode=True, mode="nearest")
    return np.asarray(smooth[: shape[0], : shape[1], : shape[2]])


def run_delineate(reference: LabelMap, prediction: LabelMap, *, threads: int) -> Scores:
    scores = score_label_maps(
        reference, prediction, SPACING_MM, range(1, STRUCTURES + 1), tolerance_mm=TOLERANCE_MM, threads=threads
    )
    return np.array([(s.dice, s.hd95_mm, s.surface_dice) for s in scores.values()])


def run_everything(reference: LabelMap, prediction: LabelMap, *, threads: int) -> object:
    """Every figure that the three modules give for structures of any shape, as `delineate evaluate` asks for them."""
    labels = label_set({value: f"structure {value}" for value in range(1, STRUCTURES + 1)})
    grid = Grid(reference.shape, np.diag([*SPACING_MM, 1.0]))
    pair = (Segmentation(reference, grid, labels), Segmentation(prediction, grid, labels))
    scores = score_case("case", *pair, tolerance_mm=TOLERANCE_MM, threads=threads)
    found = with_details(scores, *pair, Details(lesions=labels.names, shapes=True), threads=threads)
    return found, [advise(shape, tolerance_mm=TOLERANCE_MM) for shape in found.shapes.values()]


def run_surface_distance(reference: LabelMap, prediction: LabelMap) -> Scores:
    import surface_distance as peer

    rows = []
    for value in range(1, STRUCTURES + 1):
        pair = reference == value, prediction == value
        distances = peer.compute_surface_distances(*pair, SPACING_MM)
        hd95_mm = peer.compute_robust_hausdorff(distances, 95)
        surface_dice = peer.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)
        rows.append((peer.compute_dice_coefficient(*pair), hd95_mm, surface_dice))
    return np.array(rows)


def monai_run(reference: LabelMap, prediction: LabelMap) -> Callable[[], object]:
    """What computes MONAI's three scores of one-hot masks made here."""
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_dice import compute_surface_dice

    values = np.arange(1, STRUCTURES + 1, dtype=np.uint8)[:, None, None, None]
    y = torch.from_numpy(reference[None] == values)[None]
    y_pred = torch.from_numpy(prediction[None] == values)[None]

    def run() -> object:
        dice = compute_dice(y_pred, y)
        hd95_mm = compute_hausdorff_distance(
            y_pred, y, include_background=True, percentile=95, spacing=list(SPACING_MM)
        )
        surface_dice = compute_surface_dice(
            y_pred, y, [TOLERANCE_MM] * STRUCTURES, include_background=True, spacing=list(SPACING_MM)
        )
        return dice, hd95_mm, surface_dice

    return run


def measure(run: Callable[[], object], *, repeats: int, warmup: int) -> tuple[float, float]:
    """Median wall seconds and processor seconds of a run."""
    for _ in range(warmup):
        run()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        run()
        taken.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, processor = zip(*taken, strict=True)
    return statistics.median(wall), statistics.median(processor)


def mend_surface_distance() -> None:
    """Give surface-distance 0.1 the names that numpy 2 took away; it is otherwise unchanged."""
    vars(np).update(Inf=np.inf, NaN=np.nan)
    warnings.filterwarnings("ignore", message="Please import .* from the `scipy.ndimage` namespace")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-monai", action="store_true")
    options = parser.parse_args()
    mend_surface_distance()
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    pair = make_label_maps(SIZES[options.size])
    repeats = 1 if options.size in ("full", "large") else 3

    ours, threads = f"delineate, {options.threads} threads", options.threads
    rows = {
        ours: measure(lambda: run_delineate(*pair, threads=threads), repeats=5, warmup=1),
        "delineate, 1 thread": measure(lambda: run_delineate(*pair, threads=1), repeats=3, warmup=0),
        "with lesions and advice": measure(lambda: run_everything(*pair, threads=threads), repeats=3, warmup=1),
        "surface-distance": measure(lambda: run_surface_distance(*pair), repeats=repeats, warmup=0),
    }
    if not options.without_monai:
        rows["MONAI"] = measure(monai_run(*pair), repeats=repeats, warmup=0)
    for n, kind in enumerate(("wall", "processor")):
        title = f"{STRUCTURES} structures in {SIZES[options.size]}, {kind} seconds"
        print_table(title, [(name, seconds[n]) for name, seconds in rows.items()], reference=ours)

    theirs = run_surface_distance(*pair)
    difference = np.max(np.abs(run_delineate(*pair, threads=options.threads) - theirs) / np.maximum(theirs, 1e-9))
    print(f"  largest relative difference to surface-distance: {difference:.1e}")
    print(f"  mean dice, hd95_mm, surface_dice: {theirs.mean(axis=0).round(3)}")


if __name__ == "__main__":
    main()
