"""Learning to be pointed at: each patch has one structure that is meant, and a simulated person points at it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from delineate.inference.prompting import Mask, Prompts, encode, joined
from delineate.planning import Plan, PromptingPlan
from delineate.preprocessing import IGNORE
from delineate.sampling import Batch
from delineate.training.objectives import outputs_of, reference_loss
from delineate.training.simulated_prompts import correction, first_prompts

_POINTING = 0x706F696E  # apart from what else is drawn from the plan's seed
_ROUNDS = 0x726F756E


def prompting_plan(plan: Plan, *, sigma_mm: float | None = None, corrections: int = 3) -> Plan:
    """A plan of a network that is prompted, with the preparation, the patches and the network of another.

    Patches show a structure each. `sigma_mm`: None takes one and a half voxels, of the finest axis but one: a point is
    seen in its slice, and beside it if slices are thin.
    """
    chosen = sigma_mm or 1.5 * sorted(plan.spacing_mm)[1]
    return msgspec.structs.replace(
        plan,
        prompting=PromptingPlan(sigma_mm=chosen, corrections=corrections),
        training=msgspec.structs.replace(
            plan.training, positive_fraction=1.0, missing_labels="absent", transfer=None, distillation=None
        ),
        tiling=msgspec.structs.replace(plan.tiling, mirror_axes=()),
        reasons=(
            *plan.reasons,
            f"prompts: points of {chosen:.2g} mm, scribbles, boxes and the mask so far are channels of the input; in "
            f"training mistakes are pointed at up to {corrections} times",
        ),
    )


def prompted(network: nn.Module, batch: Batch, plan: Plan) -> Tensor:
    """The plan's loss of one structure a patch, which is pointed at: an `Objective`.

    How often mistakes are pointed at before is drawn for each batch.
    """
    assert plan.prompting is not None
    chances = [
        np.random.default_rng((plan.training.seed, _POINTING, batch.first_number + n)) for n in range(len(batch.images))
    ]
    rounds = np.random.default_rng((plan.training.seed, _ROUNDS, batch.step)).integers(plan.prompting.corrections + 1)
    values = batch.targets.cpu().numpy()
    targets = [choose_target(one, rng) for one, rng in zip(values, chances, strict=True)]
    meant = [target == 1 for target in targets]
    prompts = [first_prompts(one, plan.spacing_mm, rng) for one, rng in zip(meant, chances, strict=True)]
    found: list[Mask] | None = None
    for _ in range(int(rounds)):
        found = _answer(network, _with_prompts(batch.images, prompts, found, plan), plan)
        prompts = [
            joined(there, correction(one, mask & (target != IGNORE), plan.spacing_mm, rng))
            for there, one, mask, target, rng in zip(prompts, meant, found, targets, chances, strict=True)
        ]
    outputs = outputs_of(network, _with_prompts(batch.images, prompts, found, plan), plan)
    wanted = torch.from_numpy(np.stack(targets)).to(batch.targets.device)
    return reference_loss(outputs, replace(batch, targets=wanted, annotated=None), plan)


def choose_target(values: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """The target (I, J, K) of one structure that is in it: 1 there, 0 elsewhere, `IGNORE` where nothing is known."""
    present = [value for value in np.unique(values).tolist() if value not in (0, IGNORE)]
    chosen = present[int(rng.integers(len(present)))] if present else -1
    return np.where(values == IGNORE, IGNORE, (values == chosen).astype(np.int64))


def _with_prompts(images: Tensor, prompts: list[Prompts], found: list[Mask] | None, plan: Plan) -> Tensor:
    shape = (int(images.shape[2]), int(images.shape[3]), int(images.shape[4]))
    maps = [encode(one, None if found is None else found[n], shape, plan) for n, one in enumerate(prompts)]
    return torch.cat((images, torch.from_numpy(np.stack(maps)).to(images.device)), dim=1)


def _answer(network: nn.Module, inputs: Tensor, plan: Plan) -> list[Mask]:
    """The masks that a network finds now, without learning from it."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        outputs = outputs_of(network, inputs, plan)
    network.train(was_training)
    finest = outputs if isinstance(outputs, Tensor) else outputs[0]
    return [mask.cpu().numpy() for mask in finest.float().argmax(1) == 1]
