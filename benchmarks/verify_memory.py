"""How much memory a port and its verification take, by their steps, in weights of the model.

    python benchmarks/verify_memory.py linear 300 [torch]
    python benchmarks/verify_memory.py bert 300 [torch]

The source is a stack of linear layers, or a BERT, of that many megabytes in all; the target JAX
by default. What the process has after its imports is taken off.
"""

from __future__ import annotations

import importlib
import resource
import sys
import threading
import time
from typing import Any

import torch
from torch import nn

import ivyport
from ivyport.core import memory

WIDTH = 2048
STAGES = ("_traced", "_eagerly", "_other_sizes", "_train_mode")


class Peaks:
    """The most memory since each stage began, looked at in a thread."""

    def __init__(self) -> None:
        self.stages: list[list[Any]] = []
        self("start")
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, stage: str, *numbers: int) -> None:
        name = f"{stage} {' '.join(map(str, numbers))}"
        self.stages.append([name, memory.resident()])

    def _watch(self) -> None:
        while True:
            time.sleep(0.003)
            self.stages[-1][1] = max(self.stages[-1][1], memory.resident())

    def tell(self, owner: Any, *names: str) -> None:
        """Have calls of functions of `owner` be stages of their own."""
        for name in names:
            setattr(owner, name, self._told(name, getattr(owner, name)))

    def _told(self, name: str, call: Any) -> Any:
        def told(*args: Any, **kwargs: Any) -> Any:
            self(name)
            return call(*args, **kwargs)

        return told


def made(kind: str, size: int) -> tuple[nn.Module, dict[str, Any]]:
    """A model of about `size` bytes, and inputs."""
    if kind == "linear":
        layers = max(size // (4 * WIDTH * WIDTH), 1)
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
        return model.eval(), {"input": torch.randn(2, WIDTH)}
    from transformers import BertConfig, BertModel

    layer = 4 * 12 * 768**2
    config = BertConfig(vocab_size=8000, num_hidden_layers=max(size // layer, 1))
    ids = torch.randint(0, 8000, (2, 16))
    return BertModel(config).eval(), {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }


def main() -> None:
    """Port, verify, and print the peak of each step."""
    kind, size, target = (*sys.argv[1:], "jax")[:3]
    # A small model first: it loads whatever is imported on the way.
    tiny, x = nn.Linear(4, 4).eval(), torch.randn(2, 4)
    ivyport.verify(tiny, ivyport.transpile(tiny, target, kwargs={"input": x}))
    run = importlib.import_module("ivyport.verification.run")
    pair = importlib.import_module("ivyport.verification.training").Pair
    before = memory.resident()
    model, inputs = made(kind, int(size) * 10**6)
    weights = sum(p.nbytes for p in model.parameters())
    peaks = Peaks()
    port = ivyport.transpile(model, target, kwargs=inputs, verify=False)
    peaks.tell(run._Verification, *STAGES)
    peaks.tell(pair, "_gradients", "_exact", "_after_step")
    peaks.tell(run, "settle", "dropout_rows")
    side = type(run.port_side(port, None))
    peaks.tell(side, "gradients", "stepped", "outputs", "widened")
    report = ivyport.verify(model, port, progress=peaks)
    print("passed" if report.passed else "does not hold")
    for stage, most in peaks.stages:
        print(f"{stage:<16} {(most - before) / weights:6.2f} times")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = (most - before) / weights
    print(f"weights {weights / 1e9:.2f} GB, {before / 1e9:.2f} GB after the imports")
    print(f"peak {most / 1e9:.2f} GB: {times:.2f} times the weights")
    print(f"estimate {memory.needed(weights) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
