"""docs/benchmarks.md from the newest result file of each benchmark.

python benchmarks/render.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tables import Values, body, environment

from ivyport.bench import report

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

# Runs of `ivyport bench`, whose result files begin with these.
RUNS: dict[str, tuple[str, str]] = {
    "bench_cpu_suite": (
        "Forward latency on a CPU",
        "`ivyport bench`: ports to JAX against torch's modes and, where there is one, the "
        "hand-written Flax class of transformers 4.55.4 (the last release that has them), "
        "with the same weights, inputs and threads. The targets: 1.3 times as fast as "
        "torch's best mode in the geometric mean, no transformer slower than it, and no "
        "port slower than hand-written Flax.",
    ),
    "bench_cpu_batch8": (
        "Batch 8",
        "The same with eight sequences or images.",
    ),
    "bench_cpu_large": (
        "Models that take seconds",
        "Those that a default suite leaves out on two cores.",
    ),
    "bench_cpu_train": (
        "Train steps",
        "Forward pass, gradients of all parameters and an SGD update, without dropout.",
    ),
    "bench_cpu_scan": (
        "Scanned layers",
        "`--scan-layers`: equal layers under `jax.lax.scan`, which XLA compiles once. The "
        "target: a quarter of the compile time of 24 layers that are unrolled. It is out "
        "of reach here, as XLA compiles equal kernels once in any case: the same model "
        "with one layer takes a quarter already (0.25 of 1.0 s).",
    ),
    "bench_gpu": ("Forward latency on a GPU", "The same on a GPU."),
}

# Result files of the scripts here begin with these; each section shows the newest.
SECTIONS: dict[str, tuple[str, str]] = {
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


def runs(folder: Path) -> Iterator[str]:
    """The sections of `RUNS`: the newest result of each, with its plot."""
    for prefix, (title, text) in RUNS.items():
        files = sorted(folder.glob(f"{prefix}*.json"))
        if not files:
            continue
        body = report.page(report.results_of(files[-1]))
        # The page's own title goes, and its sections are one level down.
        body = body.partition("\n")[2].replace("\n## ", "\n### ").strip()
        plot = files[-1].with_name(f"{files[-1].stem}_speedup.png")
        picture = f"![{title}](../benchmarks/results/{plot.name})\n\n"
        picture = picture if plot.is_file() else ""
        yield f"## {title}\n\n{text}\n\n{picture}{body}\n"


def page(folder: Path) -> str:
    """The whole page; a benchmark without a result has no section."""
    parts = [HEAD, *runs(folder)]
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
        report.replace(PAGE, text)
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != text:
        sys.exit(f"{PAGE.name} is out of date: run python benchmarks/render.py")


if __name__ == "__main__":
    main()
