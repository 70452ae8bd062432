"""What the C library does with the memory of a network's activations."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_MMAP_THRESHOLD = -3
_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process keep memory that tensors have freed, for the next ones; whether the system let us.

    Otherwise glibc returns every large tensor to the system at once, and the next one pays for fresh, zeroed pages:
    up to a fifth of a training step on the CPU. The process holds on to its peak memory, and somewhat more. To be
    called once, before the first step. Other systems (macOS, Windows, musl) are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(bool(set_option(option, _BYTES)) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
