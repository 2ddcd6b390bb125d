"""How much memory a verification needs, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path

#: The line through two peaks that were measured, 3.1 GB for weights of 0.28 GB and 10.7 GB for 1.9:
#: frameworks and compilers, and copies of the weights (both models, gradients and stepped weights
#: of both, what the allocator keeps).
FIXED, COPIES = 1_800_000_000, 5


def needed(weights: int) -> int:
    """About how many bytes the process has at most, with a source of that many in it."""
    return FIXED + COPIES * weights


def give_back() -> None:
    """Give what was freed back to the system, where its allocator keeps it (glibc)."""
    gc.collect()
    if sys.platform == "linux":
        # AttributeError: another C library, which has no such call.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def available() -> int:
    """The bytes that new processes may take; half of all where the system does not say."""
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
