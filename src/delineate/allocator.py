"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_MMAP_THRESHOLD = -3


def keep_freed_below(size: int) -> bool:
    """Let this process keep freed blocks of less than `size` bytes for the next ones, and give larger ones back to the
    system at once; whether the system let us. Systems without glibc (macOS, Windows, musl) are left as they are."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(bool(set_option(option, size)) for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
