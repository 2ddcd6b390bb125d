"""Engines for tests of the driver: one that is right, and many that go wrong.

A worker imports this file by its name, from the folder that its engine's `path` gives.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from ivyport.bench.prepare import load_variants
from ivyport.bench.session import CompileError, Job, Session


class Exact(Session):
    """Answers with the reference itself, after a millisecond."""

    def __init__(self, job: Job, *, shift: float = 0.0, fails_at: int = -1) -> None:
        self.wanted = load_variants(Path(job.inputs) / "reference.npz")
        self.shift, self.fails_at, self.calls = shift, fails_at, 0

    def call(self, variant: int) -> Any:
        time.sleep(0.001)
        self.calls += 1
        if self.calls == self.fails_at:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
        return self.wanted[variant]

    def read(self, output: Any) -> Any:
        return {name: value + self.shift for name, value in output.items()}

    def outputs(self, variant: int) -> Any:
        return self.read(self.call(variant))

    def set_rate(self, rate: float) -> None:
        raise NotImplementedError("forward only")

    def peak_bytes(self) -> int | None:
        return 5_000_000

    def check_compiled(self) -> None:
        return

    def about(self) -> dict[str, Any]:
        return {"device": "a test"}


class Stale(Exact):
    """Answers the first inputs whatever it is asked, as a cache in error would."""

    def call(self, variant: int) -> Any:
        return super().call(0)


def exact(job: Job) -> Session:
    return Exact(job)


def wrong(job: Job) -> Session:
    return Exact(job, shift=0.5)


def stale(job: Job) -> Session:
    return Stale(job)


def late(job: Job) -> Session:
    # 3 calls are the check; some warm up; the rest are timed.
    return Exact(job, fails_at=60)


def memory(job: Job) -> Session:
    raise MemoryError("no room")


def killed(job: Job) -> Session:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("not reached")


def leaves(job: Job) -> Session:
    os._exit(3)


def hangs(job: Job) -> Session:
    time.sleep(600)
    return Exact(job)


def refuses(job: Job) -> Session:
    raise CompileError("cannot compile that")
