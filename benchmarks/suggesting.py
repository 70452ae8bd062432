"""Whether suggested cases cover more variety than cases drawn by chance, on synthetic and on real scans.

    python benchmarks/suggesting.py [FOLDER OF A DATASET ...]

Chosen by voxel size, extent, intensities and volumes of structures, without a model's uncertainty. Measured four ways:
how far the farthest case is from the nearest chosen one in these features (which is what is optimised), how far cases
are from it on average, how alike each case's image is on average to the most alike chosen one (which the choice knows
nothing of), and in the synthetic pool, of which most is one scanner's, how many of the 4 groups are among the chosen.
No model is trained: that more variety makes a better one is not shown here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from delineate import formats
from delineate.dataset import open_dataset
from delineate.evaluation.descriptors import describe_volume
from delineate.evaluation.likeness import coarse_likeness
from delineate.phantom import make_synthetic
from delineate.review.records import NewCase, ReviewCase, State, Structure
from delineate.review.suggesting import coverage, standardised, suggest
from delineate.review.suggestions import ScanFeatures, candidates, scan_features
from delineate.volume import Segmentation, Volume
from delineate.workflow.structures import read_image

COUNTS, DRAWS = (5, 10, 20), 400
GROUPS = (("abdomen", "A", 84), ("abdomen", "B", 24), ("abdomen", "C", 8), ("lung", "A", 4))

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """`alike`: (cases, cases), how alike two images are; `groups`: of each case, "" where there are none."""

    name: str
    cases: tuple[ReviewCase, ...]
    scans: tuple[ScanFeatures, ...]
    alike: Table
    groups: tuple[str, ...]


def main() -> None:
    columns = (f"{what:>8}  by chance (5 % to 95 %)" for what in ("farthest", "mean", "likeness"))
    print("pool         chosen     ", "   ".join(columns), "  groups")
    for pool in (synthetic(), *(of_dataset(Path(folder)) for folder in sys.argv[1:])):
        found = candidates(pool.cases, pool.scans)
        rows = standardised(np.array([[value for _, value in one.features] for one in found]))
        places = {one.key: n for n, one in enumerate(found)}
        rng = np.random.default_rng(0)
        for count in COUNTS:
            chosen = [places[one.key] for one in suggest(found, count)]
            draws = [rng.choice(len(found), count, replace=False).tolist() for _ in range(DRAWS)]
            measures = (
                lambda some: float(_nearest(rows, some).max()),  # noqa: B023 - used at once
                lambda some: coverage(rows, some),  # noqa: B023
                lambda some: float(pool.alike[some].max(axis=0).mean()),  # noqa: B023
            )
            figures = "   ".join(_against(measure, chosen, draws) for measure in measures)
            groups = ""
            if any(pool.groups):
                by_chance = np.mean([len({pool.groups[n] for n in draw}) for draw in draws])
                groups = f"{len({pool.groups[n] for n in chosen})}, by chance {by_chance:.1f}"
            print(f"{pool.name:12} {count:2} of {len(found):3}    {figures}   {groups}", flush=True)


def _nearest(rows: Table, chosen: Sequence[int]) -> Table:
    found: Table = np.min([np.sqrt(((rows - rows[n]) ** 2).mean(axis=1)) for n in chosen], axis=0)
    return found


def _against(measure: Callable[[Sequence[int]], float], chosen: Sequence[int], draws: Sequence[Sequence[int]]) -> str:
    by_chance = np.array([measure(draw) for draw in draws])
    low, high = np.quantile(by_chance, (0.05, 0.95))
    return f"{measure(chosen):8.3f}  {by_chance.mean():.3f} ({low:.3f} to {high:.3f})"


def synthetic() -> Pool:
    """Of 120 patients 84 are of one scanner; 4 are of another part of the body."""
    found: list[tuple[Volume, Segmentation, str]] = []
    for kind, site, count in GROUPS:
        for _ in range(count):
            patient = make_synthetic(kind, len(found), site=site, coarse=4.0)
            found.append((patient.image, patient.reference, f"{kind} {site}"))
    return _pool("synthetic", found)


def of_dataset(folder: Path) -> Pool:
    """All cases with a reference of a dataset on disk."""
    dataset = open_dataset(folder)
    found: list[tuple[Volume, Segmentation, str]] = []
    for case in dataset.cases:
        if case.reference is not None:
            volume = read_image(case, dataset.kinds)
            found.append((volume, formats.read_segmentation(case.reference, dataset.labels), ""))
    return _pool(dataset.name[:12], found)


def _pool(name: str, found: Sequence[tuple[Volume, Segmentation, str]]) -> Pool:
    cases = tuple(ReviewCase(n, _new(f"{n:04d}", one), State.UNREVIEWED, 0) for n, (_, one, _) in enumerate(found))
    pictures = [describe_volume(volume) for volume, _, _ in found]
    alike = np.array([coarse_likeness(picture, pictures) for picture in pictures], float)
    scans = tuple(scan_features(volume) for volume, _, _ in found)
    return Pool(name, cases, scans, alike, tuple(group for _, _, group in found))


def _new(key: str, segmentation: Segmentation) -> NewCase:
    voxel_ml = segmentation.grid.voxel_volume_ml
    structures = tuple(
        Structure(label.value, label.name, label.colour, float(segmentation.mask(label.name).sum()) * voxel_ml)
        for label in segmentation.labels
    )
    return NewCase(key, "", key, Path(key), Path(key), key, structures)


if __name__ == "__main__":
    main()
