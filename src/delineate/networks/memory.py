"""What the C library does with the memory of a network's activations."""

from __future__ import annotations

from delineate.allocator import keep_freed_below

_EVERYTHING = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep memory that tensors have freed, for the next ones; whether the system let us.

    Otherwise glibc returns every large tensor to the system at once, and the next one pays for fresh, zeroed pages:
    up to a fifth of a training step on the CPU. The process holds on to its peak memory, and somewhat more. To be
    called once, before the first step.
    """
    return keep_freed_below(_EVERYTHING)
