"""Which weights rest, and how fast each learns: what a run does with weights that it took over from another model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn

from delineate.errors import PlanError
from delineate.planning import TrainingPlan, TransferPlan
from delineate.training.facts import Facts, learning_rate

# Where the way up begins in the names of each architecture; MONAI's U-Net nests its levels.
_WAY_UP = re.compile(r"decoder\.|network\.(ups|up_stages|head)\.|network\.model\.(1\.submodule\.)*2\.")


def parameter_groups(network: nn.Module, plan: TrainingPlan) -> Iterator[dict[str, object]]:
    """The groups of the plan's optimiser; biases and norms, vectors all, are not decayed.

    `share`: of the learning rate, what a group gets. `rests`: whether the group is frozen at first.
    Raises `PlanError` for a `fresh` parameter that the network does not have, or an encoder that is not told apart.
    """
    transfer = plan.transfer
    if transfer is None:
        parameters = list(network.parameters())
        yield {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay}
        yield {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
        return
    named = dict(network.named_parameters())
    unknown = sorted(set(transfer.fresh) - set(network.state_dict()))
    if unknown:
        raise PlanError("training.transfer.fresh names what the network does not have", got=unknown)
    resting = resting_names(tuple(named), transfer)
    for rests in (True, False):
        for share in (transfer.backbone_rate, 1.0)[: 1 if transfer.backbone_rate == 1 else 2]:
            chosen = [
                p
                for name, p in named.items()
                if (name in resting) == rests and (1.0 if name in transfer.fresh else transfer.backbone_rate) == share
            ]
            for decayed in (True, False):
                members = [p for p in chosen if (p.ndim > 1) == decayed]
                if members:
                    decay = plan.weight_decay if decayed else 0.0
                    yield {"params": members, "weight_decay": decay, "share": share, "rests": rests}


def resting_names(names: tuple[str, ...], transfer: TransferPlan) -> frozenset[str]:
    """The parameters that are frozen at first. Raises `PlanError` if an encoder is asked for and not told apart."""
    taken = frozenset(names) - frozenset(transfer.fresh)
    if transfer.freeze == "nothing" or transfer.freeze_fraction == 0:
        return frozenset()
    if transfer.freeze == "all_but_head":
        return taken
    encoder = frozenset(name for name in taken if not _WAY_UP.match(name))
    if encoder == taken:
        raise PlanError(
            "this network's encoder cannot be told from the rest", remedy="Freeze all-but-head, or nothing."
        )
    return encoder


def set_rates(network: nn.Module, optimiser: torch.optim.Optimizer, facts: Facts, plan: TrainingPlan) -> None:
    """Set each group's learning rate for the step to come, and freeze or release weights. The network trains.

    When the frozen ones are released is noted in `facts`: in a run of given minutes the number of steps changes later.
    """
    rate = learning_rate(facts.phases, facts.step, plan)
    if plan.transfer is None:
        for group in optimiser.param_groups:
            group["lr"] = rate
        return
    first = facts.phases[0]
    if facts.released is None and facts.step >= first.step_at(plan.transfer.freeze_fraction):
        facts.released = facts.step
    for group in optimiser.param_groups:
        group["lr"] = rate * group["share"]
        if group["rests"]:
            group["lr"] *= _warmed(facts, plan)
            for parameter in group["params"]:
                parameter.requires_grad_(facts.released is not None)
    if facts.released is None:
        _hold_statistics(network)


def _warmed(facts: Facts, plan: TrainingPlan) -> float:
    """Share of the rate that released weights have: their optimiser knows nothing of them yet."""
    if facts.released is None:
        return 0.0
    first = facts.phases[0]
    warmup = max(1, round(plan.warmup_fraction * (first.last - first.first)))
    return min(1.0, (facts.step - facts.released + 1) / warmup)


def _hold_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
            module.eval()
