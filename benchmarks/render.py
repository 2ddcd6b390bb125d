"""docs/benchmarks.md from the newest result file of each benchmark.

python benchmarks/render.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from results import replace
from tables import Values, body, environment

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

# Result files begin with these; each section shows the newest.
SECTIONS: dict[str, tuple[str, str]] = {
    "latency_cpu_2": (
        "Forward latency",
        "Ported models against the hand-written Flax classes of transformers 4.55.4 (the "
        "last release that has them) and torch, with the same weights, inputs and "
        "threads. The targets: at most 1.0 times Flax, and below `torch.compile` in its "
        "best mode.",
    ),
    "latency_cpu_1_thread_2": (
        "Forward latency, one thread",
        "The same on one core. CPU time on one thread hardly depends on what else a "
        "machine does, so its ratios are the steadiest.",
    ),
    "perceiver_2": (
        "Perceiver in torch",
        "The haiku Perceiver (ImageNet, Fourier features) ported to torch, against "
        "transformers' own torch class of the same size. The target: at most 1.05 times "
        "its time, eager and compiled.",
    ),
    "port_time_2": (
        "Time of a port",
        "`ivyport hf` of a full-size bert-base, from the shell's point of view, against "
        "a process that imports torch, transformers, jax and flax and exports the same "
        "model once.",
    ),
    "weights_memory_2": (
        "Memory of the weight conversion",
        "Peak resident memory of `ivyport.weights.convert` over that after its imports, "
        "every matrix transposed. The limit is the largest tensor plus 300 MB.",
    ),
}
HEAD = """# Benchmarks

Made by `python benchmarks/render.py` from `benchmarks/results/`; how each is measured is
in [benchmarks/README.md](../benchmarks/README.md).
"""


def newest(prefix: str, folder: Path) -> Values | None:
    """The newest result whose file name begins with `prefix`, or None.

    Names end with a date, so they sort by it.
    """
    files = sorted(folder.glob(f"{prefix}*.json"))
    if not files:
        return None
    values: Values = json.loads(files[-1].read_text("utf-8"))
    return values


def page(folder: Path) -> str:
    """The whole page; a benchmark without a result has no section."""
    parts = [HEAD]
    for prefix, (title, text) in SECTIONS.items():
        values = newest(prefix, folder)
        if values is not None:
            found = environment(values["environment"])
            parts.append(f"## {title}\n\n{text}\n\n{body(values)}\n\n{found}\n")
    return "\n".join(parts)


def main() -> None:
    """Write the page; with --check, exit with 1 if it is not up to date."""
    text = page(HERE / "results")
    if "--check" not in sys.argv[1:]:
        replace(PAGE, text)
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != text:
        sys.exit(f"{PAGE.name} is out of date: run python benchmarks/render.py")


if __name__ == "__main__":
    main()
