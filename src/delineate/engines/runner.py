"""What an engine is: a way to make a runner of a network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from delineate.errors import ResourceError
from delineate.planning import Plan


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, the precision it computes in ("float32", "bfloat16", "float16", "int8"), and where.

    `device`: a torch device name. `threads`: CPU threads, 0 for all that this process may use.
    """

    engine: str = "torch"
    precision: str = "float32"
    device: str = "cpu"
    threads: int = 0

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}" + ("" if self.device == "cpu" else f" on {self.device}")


class Runner(Protocol):
    """A network made ready. Called with windows (B, C, I, J, K), float32, on the choice's device, it gives logits
    (B, classes, I, J, K), float32, there too; networks in 2D get windows of one slice, K = 1."""

    @property
    def choice(self) -> EngineChoice: ...

    def __call__(self, windows: Tensor) -> Tensor: ...


Opener = Callable[[nn.Module, Plan, EngineChoice, Sequence[Tensor]], Runner]
"""Makes a runner of (network, plan, choice, windows to calibrate with: only int8 needs any).

The network is left as it is. Raises `ResourceError` for a package, a precision or a device that is not there, and
`ModelError` for a network that the engine cannot take.
"""


def check_precision(choice: EngineChoice, offered: Sequence[str]) -> None:
    """Raises `ResourceError` unless the engine computes in the choice's precision on its device."""
    if choice.precision not in offered:
        raise ResourceError(
            f"the {choice.engine} engine does not compute in this precision on {choice.device}",
            expected=f"one of {', '.join(offered)}" if offered else "another device",
            got=choice.precision,
            remedy="Choose another precision or engine, or leave the choice to delineate.",
        )


def missing_package(name: str, extra: str) -> ResourceError:
    """The error that names the extra to install."""
    return ResourceError(f"{name} is not installed", remedy=f"pip install 'delineate[{extra}]'.")


def network_input(plan: Plan, *, batch: int = 1) -> tuple[int, ...]:
    """The shape of what the network itself is given: (B, C, I, J, K), or (B, C, I, J) in 2D."""
    return (batch, plan.inputs, *plan.patch_size[: plan.dimensions])


def run_flat(network: Callable[[Tensor], Tensor], windows: Tensor, plan: Plan) -> Tensor:
    """Logits of windows (B, C, I, J, K) from a network that, in 2D, wants them without their axis of one slice."""
    return network(windows) if plan.dimensions == 3 else network(windows.squeeze(-1)).unsqueeze(-1)


@torch.inference_mode()
def scripted(network: nn.Module, plan: Plan) -> tuple[torch.jit.ScriptModule, Tensor]:
    """The network on the CPU as TorchScript, for engines to convert, and the input it was traced with.

    It is traced on a small input, as tracing runs it; its operations hold for every size.
    """
    example = torch.zeros(small_input(plan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tracing says about constants is what is wanted here
        script: torch.jit.ScriptModule = torch.jit.trace(network.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    return script, example


def small_input(plan: Plan) -> tuple[int, ...]:
    """The smallest shape (1, C, ...) at which every level of the network has two voxels an axis, if the patch has."""
    batch, channels, *patch = network_input(plan)
    factors = [math.prod(stride[axis] for stride in plan.network.strides) for axis in range(plan.dimensions)]
    return (batch, channels, *(min(n, 2 * factor) for n, factor in zip(patch, factors, strict=True)))
