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
#: How much a process grows before what it freed is given back.
SLACK = 2**28
_held = 0  # what the process had when that was done last


def needed(weights: int) -> int:
    """About how many bytes the process has at most, with a source of that many in it."""
    return FIXED + COPIES * weights


def give_back() -> None:
    """Give what was freed back to the system, where its allocator keeps it (glibc).

    It is done where the process has grown by more than `SLACK` since it was done last: a
    collection takes about a second in a process that holds several frameworks.
    """
    global _held
    if sys.platform != "linux" or resident() < _held + SLACK:
        return
    gc.collect()
    # AttributeError: another C library, which has no such call.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    _held = resident()


def resident() -> int:
    """The bytes of this process that are in memory (Linux, proc_pid_statm(5))."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """The bytes that new processes may take; half of all where the system does not say."""
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
