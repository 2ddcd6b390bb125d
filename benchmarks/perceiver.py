"""The Perceiver ported from haiku to torch against transformers' own torch Perceiver.

Both have the published size of the ImageNet variant with Fourier features, random weights,
one image, float32. They run in one process in turns, eager and through `torch.compile`; a
ratio is taken within a round. The port is timed if its outputs are haiku's.

    python benchmarks/perceiver.py [--rounds 9] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from results import measured_on, save

from ivyport.bench.torch_engine import from_port

HERE = Path(__file__).resolve().parent
PARITY = 1e-5
VARIANT = "imagenet-fourier"


def prepare(folder: Path) -> None:
    """Port the haiku model into `folder`, with an input and haiku's output."""
    import jax
    import numpy as np

    import ivyport
    from ivyport.zoo.haiku import perceiver

    model = perceiver(VARIANT, batch=1)
    params, state = model.draw(0)
    started = time.perf_counter()
    ivyport.port(
        model.transformed,
        "torch",
        folder / "port",
        kwargs={**model.inputs, **model.flags},
        params=params,
        state=state,
        name="perceiver",
        verify=False,
    )
    took = time.perf_counter() - started
    with jax.default_matmul_precision("highest"):
        out, _ = model.transformed.apply(
            params, state, None, **model.inputs, **model.flags
        )
    np.savez(folder / "golden.npz", images=model.inputs["images"], out=out, took=took)


def calls(folder: Path) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """The timed calls by name, and the port's error and the time that it took to make."""
    import numpy as np
    import torch
    from transformers import (
        PerceiverConfig,
        PerceiverForImageClassificationFourier,
    )

    port = from_port(folder / "port")
    golden = np.load(folder / "golden.npz")
    images = torch.from_numpy(golden["images"])
    with torch.no_grad():
        error = np.abs(port(images).numpy() - golden["out"]).max()
    error = float(error / np.abs(golden["out"]).max())
    if error > PARITY:
        raise SystemExit(f"the port differs from haiku by {error:.1e}: not timed")
    torch.manual_seed(0)
    config = PerceiverConfig(
        num_latents=512,
        d_latents=1024,
        d_model=261,
        num_blocks=8,
        num_self_attends_per_block=6,
        num_self_attention_heads=8,
        num_cross_attention_heads=1,
        num_labels=1000,
    )
    theirs = PerceiverForImageClassificationFourier(config).eval()
    pixels = images.permute(0, 3, 1, 2).contiguous()
    compiled, compiled_theirs = torch.compile(port), torch.compile(theirs)
    timed = {
        "port, eager": lambda: port(images),
        "transformers, eager": lambda: theirs(inputs=pixels),
        "port, torch.compile": lambda: compiled(images),
        "transformers, torch.compile": lambda: compiled_theirs(inputs=pixels),
    }
    return timed, {"max_rel_diff": error, "port_s": float(golden["took"])}


def measure(timed: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, one a round; each round starts with another."""
    import torch

    names = list(timed)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for name in names:
            for _ in range(2):
                timed[name]()
        for turn in range(rounds):
            for i in range(len(names)):
                name = names[(turn + i) % len(names)]
                started = time.perf_counter()
                timed[name]()
                times[name].append(time.perf_counter() - started)
            print({n: round(t[-1] * 1e3) for n, t in times.items()}, flush=True)
    return times


def ratio(times: dict[str, list[float]], mode: str) -> list[float]:
    """Quartiles of the port's time over transformers', within a round."""
    pairs = zip(times[f"port, {mode}"], times[f"transformers, {mode}"], strict=True)
    return statistics.quantiles([a / b for a, b in pairs], n=4, method="inclusive")


def main() -> None:
    """Measure, print and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare)
        return
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, str(Path(__file__)), "--prepare", work]
        subprocess.run(command, check=True)
        timed, about = calls(Path(work))
        times = measure(timed, options.rounds)
    values = {
        "benchmark": "perceiver",
        "environment": measured_on(),
        "threads": options.threads,
        "times": times,
        "ratios": {m: ratio(times, m) for m in ("eager", "torch.compile")},
        **about,
    }
    print(save(HERE / "results", values))


if __name__ == "__main__":
    main()
