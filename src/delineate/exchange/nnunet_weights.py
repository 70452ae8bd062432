"""nnU-Net's weights as ours.

Both networks have the same layers under other names, with three differences:

- nnU-Net's axes are (z, y, x), ours are reversed: so are the axes of every kernel.
- nnU-Net's convolutions have a bias before their normalisation, ours have none. An instance normalisation takes any
  bias away again; of a batch normalisation it becomes part of the mean.
- nnU-Net's state names most tensors several times, because modules are registered more than once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from delineate.errors import ModelError
from delineate.exchange.nnunet_names import Counterpart, counterparts
from delineate.model import Weights
from delineate.networks import build_network
from delineate.planning import NetworkPlan

_CONVOLUTION = re.compile(r"\.all_modules\.0\.")
_NORM = re.compile(r"\.all_modules\.[1-9]\.")
_FIRST = "decoder.encoder."  # the decoder keeps a reference to its encoder
_MOMENTS = ("running_mean", "running_var", "num_batches_tracked")


def from_nnunet(
    state: Mapping[str, Tensor], network: NetworkPlan, *, inputs: int, classes: int, path: Path
) -> dict[str, Tensor]:
    """Our weights, float32 and in memory of their own, of nnU-Net's state.

    Raises `ModelError` naming the first tensor that is missing, superfluous, of another shape than `network` says, or
    not finite, and for names of one tensor that disagree.
    """
    left = _each_once(state, path)
    weights: dict[str, Tensor] = {}
    for pair in counterparts(network):
        weights |= {name: _own(tensor) for name, tensor in _taken(pair, network, left, path).items()}
    if left:
        raise _misfit("the checkpoint has weights that the plans do not account for", path, got=_some(left))
    _check_shapes(weights, network, inputs=inputs, classes=classes, path=path)
    for name, tensor in weights.items():
        if not bool(tensor.sum().isfinite()):  # one pass, and no copy
            raise ModelError("the checkpoint has weights that are not numbers", got=name, path=path)
    return weights


def is_batch_normalised(state: Mapping[str, Tensor]) -> bool:
    """Whether the network that has this state normalises by running statistics, whatever its plans say."""
    return any(name.endswith(".running_mean") for name in state)


def _taken(pair: Counterpart, network: NetworkPlan, left: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """A module's weights under our names, axes reversed; they are taken out of `left`."""

    def take(name: str) -> Tensor:
        if name not in left:
            raise _misfit("the checkpoint lacks weights that the plans ask for", path, expected=name)
        return left.pop(name)

    def take_convolution(module: str, features: int) -> tuple[Tensor, Tensor]:
        kernel = take(f"{module}.weight")
        if kernel.ndim != 2 + len(network.kernels[0]):
            raise _misfit("the checkpoint has a kernel of other dimensions", path, got=f"{module}.weight")
        # Plans may do without biases; not the heads.
        is_without = f"{module}.bias" not in left and pair.role != "head"
        bias = torch.zeros(kernel.shape[features]) if is_without else take(f"{module}.bias")
        return kernel.permute(0, 1, *reversed(range(2, kernel.ndim))), bias

    if pair.role != "convolution":
        kernel, bias = take_convolution(pair.theirs, 1 if pair.role == "up" else 0)
        return {f"{pair.ours}.weight": kernel, f"{pair.ours}.bias": bias}
    kernel, bias = take_convolution(f"{pair.theirs}.conv", 0)
    batch = network.norm == "batch"
    norm = {name: take(f"{pair.theirs}.norm.{name}") for name in ("weight", "bias", *(_MOMENTS if batch else ()))}
    if batch:
        norm["running_mean"] = norm["running_mean"] - bias
    prefix = f"{pair.ours}.norm.norm" if batch else f"{pair.ours}.norm"
    return {f"{pair.ours}.conv.weight": kernel} | {f"{prefix}.{name}": t for name, t in norm.items()}


def _each_once(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state with one name a tensor: the one of the convolution or normalisation itself."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        name = f"encoder.{name.removeprefix(_FIRST)}" if name.startswith(_FIRST) else name
        name = _NORM.sub(".norm.", _CONVOLUTION.sub(".conv.", name))
        if not _same(found.setdefault(name, tensor), tensor):
            raise _misfit("the checkpoint has two versions of one tensor", path, got=name)
    return found


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return (one.data_ptr(), one.stride()) == (other.data_ptr(), other.stride()) or torch.equal(one, other)


def _own(tensor: Tensor) -> Tensor:
    """A copy: the tensor may be mapped from a file that is about to change or to go."""
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(kind).clone(memory_format=torch.contiguous_format)


def _check_shapes(weights: Weights, network: NetworkPlan, *, inputs: int, classes: int, path: Path) -> None:
    with torch.device("meta"):
        expected = build_network(network, in_channels=inputs, out_channels=classes).state_dict()
    for name, tensor in weights.items():
        shape = tuple(expected[name].shape)
        if tensor.shape == shape:
            continue
        raise _misfit(
            _difference(tuple(tensor.shape), shape, name), path, expected=shape, got=f"{tuple(tensor.shape)} of {name}"
        )
    assert set(expected) == set(weights)


def _difference(got: tuple[int, ...], expected: tuple[int, ...], name: str) -> str:
    if ".heads." in name and got[1:] == expected[1:]:
        return "the network has another number of outputs than dataset.json has labels"
    if name.endswith("conv.weight") and got[:1] + got[2:] == expected[:1] + expected[2:]:
        return "the network has another number of inputs than dataset.json has channels, or plans.json features"
    return "the weights do not have the shapes that the plans ask for"


def _misfit(problem: str, path: Path, *, expected: object = None, got: object = None) -> ModelError:
    return ModelError(
        problem,
        expected=expected,
        got=got,
        path=path,
        remedy="plans.json and checkpoint belong to different models, or its trainer class changed the network.",
    )


def _some(names: Iterable[str]) -> str:
    every = sorted(names)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")
