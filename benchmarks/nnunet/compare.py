"""The same cases through delineate, from nnU-Net's own trained-model folders: do the masks agree, voxel by voxel?

    python benchmarks/nnunet/compare.py [MODEL ...] [--mirror] [--limit N]

The bar: 99.99 % of a model's voxels have the same label, and each structure's Dice over all cases is at least 0.9999.
nnU-Net adds logits up in float16 and rounds them to float16 again when it resamples them; by itself that moves a few
voxels a case. So delineate is asked twice: for nnU-Net's own masks, rounding and all (`predict --as-nnunet`), which are
compared with nnU-Net's; and as it is, compared with nnU-Net's masks with logits kept in float32 (`peer.py predict
--float32`), where they are there. Those are compared with nnU-Net's usual ones, too, which says what the rounding does.
Exits with 1 if a model is below the bar against either.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from models import INPUTS, MASKS, MODELS, Trained, by_name

from delineate import formats
from delineate.engines import EngineChoice
from delineate.errors import GeometryMismatch
from delineate.exchange import read_nnunet
from delineate.geometry import aligned
from delineate.inference import InferenceOptions, open_stage_runners, segment
from delineate.model import Model, with_tiling
from delineate.planning import Sums
from delineate.volume import Kind, Volume

LEAST_EQUAL, LEAST_DICE = 0.9999, 0.9999
VALUES = 256


@dataclass(frozen=True, slots=True)
class Agreement:
    """Voxels of all cases of a model, by the labels two programs gave them: `counts[a, b]` got a from the first and b
    from the second. `worst`: the case with the smallest share of equal voxels."""

    counts: npt.NDArray[np.int64]
    worst: tuple[float, str]
    cases: int

    @property
    def equal(self) -> float:
        return float(np.trace(self.counts) / self.counts.sum())

    @property
    def dice(self) -> npt.NDArray[np.float64]:
        """Of each structure that either of the two found, over all cases at once."""
        hits, sizes = np.diag(self.counts)[1:], (self.counts.sum(0) + self.counts.sum(1))[1:]
        return np.asarray(2 * hits[sizes > 0] / sizes[sizes > 0])

    @property
    def words(self) -> str:
        return f"{self.equal:.4%}, {self.dice.min(initial=1.0):.5f}"

    @property
    def passes(self) -> bool:
        return self.equal >= LEAST_EQUAL and bool(np.all(self.dice >= LEAST_DICE))


def agreement(label_maps: Iterable[tuple[str, Volume, Volume]]) -> Agreement:
    """Count (case, one label map, another), voxel by voxel. Raises `GeometryMismatch` where their grids differ."""
    total = np.zeros((VALUES, VALUES), np.int64)
    shares: list[tuple[float, str]] = []
    for case, first, second in label_maps:
        if first.grid.shape != second.grid.shape or not aligned(first.grid, second.grid):
            raise GeometryMismatch("the masks lie on different grids", expected=first.grid, got=second.grid, case=case)
        pairs = first.array.astype(np.int64) * VALUES + second.array.astype(np.int64)
        counts = np.bincount(pairs.ravel(), minlength=VALUES**2).reshape(VALUES, VALUES)
        total += counts
        shares.append((float(np.trace(counts) / counts.sum()), case))
    return Agreement(total, min(shares), len(shares))


def stored(path: Path) -> Volume:
    """The label map of a file, in the axes that it is stored in."""
    return formats.read_volume(path)


def predicted(model: Model, trained: Trained, cases: Sequence[str]) -> Iterator[tuple[str, Volume]]:
    """delineate's label maps of the held-out cases, by PyTorch in float32, of all windows: weak models find structures
    even in air, which nnU-Net does not leave out."""
    runners, options = open_stage_runners(model, EngineChoice("torch", "float32")), InferenceOptions(skip_air=False)
    for case in cases:
        path = INPUTS / trained.data.folder / "images" / f"{case}_0000.nii.gz"
        volume = formats.read_volume(path, kind=model.plan.kinds[0])
        found = segment(model, volume, runners=runners, options=options)
        yield case, Volume(found.label_map[None], volume.grid, Kind.OTHER)


def pairs(one: Path, other: Path, cases: Sequence[str]) -> Iterator[tuple[str, Volume, Volume]]:
    """The label maps of the same cases in two folders."""
    for case in cases:
        yield case, stored(one / f"{case}.nii.gz"), stored(other / f"{case}.nii.gz")


def cases_of(folder: Path, limit: int | None) -> list[str]:
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))[:limit]


def compare(trained: Trained, *, mirrored: bool, limit: int | None) -> tuple[str, bool]:
    """A row of the table, and whether the model passes."""
    way = "mirrored" if mirrored else "plain"
    theirs, exact = MASKS / trained.name / way, MASKS / trained.name / f"{way}_float32"
    cases, controlled = cases_of(theirs, limit), cases_of(exact, limit)
    if not cases:
        return f"| {trained.name} | {way} | nnU-Net has not predicted it |" + " |" * 5, False
    model = read_nnunet(trained.folder)

    def against(folder: Path, some: Sequence[str], sums: Sums) -> Agreement:
        tiled = with_tiling(model, overlap=0.5, mirror=mirrored, sums=sums)
        ours = predicted(tiled, trained, some)
        return agreement((case, labels, stored(folder / f"{case}.nii.gz")) for case, labels in ours)

    found = [against(theirs, cases, "nnunet")]
    if controlled:
        found += [against(exact, controlled, "float32"), agreement(pairs(theirs, exact, controlled))]
    share, case = found[0].worst
    cells = [trained.name, way, str(len(cases)), f"{share:.3%} ({case})", *(one.words for one in found)]
    return "| " + " | ".join(cells) + " |" * (8 - len(cells)), all(one.passes for one in found[:2])


HEADER = (
    "\n| model | mirroring | cases | least equal case | delineate --as-nnunet, nnU-Net: equal, lowest Dice | "
    "delineate, nnU-Net in float32 | nnU-Net, nnU-Net in float32 |\n|" + "---|" * 7
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("models", nargs="*", help="all by default")
    parser.add_argument("--mirror", action="store_true")
    parser.add_argument("--limit", type=int, help="so many cases only")
    arguments = parser.parse_args()
    print(HEADER)
    passed = True
    for trained in [by_name(name) for name in arguments.models] or MODELS:
        row, passes = compare(trained, mirrored=arguments.mirror, limit=arguments.limit)
        passed &= passes
        print(row, flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
