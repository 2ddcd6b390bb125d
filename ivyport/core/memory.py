"""How much memory a verification needs, and how much there is."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path

#: By `benchmarks/verify_memory.py`: frameworks, compilers and activations take 0.9 GB beside a BERT
#: of 0.31 GB, and the weights are there three times, in the source, in the port, and as gradients
#: or stepped weights of one of them.
FIXED, COPIES = 1_300_000_000, 3
#: How much a process grows before what it freed is given back.
SLACK = 2**28
_held = 0  # what the process had when that was done last


def needed(weights: int) -> int:
    """About how many bytes the process has at most, with a source of that many in it."""
    return FIXED + COPIES * weights


def give_back(*, now: bool = False) -> None:
    """Give what was freed back to the system, where its allocator keeps it (glibc).

    Unless it is to be done `now`, that is where the process has grown by more than `SLACK` since
    it was done last: a collection takes about a second in a process that holds several frameworks.
    """
    global _held
    if sys.platform != "linux" or (not now and resident() < _held + SLACK):
        return
    gc.collect()
    trim()
    _held = resident()


def trim() -> None:
    """Have the allocator give back what was freed between blocks that are in use."""
    # AttributeError: another C library, which has no such call.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
