"""Batches of patches, made ahead by worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from delineate.errors import DelineateError, TrainingError
from delineate.groups import ALONE, Group
from delineate.planning import Plan
from delineate.sampling.cases import TrainingCase
from delineate.sampling.drawing import draw, reading_of
from delineate.sampling.patches import make_patch


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """`images` (B, C, I, J, K) float32, `targets` (B, I, J, K) int64, and the cases' ids.

    `annotated` (B, classes), bool: what each case's reference says something about; None if about everything.
    `step`: the number of the batch, for objectives that draw something of their own. `group`: the processes that have
    equal shares of the batch, of which this is one; `whole`: the cases' ids of all of it, if they are more.
    """

    images: Tensor
    targets: Tensor
    annotated: Tensor | None
    cases: tuple[str, ...]
    step: int = 0
    group: Group = ALONE
    whole: tuple[str, ...] = ()

    @property
    def all_cases(self) -> tuple[str, ...]:
        """The cases of the whole batch, whoever has them."""
        return self.whole or self.cases

    @property
    def first_number(self) -> int:
        """The number that the first patch has in the run, where all batches are of this size."""
        return (self.step * self.group.size + self.group.rank) * len(self.images)

    def to(self, device: str) -> Batch:
        """The same batch on a device."""
        annotated = None if self.annotated is None else self.annotated.to(device, non_blocking=True)
        images, targets = (part.to(device, non_blocking=True) for part in (self.images, self.targets))
        return replace(self, images=images, targets=targets, annotated=annotated)


def make_batch(cases: Sequence[TrainingCase], plan: Plan, step: int, *, group: Group = ALONE) -> Batch:
    """The batch of one training step (from 0), or this process's share of it.

    Raises `TrainingError` naming the case that failed.
    """
    size = plan.training.batch_size
    first = step * size
    every = draw(cases, plan, range(first, first + size))
    images, targets, chosen_cases = [], [], []
    for number, drawn in ((first + n, every[n]) for n in group.share(size)):
        chosen = reading_of(cases[drawn.case], drawn.structure, plan, number)
        try:
            rng = np.random.default_rng((plan.training.seed, number))
            image, target = make_patch(chosen, plan, rng, drawn.structure)
        except Exception as error:
            raise _named(error, chosen.case.id, step) from error
        images.append(image)
        targets.append(target)
        chosen_cases.append(chosen)
    ids = tuple(chosen.case.id for chosen in chosen_cases)
    whole = () if group.size == 1 else tuple(cases[drawn.case].case.id for drawn in every)
    known = _annotated(chosen_cases, plan)
    return Batch(torch.stack(images), torch.stack(targets).long(), known, ids, step, group, whole)


def _annotated(cases: Sequence[TrainingCase], plan: Plan) -> Tensor | None:
    if plan.training.missing_labels == "absent":
        return None
    return torch.tensor([plan.drawn(case.values) for case in cases])


def iterate_batches(
    cases: Sequence[TrainingCase], plan: Plan, first: int, *, workers: int = 1, ahead: int = 4, group: Group = ALONE
) -> Generator[Batch]:
    """Batches `first`, `first` + 1, ... without end, `ahead` of them made in advance by worker threads.

    `group`: the processes that have shares of them; this one's are given.

    What fails in a worker is raised here, when its batch is asked for.
    """
    threads = torch.get_num_threads()
    # A worker's small operations run faster in one thread, and must not compete with the network's.
    pool = ThreadPoolExecutor(max(1, workers), "batches", initializer=torch.set_num_threads, initargs=(1,))
    make = partial(make_batch, cases, plan, group=group)
    try:
        waiting: deque[Future[Batch]] = deque(pool.submit(make, first + n) for n in range(ahead))
        upcoming = first + ahead
        waiting[0].exception()  # the workers have set their own number of threads by now
        torch.set_num_threads(threads)
        while True:
            batch = waiting.popleft().result()
            waiting.append(pool.submit(make, upcoming))
            upcoming += 1
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def steps_per_epoch(case_count: int, plan: Plan) -> int:
    """An epoch takes `samples_per_image` patches from each image."""
    return max(1, -(-case_count * plan.training.samples_per_image // plan.training.batch_size))


def _named(error: Exception, case: str, step: int) -> DelineateError:
    if isinstance(error, DelineateError):
        return error.in_case(case)
    return TrainingError(
        f"making a batch failed: {type(error).__name__}: {error}",
        case=case,
        got=f"step {step}",
        remedy="Check the case.",
    )
