"""Whole processes: their wall-clock time, CPU time and peak memory."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Took:
    """What one process took: seconds, seconds of CPU, and bytes of resident memory."""

    wall: float
    cpu: float
    peak_rss: int


def measure(command: list[str], log: Path) -> Took:
    """Run a process to its end; RuntimeError, with the end of its log, if it fails."""
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text("utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"{command} exited with {process.returncode}:\n{tail}")
    # Children that the process waited for, such as a formatter, are in its usage.
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
