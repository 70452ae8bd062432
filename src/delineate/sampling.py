"""Patches and batches from prepared cases.

Batch n is a function of the plan's seed and n alone. So batches can be made ahead by any number of workers, in any
order, and a run that was stopped goes on with the batches it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from delineate.augmentation import (
    Augmentation,
    change_intensities,
    no_augmentation,
    reach_voxels,
    sample_at,
    sample_augmentation,
    source_positions,
)
from delineate.errors import DatasetError, DelineateError, TrainingError
from delineate.geometry import Box, FloatArray, Triple
from delineate.planning import Plan
from delineate.preprocessing import IGNORE, PreparedCase
from delineate.volume import cut

MOST_LOCATIONS = 10_000  # voxels kept per structure to centre patches on


@dataclass(frozen=True, slots=True, eq=False)
class TrainingCase:
    """A prepared case, where its structures are (one (n, 3) index array each), and what surrounds it, a channel.

    `values`: the structures' values in the target, in the order of `locations`.
    """

    case: PreparedCase
    values: tuple[int, ...]
    locations: tuple[npt.NDArray[np.int32], ...]
    outside: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`images` (B, C, I, J, K) float32, `targets` (B, I, J, K) int64, and the cases' ids.

    `annotated` (B, classes), bool: what each case's reference says something about; None if about everything.
    `step`: the number of the batch, for objectives that draw something of their own.
    """

    images: Tensor
    targets: Tensor
    annotated: Tensor | None
    cases: tuple[str, ...]
    step: int = 0

    def to(self, device: str) -> Batch:
        """The same batch on a device."""
        annotated = None if self.annotated is None else self.annotated.to(device, non_blocking=True)
        images, targets = (part.to(device, non_blocking=True) for part in (self.images, self.targets))
        return replace(self, images=images, targets=targets, annotated=annotated)


def index_case(case: PreparedCase, *, seed: int, padding: Literal["lowest", "zero"] = "lowest") -> TrainingCase:
    """Find the voxels to centre patches on; `padding`: what surrounds the case, as in the plan's tiling.

    Raises `DatasetError` for a case without a reference.
    """
    if case.target is None:
        raise DatasetError("a training case has no reference", case=case.id, remedy="Add its label file.")
    rng = np.random.default_rng(seed)
    shape = case.target.shape
    flat = case.target.ravel()
    found = []
    values = tuple(int(value) for value in np.unique(flat[(flat > 0) & (flat != IGNORE)]))
    for value in values:
        where = np.flatnonzero(flat == value)
        if where.size > MOST_LOCATIONS:
            where = np.sort(rng.choice(where, MOST_LOCATIONS, replace=False))
        found.append(np.stack(np.unravel_index(where, shape), axis=1).astype(np.int32))
    outside = np.zeros(len(case.image), np.float32)
    if padding == "lowest":
        outside = np.asarray(case.image.reshape(len(outside), -1).min(axis=1), dtype=np.float32)
    return TrainingCase(case, values, tuple(found), outside)


def make_batch(cases: Sequence[TrainingCase], plan: Plan, step: int) -> Batch:
    """The batch of one training step (from 0). Raises `TrainingError` naming the case that failed."""
    size = plan.training.batch_size
    images, targets, chosen_cases = [], [], []
    for position in range(size):
        number = step * size + position
        chosen = cases[_case_of(number, len(cases), plan)]
        try:
            image, target = _make_patch(chosen, plan, np.random.default_rng((plan.training.seed, number)))
        except Exception as error:
            raise _named(error, chosen.case.id, step) from error
        images.append(image)
        targets.append(target)
        chosen_cases.append(chosen)
    ids = tuple(chosen.case.id for chosen in chosen_cases)
    return Batch(torch.stack(images), torch.stack(targets).long(), _annotated(chosen_cases, plan), ids, step)


def _annotated(cases: Sequence[TrainingCase], plan: Plan) -> Tensor | None:
    if plan.training.missing_labels == "absent":
        return None
    return torch.tensor([[value == 0 or value in case.values for value in range(plan.classes)] for case in cases])


def iterate_batches(
    cases: Sequence[TrainingCase], plan: Plan, first: int, *, workers: int = 1, ahead: int = 4
) -> Iterator[Batch]:
    """Batches `first`, `first` + 1, ... without end, `ahead` of them made in advance by worker threads.

    What fails in a worker is raised here, when its batch is asked for.
    """
    threads = torch.get_num_threads()
    # A worker's small operations run faster in one thread, and must not compete with the network's.
    pool = ThreadPoolExecutor(max(1, workers), "batches", initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting: deque[Future[Batch]] = deque(pool.submit(make_batch, cases, plan, first + n) for n in range(ahead))
        upcoming = first + ahead
        waiting[0].exception()  # the workers have set their own number of threads by now
        torch.set_num_threads(threads)
        while True:
            batch = waiting.popleft().result()
            waiting.append(pool.submit(make_batch, cases, plan, upcoming))
            upcoming += 1
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def steps_per_epoch(case_count: int, plan: Plan) -> int:
    """An epoch takes `samples_per_image` patches from each image."""
    return max(1, -(-case_count * plan.training.samples_per_image // plan.training.batch_size))


def _case_of(number: int, count: int, plan: Plan) -> int:
    # Every image once in each round, in an order of its own.
    order = np.random.default_rng((plan.training.seed, 1, number // count)).permutation(count)
    return int(order[number % count])


def _make_patch(chosen: TrainingCase, plan: Plan, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    spacing = chosen.case.trace.prepared.spacing_mm
    augmentation = sample_augmentation(plan.augmentation, spacing, plan.patch_size, rng)
    centre = _draw_centre(chosen, plan, rng) + augmentation.shift
    return cut_patch(chosen, centre, plan.patch_size, augmentation)


def _draw_centre(chosen: TrainingCase, plan: Plan, rng: np.random.Generator) -> FloatArray:
    """On a voxel of a structure (each equally likely) or anywhere, then moved so that little lies outside."""
    shape, patch = np.asarray(chosen.case.image.shape[1:]), np.asarray(plan.patch_size)
    centre = rng.uniform(0, shape)
    if rng.random() < plan.training.positive_fraction and chosen.locations:
        voxels = chosen.locations[rng.integers(len(chosen.locations))]
        centre = voxels[rng.integers(len(voxels))].astype(np.float64)
    low, high = (patch - 1) / 2, shape - 1 - (patch - 1) / 2
    inside = np.where(low <= high, np.clip(centre, low, np.maximum(low, high)), (shape - 1) / 2)
    # Whole-voxel positions: a patch that is not turned needs no interpolation.
    return np.asarray(np.floor(inside - low) + low, dtype=np.float64)


def cut_patch(
    chosen: TrainingCase, centre: FloatArray, patch: Triple, augmentation: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """Image (C, I, J, K) and target (I, J, K) of a patch about `centre` (voxels).

    Outside the case the image has the values that surround it, and the target 0.
    """
    augmentation = augmentation or no_augmentation()
    assert chosen.case.target is not None
    if augmentation.is_spatial:
        image, target = _cut_turned(chosen, centre, patch, augmentation)
    else:
        start = np.round(centre - (np.asarray(patch) - 1) / 2).astype(int)
        box = Box(tuple(start), tuple(start + patch))
        channels = zip(chosen.case.image, chosen.outside, strict=True)
        image = torch.from_numpy(np.stack([cut(channel, box, fill=float(value)) for channel, value in channels]))
        target = torch.from_numpy(cut(chosen.case.target, box).copy())
    axes = [axis for axis in range(3) if augmentation.flips[axis]]
    image = image.flip([1 + axis for axis in axes]) if axes else image
    target = target.flip(axes) if axes else target
    return change_intensities(image, augmentation), target


def _cut_turned(
    chosen: TrainingCase, centre: FloatArray, patch: Triple, augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    assert chosen.case.target is not None
    shape = np.asarray(chosen.case.image.shape[1:])
    reach = reach_voxels(patch, augmentation)
    start = np.clip(np.floor(centre - reach), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(centre + reach) + 1, start + 1, shape).astype(int)
    box = Box(tuple(start), tuple(stop))
    outside = torch.from_numpy(chosen.outside).reshape(-1, 1, 1, 1)
    image = torch.tensor(np.ascontiguousarray(cut(chosen.case.image, box))) - outside
    target = torch.tensor(np.ascontiguousarray(cut(chosen.case.target, box)))[None].float()
    positions = source_positions(patch, augmentation) + torch.as_tensor(centre - start, dtype=torch.float32)
    turned = sample_at(image, positions, mode="bilinear") + outside
    return turned, sample_at(target, positions, mode="nearest")[0].to(torch.uint8)


def _named(error: Exception, case: str, step: int) -> DelineateError:
    if isinstance(error, DelineateError):
        return error.in_case(case)
    return TrainingError(
        f"making a batch failed: {type(error).__name__}: {error}",
        case=case,
        got=f"step {step}",
        remedy="Check the case.",
    )
