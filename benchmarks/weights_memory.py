"""Peak memory of the weight conversion alone, over the memory after its imports.

Random checkpoints of the sizes of bert-base and gpt2-xl, every matrix transposed (the
worst case: nothing can be copied through), in a process of its own each.

    python benchmarks/weights_memory.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from results import measured_on, save

HERE = Path(__file__).resolve().parent
ALLOWED = 300_000_000  # bytes, besides the largest tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def bert_base() -> Shapes:
    """Names and shapes like those of bert-base (440 MB)."""
    return _transformer(layers=12, width=768, vocabulary=30522, positions=512)


def gpt2_xl() -> Shapes:
    """A third of gpt2-xl (2.3 GB): its width and vocabulary, and 16 of 48 layers."""
    return _transformer(layers=16, width=1600, vocabulary=50257, positions=1024)


def _transformer(layers: int, width: int, vocabulary: int, positions: int) -> Shapes:
    yield "tokens.weight", (vocabulary, width)
    yield "positions.weight", (positions, width)
    for layer in range(layers):
        for name, rows, columns in (
            ("query_key_value", 3 * width, width),
            ("output", width, width),
            ("up", 4 * width, width),
            ("down", width, 4 * width),
        ):
            yield f"layers.{layer}.{name}.weight", (rows, columns)
            yield f"layers.{layer}.{name}.bias", (rows,)


CHECKPOINTS = {"bert-base": bert_base, "a third of gpt2-xl": gpt2_xl}
# Name, checkpoint, arguments of `convert`.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("bert-base", {}),
    "a third of gpt2-xl": ("a third of gpt2-xl", {}),
    "a third of gpt2-xl, to bfloat16": ("a third of gpt2-xl", {"dtype": "bfloat16"}),
    "a third of gpt2-xl, in shards": (
        "a third of gpt2-xl",
        {"max_shard_bytes": 500_000_000},
    ),
}


def write_checkpoint(file: Path, name: str) -> None:
    """A safetensors file with the shapes of a checkpoint and cheap random values."""
    import numpy as np

    from ivyport.weights import Pending, write

    generator = np.random.default_rng(0)
    block = generator.standard_normal(2**20, dtype=np.float32)
    pending = [
        Pending(key, "float32", shape, partial(np.resize, block, shape))
        for key, shape in CHECKPOINTS[name]()
    ]
    write(file, pending)


def convert(folder: Path, variant: str) -> None:
    """Convert a checkpoint, and print memory before and at its peak as JSON."""
    from ivyport.weights import Permute, Row, TensorStore, WeightMap
    from ivyport.weights import convert as convert_

    name, options = VARIANTS[variant]
    rows = tuple(
        Row(key, f"ported.{key}", (Permute((1, 0)),) if len(shape) == 2 else ())
        for key, shape in CHECKPOINTS[name]()
    )
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    start = time.perf_counter()
    with TensorStore.open(folder / "checkpoint") as store:
        convert_(store, WeightMap(rows), folder / "out", **options)
    seconds = time.perf_counter() - start
    print(json.dumps({"before": before, "peak": _status("VmHWM"), "seconds": seconds}))


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def measure(variant: str, folder: Path) -> dict[str, Any]:
    """One conversion in a process of its own, on a checkpoint that is there."""
    command = [sys.executable, __file__, "--convert", variant, "--work", str(folder)]
    shutil.rmtree(folder / "out", ignore_errors=True)
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    values = json.loads(found.stdout)
    sizes = [_bytes(shape) for _, shape in CHECKPOINTS[VARIANTS[variant][0]]()]
    return {
        "what": variant,
        "total": sum(sizes),
        "largest": max(sizes),
        "limit": max(sizes) + ALLOWED,
        "imports": values["before"],
        "over_imports": values["peak"] - values["before"],
        "seconds": values["seconds"],
    }


def _bytes(shape: tuple[int, ...]) -> int:
    size = 4
    for dim in shape:
        size *= dim
    return size


def run(work: Path | None) -> list[dict[str, Any]]:
    """All variants; a checkpoint is written once for those that share it."""
    rows = []
    for name in CHECKPOINTS:
        folder = Path(tempfile.mkdtemp(prefix="weights-", dir=work))
        try:
            command = [sys.executable, __file__, "--write", name, "--work", str(folder)]
            subprocess.run(command, check=True)
            for variant, (checkpoint, _) in VARIANTS.items():
                if checkpoint == name:
                    rows.append(measure(variant, folder))
                    print(rows[-1], file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(folder)
    return rows


def main() -> None:
    """Measure, and write weights_memory_<date>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where checkpoints are put")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--write", choices=CHECKPOINTS, help=argparse.SUPPRESS)
    parser.add_argument("--convert", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write_checkpoint(options.work / "checkpoint", options.write)
    elif options.convert:
        convert(options.work, options.convert)
    else:
        values: dict[str, Any] = {
            "benchmark": "weights_memory",
            "environment": measured_on(),
            "rows": run(options.work),
        }
        values["environment"]["load_after"] = os.getloadavg()
        print(save(options.out, values), file=sys.stderr)


if __name__ == "__main__":
    main()
