"""A run and its memory: what does not fit is said before, and what ran out on the way is made to fit."""

from __future__ import annotations

import gc
import re
from dataclasses import replace

import msgspec
import torch

from delineate.errors import ResourceError
from delineate.groups import ALONE, Group
from delineate.planning import Plan, training_bytes
from delineate.settings import Settings
from delineate.training import Incident, TrainingState
from delineate.training.together import of_one
from delineate.workflow.progress import Watch
from delineate.workflow.training_run import Run

_WORDS = re.compile("out of memory|can.t allocate memory|not enough memory", re.IGNORECASE)  # of PyTorch's allocators


def check_memory(plan: Plan, settings: Settings, group: Group = ALONE) -> None:
    """Raises `ResourceError` if a training step of a plan, shared by a group, would take more memory than there is."""
    plan = of_one(plan, group)
    needed = training_bytes(plan)
    if needed > settings.memory_bytes:
        raise ResourceError(
            "one training step of this plan does not fit the memory",
            expected=f"at most {settings.memory_bytes / 1e9:.2f} GB",
            got=f"about {needed / 1e9:.2f} GB for a batch of {plan.training.batch_size}",
            remedy="Lower training.batch_size, patch_size or network.features in the plan, or allow more --memory-gb.",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error comes from a lack of memory, also where others were raised from it."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, (MemoryError, torch.OutOfMemoryError)):
            return True
        if isinstance(found, RuntimeError) and _WORDS.search(str(found)):
            return True
        found = found.__cause__ or found.__context__
    return False


def halve_batch(run: Run, state: TrainingState, watch: Watch) -> Run:
    """The run with half the batch, which its plan on the disk says too, after memory ran out in a step.

    Raises `ResourceError` if the batch is 1, or shared by several processes: the others are in the midst of the step.
    """
    step, size = state.facts.step, run.plan.training.batch_size
    if state.group.size > 1:
        raise ResourceError(
            f"memory ran out in process {state.group.rank + 1} of {state.group.size}, in a training step",
            got=f"step {step}, a batch of {size} in all",
            remedy="Stop what else takes memory and run the same command again, or lower training.batch_size in the "
            f"run's plan.json ({run.folder.folder}).",
        )
    if size == 1:
        raise ResourceError(
            "memory ran out in a training step with a batch of 1",
            got=f"step {step}, about {training_bytes(run.plan) / 1e9:.2f} GB a step by estimate",
            remedy="Stop what else takes memory and run the same command again, or train into a new folder with a "
            "smaller --patch or fewer --features.",
        )
    what = f"memory ran out: batch of {size // 2} instead of {size}"
    plan = msgspec.structs.replace(
        run.plan,
        training=msgspec.structs.replace(run.plan.training, batch_size=size // 2),
        reasons=(*run.plan.reasons, f"{what}, from step {step} on"),
    )
    run.folder.write_plan(plan)
    facts = state.facts
    state.facts = msgspec.structs.replace(facts, incidents=(*facts.incidents, Incident(step=step, what=what)))
    watch(f"Step {step}", 1, 1, f"{what}, from here on")
    state.optimiser.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(run, plan=plan)
