"""PyTorch, on every device it has.

In reduced precisions autocast decides what is computed how (casting weights beforehand was no faster), but the head
computes in float32: rounding the logits costs more masks than all that comes before.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.engines.runner import EngineChoice, check_precision, run_flat, small_input
from delineate.errors import ResourceError
from delineate.planning import Plan

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def torch_precisions(device: str) -> tuple[str, ...]:
    """What PyTorch computes in on a device; nothing where the device is not there."""
    kind = torch.device(device).type
    if kind == "cpu":
        return ("float32", "bfloat16")
    if kind == "cuda" and torch.cuda.is_available():
        half = ("bfloat16", "float16") if torch.cuda.is_bf16_supported() else ("float16",)
        return ("float32", *half)
    if kind == "mps" and torch.backends.mps.is_available():
        return ("float32", "float16")
    return ()


@dataclass(frozen=True, slots=True, eq=False)
class TorchRunner:
    """A network on its device, in its precision and in the memory layout its convolutions are fastest in."""

    choice: EngineChoice
    network: nn.Module
    plan: Plan

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> Tensor:
        with ExitStack() as stack:
            for context in _contexts(self.choice):
                stack.enter_context(context)
            return run_flat(self._network, windows, self.plan).float()

    def _network(self, images: Tensor) -> Tensor:
        layout = torch.channels_last_3d if images.ndim == 5 else torch.channels_last
        logits: Tensor = self.network(images.contiguous(memory_format=layout))
        return logits


def open_torch(network: nn.Module, plan: Plan, choice: EngineChoice, calibration: Sequence[Tensor] = ()) -> TorchRunner:
    """A runner by PyTorch. `choice.threads` sets the threads of all of PyTorch in this process.

    Raises `ResourceError` for a device that is not there, or a precision that it does not have.
    """
    offered = torch_precisions(choice.device)
    if not offered:
        raise ResourceError("the device is not there", got=choice.device, remedy="Choose another (--device).")
    check_precision(choice, offered)
    if choice.threads:
        torch.set_num_threads(choice.threads)
    layout = torch.channels_last_3d if plan.dimensions == 3 else torch.channels_last
    placed = copy.deepcopy(network).eval()
    if choice.precision != "float32":
        _make_head_exact(placed, torch.zeros(small_input(plan)))
    return TorchRunner(choice, placed.to(choice.device, memory_format=layout), plan)  # type: ignore[call-overload]


class ExactHead(nn.Module):
    """A convolution of one voxel, in float32 whatever goes on around it: a matrix product over the channels."""

    def __init__(self, convolution: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.movedim(1, -1).float(), self.weight.flatten(1), self.bias).movedim(-1, 1)


@torch.inference_mode()
def _make_head_exact(network: nn.Module, example: Tensor) -> None:
    """Replace, in place, the convolution of one voxel whose output is the network's output, if there is one."""
    heads = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Conv3d) and set(module.kernel_size) == {1}
    }
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name, module in heads.items()
    ]
    logits = network(example)
    for hook in hooks:
        hook.remove()
    for name, output in outputs.items():
        if output is logits:
            network.set_submodule(name, ExactHead(heads[name]))


def _contexts(choice: EngineChoice) -> Sequence[AbstractContextManager[object]]:
    kind, dtype = torch.device(choice.device).type, DTYPES[choice.precision]
    autocast = torch.autocast(kind, dtype, enabled=dtype is not torch.float32)
    if kind != "cuda":
        return (autocast,)
    # Windows of one size: it pays to try which of cuDNN's algorithms is fastest.
    return (autocast, torch.backends.cudnn.flags(enabled=True, benchmark=True))
