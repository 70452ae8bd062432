"""What runs a network at inference: PyTorch, OpenVINO, ONNX Runtime.

An engine makes a `Runner` of a network: it takes windows and gives logits, and does nothing else. One more engine is
one more file and one more line in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

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


class Runner(Protocol):
    """A network made ready. Called with windows (B, C, I, J, K), float32, on the choice's device, it gives logits
    (B, classes, I, J, K), float32, there too; networks in 2D get windows of one slice, K = 1."""

    @property
    def choice(self) -> EngineChoice: ...

    def __call__(self, windows: Tensor) -> Tensor: ...


Opener = Callable[[nn.Module, Plan, EngineChoice, Sequence[Tensor]], Runner]
"""Makes a runner of (network, plan, choice, windows to calibrate with: only int8 needs any)."""

ENGINES: dict[str, Opener] = {}
