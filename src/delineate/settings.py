"""Choices of the machine, not of the science: device, threads, memory. The only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

Precision = Literal["float32", "bfloat16", "float16"]

_OWN_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")  # as PyTorch names what a CPU has: x86, x86, ARM


@dataclass(frozen=True, slots=True)
class Settings:
    """`device`: a torch device name. `threads`: CPU threads for computing. `memory_bytes`: what may be used.

    `cache`: where prepared cases are kept; it may be removed at any time. `save_seconds`: how much of a training
    run may be lost when the machine goes down.
    """

    device: str
    threads: int
    memory_bytes: int
    cache: Path
    save_seconds: float = 30.0

    @property
    def scratch(self) -> Path:
        """Where arrays go that are too large for the memory."""
        return self.cache / "scratch"

    @property
    def precision(self) -> Precision:
        """What the device trains fastest in; asked of PyTorch, which not every command needs."""
        return _best_precision(self.device)


@dataclass(frozen=True, slots=True)
class Launch:
    """Which this process is of those that were started to do one piece of work, by torchrun or `--processes`.

    Number `rank` of `size` all together, `local_rank` of `local_size` on this machine; both count from 0.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int


def launched() -> Launch | None:
    """What the environment says of it, as torchrun sets it; None for a process that works alone."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    values = [os.environ.get(name, "") for name in names]
    if "MASTER_ADDR" not in os.environ or not all(value.isdecimal() for value in values):
        return None
    launch = Launch(*map(int, values))
    return launch if launch.size > 1 else None


def detect(
    device: str = "auto",
    *,
    threads: int | None = None,
    memory_gb: float | None = None,
    cache: Path | None = None,
) -> Settings:
    """Settings for this machine; `None` and "auto" are filled in from what it has.

    By default all CPUs this process may use, and three quarters of the device's memory now free. Processes that were
    started together share the machine's threads and memory, and have a GPU each.
    """
    chosen = _best_device() if device == "auto" else device
    launch = launched()
    if launch is not None and chosen == "cuda":
        chosen = f"cuda:{launch.local_rank}"
    sharing = 1 if launch is None else launch.local_size
    memory_bytes = _free_bytes(chosen) if memory_gb is None else int(memory_gb * 1e9)
    return Settings(
        device=chosen,
        threads=max(1, (threads or _usable_cpus()) // sharing),
        memory_bytes=memory_bytes if chosen.startswith("cuda") else memory_bytes // sharing,
        cache=cache or _user_cache() / "delineate",
    )


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _best_precision(device: str) -> Precision:
    """bfloat16 where the device computes in it by itself: a CPU that only imitates it takes 2.6 times as long as in
    float32."""
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.startswith("cpu"):
        # Older versions of PyTorch do not say what a CPU has; float32 is then never slow.
        has: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return "bfloat16" if any(has.get(name) for name in _OWN_BFLOAT16) else "float32"
    return "float32"


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0] * 0.75)
    return int(psutil.virtual_memory().available * 0.75)


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _usable_cpus() -> int:
    # macOS and Windows do not say which CPUs a process may use.
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1
