"""How much memory a verification takes, by its steps, beside the weights.

    python benchmarks/verify_memory.py 300 [torch]

The source is a stack of linear layers of that many megabytes in all.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time

import torch
from torch import nn

import ivyport
from ivyport.core import memory
from ivyport.verification.modes import dropout_rows

WIDTH = 2048


class Peaks:
    """The most memory since each stage began, looked at in a thread."""

    def __init__(self) -> None:
        self.stages: list[list] = [["start", memory.resident()]]
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, stage: str, *numbers: int) -> None:
        self.stages.append(
            [f"{stage} {' '.join(map(str, numbers))}", memory.resident()]
        )

    def _watch(self) -> None:
        while True:
            time.sleep(0.003)
            self.stages[-1][1] = max(self.stages[-1][1], memory.resident())


def watched(peaks: Peaks, name: str, call):
    """`call`, told as a stage of its own."""

    def told(*args, **kwargs):
        peaks(name)
        return call(*args, **kwargs)

    return told


def main() -> None:
    """Port, verify, and print the peak of each step."""
    size, target = int(sys.argv[1]) * 10**6, (*sys.argv, "jax")[2]
    layers = max(size // (4 * WIDTH * WIDTH), 1)
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers))).eval()
    weights = sum(p.nbytes for p in model.parameters())
    x = torch.randn(2, WIDTH)
    peaks = Peaks()
    port = ivyport.transpile(model, target, kwargs={"input": x}, verify=False)
    run = importlib.import_module("ivyport.verification.run")
    for cls in (run._Verification,):
        for name in ("_traced", "_eagerly", "_other_sizes", "_train_mode"):
            setattr(cls, name, watched(peaks, name, getattr(cls, name)))
    pair = importlib.import_module("ivyport.verification.training")
    for name in ("_gradients", "_after_step"):
        setattr(pair.Pair, name, watched(peaks, name, getattr(pair.Pair, name)))
    for name in ("settle",):
        setattr(run, name, watched(peaks, name, getattr(run, name)))
    for cls in {type(s) for s in (run.port_side(port, None),)}:
        for name in ("stepped", "outputs", "widened"):
            setattr(cls, name, watched(peaks, f"port {name}", getattr(cls, name)))
    run.dropout_rows = watched(peaks, "dropout", dropout_rows)
    peaks("verify")
    before = memory.resident()
    report = ivyport.verify(model, port, progress=peaks)
    print("passed" if report.passed else "does not hold")
    for stage, most in peaks.stages:
        print(f"{stage:<16} {most / 1e9:6.2f} GB")
    most = max(most for _, most in peaks.stages)
    print(f"weights {weights / 1e9:.2f} GB, before {before / 1e9:.2f} GB")
    print(f"peak {most / 1e9:.2f} GB, estimate {memory.needed(weights) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
