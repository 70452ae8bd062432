"""One organ in a whole-body CT: the whole scan, against the part that a first look locates.

    python benchmarks/locating.py bodies /tmp/bodies
    delineate train /tmp/bodies /tmp/model --spacing 3,3,3 --hold-out 4
    delineate train /tmp/bodies /tmp/locator --spacing 6,6,6 --hold-out 4
    python benchmarks/locating.py measure /tmp/model /tmp/locator --structures spleen,left_kidney

Bodies are synthetic patients that go on above and below: their outermost slices repeated, wandering a little. Those
that are measured have seeds that training did not see, and are 1.8 m long. Printed for the whole scan: windows, voxels
that the network went through, and seconds. For each organ (and each of several --margins): how many times fewer they
are, the look's included; Dice against the reference, with the difference to the whole scan's; and the Dice of the two
results.

With --scale 0.5, given to both commands, voxels are half as large along each axis (1.6 x 1.6 x 2.5 mm), for a model at
1.5 mm. With --dataset the same is measured on the last cases of a dataset.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from delineate import formats
from delineate.dataset import Case, Dataset, open_dataset, write_dataset_json
from delineate.engines import EngineChoice, Runner
from delineate.geometry import Grid, compose_affine, index_to_world
from delineate.inference import Locate, Prediction, Runners, open_stage_runners, segment
from delineate.inference.locating import MARGIN_MM
from delineate.model import Model, load_model
from delineate.phantom import PATIENT_LABELS, make_patient
from delineate.volume import Array, Kind, Segmentation, Volume

TRAINING_SEEDS, MEASURED_SEEDS = range(1000, 1024), range(1020, 1024)
LENGTH_MM = 1800.0


def main() -> None:
    arguments = _arguments()
    if arguments.what == "bodies":
        write_bodies(arguments.folder, scale=arguments.scale)
        return
    bench = Bench.of(load_model(arguments.model), load_model(arguments.locator), arguments.precision)
    scans = cases(arguments.dataset) if arguments.dataset else bodies(scale=arguments.scale)
    print("scan         structure       margin   windows   voxels  seconds  Dice    agreement")
    for name, volume, reference in islice(scans, arguments.cases):
        bench.compare(name, volume, reference, structures=arguments.structures, margins=arguments.margins)


@dataclass(slots=True)
class Counter:
    """A runner that counts the windows and voxels that it is called with."""

    runner: Runner
    windows: int = 0
    voxels: int = 0

    @property
    def choice(self) -> EngineChoice:
        return self.runner.choice

    def __call__(self, windows: Tensor) -> Tensor:
        self.windows += len(windows)
        self.voxels += windows.numel()
        return self.runner(windows)


class Run(NamedTuple):
    """A result and what it took; windows count once for each way they are mirrored."""

    result: Prediction
    windows: int
    voxels: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """A model and what locates for it, made ready once."""

    model: Model
    runners: Runners
    look: Model
    look_runners: Runners
    counters: tuple[Counter, ...]

    @classmethod
    def of(cls, model: Model, look: Model, precision: str) -> Bench:
        runners = [open_stage_runners(m, EngineChoice(precision=precision)) for m in (model, look)]
        counted = [replace(r, folds=tuple(map(Counter, r.folds))) for r in runners]
        counters = tuple(counter for r in counted for counter in r.folds if isinstance(counter, Counter))
        return cls(model, counted[0], look, counted[1], counters)

    def compare(
        self,
        name: str,
        volume: Volume,
        reference: Segmentation,
        *,
        structures: Sequence[str],
        margins: Sequence[float],
    ) -> None:
        """Print a line for the whole scan, and one for each structure and margin."""
        whole = self._run(volume, None)
        shape = " x ".join(map(str, volume.grid.shape))
        print(f"{name:12} {shape:23} {whole.windows:9} {whole.voxels / 1e6:7.1f}M {whole.seconds:8.1f}")
        for structure, margin in product(structures, margins):
            locate = Locate(self.look, structures=(structure,), margin_mm=margin, runners=self.look_runners)
            found = self._run(volume, locate)
            masks = [run.result.segmentation.mask(structure) for run in (whole, found)]
            scores = [dice(mask, reference.mask(structure)) for mask in masks]
            print(
                f"{'':12} {structure:15} {margin:4.0f} mm {whole.windows / found.windows:8.1f}x"
                f" {whole.voxels / found.voxels:7.1f}x {whole.seconds / found.seconds:7.1f}x"
                f"  {scores[1]:.4f} ({scores[1] - scores[0]:+.4f})  {dice(*masks):.4f}  {' '.join(found.result.notes)}",
                flush=True,
            )

    def _run(self, volume: Volume, locate: Locate | None) -> Run:
        for counter in self.counters:
            counter.windows = counter.voxels = 0
        began = time.perf_counter()
        result = segment(self.model, volume, runners=self.runners, locate=locate)
        seconds = time.perf_counter() - began
        return Run(result, sum(c.windows for c in self.counters), sum(c.voxels for c in self.counters), seconds)


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """Dice of two masks; 1 if both are empty."""
    both = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / both if both else 1.0


def bodies(*, scale: float) -> Iterator[tuple[str, Volume, Segmentation]]:
    """Patients that training did not see, 1.8 m long."""
    for seed in MEASURED_SEEDS:
        yield (f"body {seed}", *body(seed, above_mm=0.3 * LENGTH_MM, length_mm=LENGTH_MM, scale=scale))


def cases(folder: Path) -> Iterator[tuple[str, Volume, Segmentation]]:
    """A dataset's cases with references, from the last one on."""
    dataset = open_dataset(folder)
    for case in reversed(dataset.cases):
        if case.reference is not None:
            image = formats.read_volume(case.images[0])
            yield case.id, replace(image, kind=Kind.CT), formats.read_segmentation(case.reference, dataset.labels)


def write_bodies(folder: Path, *, scale: float) -> None:
    """A dataset to train on: shorter bodies."""
    written = []
    rng = np.random.default_rng(0)
    for seed in TRAINING_SEEDS:
        above_mm, length_mm = rng.uniform(40, 160), rng.uniform(450, 650)
        volume, reference = body(seed, above_mm=above_mm, length_mm=length_mm, scale=scale)
        image, target = folder / "imagesTr" / f"body{seed}_0000.nii.gz", folder / "labelsTr" / f"body{seed}.nii.gz"
        formats.write_volume(image, volume)
        formats.write_segmentation(target, reference)
        written.append(Case(f"body{seed}", f"body{seed}", (image,), target))
    write_dataset_json(folder, Dataset("Synthetic bodies", ("CT",), PATIENT_LABELS, tuple(written)))


def body(seed: int, *, above_mm: float, length_mm: float, scale: float) -> tuple[Volume, Segmentation]:
    """A synthetic patient that goes on for `above_mm` above, and below up to a length in all."""
    patient = make_patient(seed, spacing_scale=scale)
    grid, thickness = patient.image.grid, patient.image.grid.spacing_mm[2]
    above = round(above_mm / thickness)
    below = max(0, round(length_mm / thickness) - above - grid.shape[2])
    drift = np.random.default_rng(seed)
    shifts = [drift.normal(0, 0.35, (n, 2)).cumsum(axis=0).clip(-4, 4).round().astype(int) for n in (below, above)]
    image, labels = (
        np.concatenate([_wandering(a[..., 0], shifts[0]), a, _wandering(a[..., -1], shifts[1])], axis=2)
        for a in (patient.image.array[0], patient.reference.array)
    )
    noise = drift.normal(0, 10, image.shape)
    noise[..., below : below + grid.shape[2]] = 0  # it has its own
    image = np.clip(image + noise, -1024, 3071).astype(np.int16)
    affine = compose_affine(grid.affine[:3, :3], index_to_world(grid, (0, 0, -below)))
    longer = Grid((grid.shape[0], grid.shape[1], image.shape[2]), affine)
    return Volume(image[None], longer, Kind.CT), Segmentation(labels, longer, PATIENT_LABELS)


def _wandering(plane: Array, shifts: npt.NDArray[np.int_]) -> Array:
    if not len(shifts):
        return np.empty((*plane.shape, 0), plane.dtype)
    return np.stack([np.roll(plane, (int(i), int(j)), (0, 1)) for i, j in shifts], axis=-1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    written, measure = commands.add_parser("bodies"), commands.add_parser("measure")
    written.add_argument("folder", type=Path)
    for command in (written, measure):
        command.add_argument("--scale", type=float, default=1.0, help="of the bodies' voxels")
    measure.add_argument("model", type=Path)
    measure.add_argument("locator", type=Path)
    measure.add_argument("--dataset", type=Path, help="measure on its cases instead of synthetic bodies")
    measure.add_argument("--structures", type=lambda text: text.split(","), default=["spleen", "left_kidney"])
    measure.add_argument("--margins", type=lambda text: [float(mm) for mm in text.split(",")], default=[MARGIN_MM])
    measure.add_argument("--cases", type=int, default=4)
    measure.add_argument("--precision", default="bfloat16")
    return parser.parse_args()


if __name__ == "__main__":
    main()
