"""From the weights of one network to the first weights of another: what fits is taken, what is new starts anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor

from delineate.errors import ModelError
from delineate.networks import build_network
from delineate.planning import Plan
from delineate.planning.adopting import Matching, output_names
from delineate.training.state import TrainingState

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a tensor that are as long as the network has outputs, and as it has inputs."""

    outputs: tuple[int, ...]
    inputs: tuple[int, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One output or input of a network, and what of the other's it begins with; nothing starts anew."""

    name: str
    taken_from: tuple[str, ...] = ()


class TransferRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What was taken over. Tensors by name; `taken_weights`: of `weights` numbers in all, those that were taken."""

    source: str
    dataset: str
    outputs: tuple[Row, ...]
    inputs: tuple[Row, ...]
    taken: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    taken_weights: int
    weights: int
    notes: tuple[str, ...] = ()


def axes_of(plan: Plan) -> dict[str, Axes]:
    """How the shape of each tensor of the plan's network follows its outputs and inputs."""
    here, wider, deeper = (_shapes(plan, classes, inputs) for classes, inputs in ((0, 0), (1, 0), (0, 1)))
    return {
        name: Axes(
            tuple(n for n, (a, b) in enumerate(zip(shape, wider[name], strict=True)) if a != b),
            tuple(n for n, (a, b) in enumerate(zip(shape, deeper[name], strict=True)) if a != b),
        )
        for name, shape in here.items()
    }


def _shapes(plan: Plan, more_classes: int, more_inputs: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        network = build_network(
            plan.network, in_channels=plan.inputs + more_inputs, out_channels=plan.classes + more_classes
        )
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def fresh_names(plan: Plan, matching: Matching) -> tuple[str, ...]:
    """The tensors of which all or a part starts anew, or is put together from several inputs: heads always."""
    changed = not matching.keeps_inputs
    return tuple(name for name, axes in axes_of(plan).items() if axes.outputs or (axes.inputs and changed))


def carry_over(weights: Weights, fresh: Weights, matching: Matching, axes: Mapping[str, Axes]) -> dict[str, Tensor]:
    """The state `fresh` of a network, with everything in it that `weights` has.

    Raises `ModelError` if a tensor that depends on neither outputs nor inputs is not there, or has another shape.
    """
    _check_fit(weights, fresh, axes)
    return {
        name: _carried(weights[name], tensor, matching, axes[name]).to(tensor) if name in weights else tensor.clone()
        for name, tensor in fresh.items()
    }


def _check_fit(weights: Weights, fresh: Weights, axes: Mapping[str, Axes]) -> None:
    for name, tensor in fresh.items():
        free = {*axes[name].outputs, *axes[name].inputs}
        there = weights.get(name)
        if there is None and not free:
            raise ModelError(
                "the model lacks weights of this network",
                expected=f"{name} {tuple(tensor.shape)}",
                remedy="Another network: train without --from.",
            )
        if there is not None and not _fits(there.shape, tensor.shape, free):
            raise ModelError(
                f"the model's weights are of another network: {name}",
                expected=tuple(tensor.shape),
                got=tuple(there.shape),
                remedy="Take `network` from that model's plan.json.",
            )
    left = sorted(set(weights) - set(fresh))
    if left:
        raise ModelError("the model has weights that this network lacks", got=", ".join(left[:5]))


def _fits(theirs: Sequence[int], ours: Sequence[int], free: set[int]) -> bool:
    return len(theirs) == len(ours) and all(
        a == b or n in free for n, (a, b) in enumerate(zip(theirs, ours, strict=True))
    )


def _carried(theirs: Tensor, ours: Tensor, matching: Matching, axes: Axes) -> Tensor:
    for axis in axes.inputs:
        theirs = torch.stack([_mean(theirs, axis, numbers) for numbers in matching.inputs], dim=axis)
    if not axes.outputs:
        return theirs
    kept = [(n, m) for n, m in enumerate(matching.outputs) if m is not None]
    if not kept:
        return ours.clone()
    into, out_of = (torch.tensor(numbers) for numbers in zip(*kept, strict=True))
    chosen = theirs
    for axis in axes.outputs:
        chosen = chosen.index_select(axis, out_of)
    return _put(chosen, into, ours.cpu(), axes.outputs)


def _put(block: Tensor, numbers: Tensor, whole: Tensor, axes: Sequence[int]) -> Tensor:
    """`whole` with `block` in it, at these numbers of all the axes."""
    if not axes:
        return block.to(whole.dtype)
    inner = _put(block, numbers, whole.index_select(axes[0], numbers), axes[1:])
    return whole.index_copy(axes[0], numbers, inner)


def _mean(tensor: Tensor, axis: int, numbers: Sequence[int]) -> Tensor:
    if not numbers:
        return torch.zeros_like(tensor.select(axis, 0))
    return tensor.index_select(axis, torch.tensor(numbers)).mean(dim=axis)


def begin_with(weights: Weights, plan: Plan, matching: Matching) -> Callable[[TrainingState], None]:
    """What puts `weights` into a fresh run of `plan`: into the network and into the average of its weights."""
    axes = axes_of(plan)

    def begin(state: TrainingState) -> None:
        carried = carry_over(weights, state.network.state_dict(), matching, axes)
        state.network.load_state_dict(carried)
        for name, tensor in state.average.items():
            tensor.copy_(carried[name])

    return begin


def describe_transfer(
    weights: Weights, source: Plan, target: Plan, matching: Matching, *, digest: str, notes: Sequence[str] = ()
) -> TransferRecord:
    """What is taken over from a model of plan `source`, and what is not. Raises `ModelError` as `carry_over` does."""
    axes, shapes = axes_of(target), _shapes(target, 0, 0)
    _check_fit(weights, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, axes)
    whole = matching.outputs == tuple(range(source.classes))
    fates: dict[str, list[str]] = {"taken": [], "adapted": [], "fresh": []}
    taken = 0
    for name, shape in shapes.items():
        kept = [n for n in matching.outputs if n is not None]
        if name not in weights or (axes[name].outputs and not kept):
            fate, share = "fresh", 0.0
        elif axes[name].outputs and not whole:
            fate, share = "adapted", (len(kept) / len(matching.outputs)) ** len(axes[name].outputs)
        else:
            fate, share = ("adapted" if axes[name].inputs and not matching.keeps_inputs else "taken"), 1.0
        fates[fate].append(name)
        taken += round(share * shape.numel())
    return TransferRecord(
        source=digest,
        dataset=source.dataset,
        outputs=_output_rows(source, target, matching),
        inputs=_input_rows(source, target, matching),
        taken=tuple(fates["taken"]),
        adapted=tuple(fates["adapted"]),
        fresh=tuple(fates["fresh"]),
        taken_weights=taken,
        weights=sum(shape.numel() for shape in shapes.values()),
        notes=tuple(notes),
    )


def _output_rows(source: Plan, target: Plan, matching: Matching) -> tuple[Row, ...]:
    theirs = output_names(source)
    pairs = zip(output_names(target), matching.outputs, strict=True)
    return tuple(Row(name=name, taken_from=() if n is None else (theirs[n],)) for name, n in pairs)


def _input_rows(source: Plan, target: Plan, matching: Matching) -> tuple[Row, ...]:
    names = (*target.channels, *(f"mask of {name}" for name in target.previous))
    pairs = zip(names, matching.inputs, strict=True)
    return tuple(Row(name=name, taken_from=tuple(source.channels[n] for n in numbers)) for name, numbers in pairs)
