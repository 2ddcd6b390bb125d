"""How much memory a verification needs, and how much there is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Measured with models of 0.3 and 1.9 GB: the frameworks and their compilers, and copies of the
#: weights (both models, gradients and stepped weights of both, what the allocator keeps).
FIXED, COPIES = 10**9, 8


def needed(weights: int) -> int:
    """About how many bytes the process has at most, with a source of that many in it."""
    return FIXED + COPIES * weights


def available() -> int:
    """The bytes that new processes may take; half of all where the system does not say."""
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
