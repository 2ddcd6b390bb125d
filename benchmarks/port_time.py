"""Time of `ivyport hf bert-base-uncased --to jax`, from the shell's point of view.

Whole processes, imports included, in turns, against a process that imports the same
frameworks and exports the same model once (`baseline_export.py`).

    python benchmarks/port_time.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from processes import Took, measure
from results import measured_on, save

HERE = Path(__file__).resolve().parent
MODEL = "bert-base-uncased"
LIMIT = 2.0
RANDOM, FILE = "baseline, random weights", "baseline, weights from a file"

# Builds a local folder as a download would leave it.
CHECKPOINT = f"""
import sys
from ivyport.zoo import hf, hf_configs
hf.build(hf_configs.published_config({MODEL!r})).save_pretrained(sys.argv[1])
"""


def commands(folder: Path, *, verify: bool) -> dict[str, tuple[list[str], str | None]]:
    """Command and baseline of each measured process."""
    checkpoint = str(folder / "checkpoint")
    ivyport = [sys.executable, "-m", "ivyport", "hf"]
    to = ["--to", "jax", "-o", str(folder / "out")]
    export = [sys.executable, str(HERE / "baseline_export.py")]
    found: dict[str, tuple[list[str], str | None]] = {
        RANDOM: ([*export, MODEL], None),
        "port, random weights, not verified": (
            [*ivyport, MODEL, *to, "--no-weights", "--no-verify"],
            RANDOM,
        ),
        FILE: ([*export, checkpoint], None),
        "port, weights from a file, not verified": (
            [*ivyport, checkpoint, *to, "--no-verify"],
            FILE,
        ),
    }
    if verify:
        found["port, weights from a file, verified"] = (
            [*ivyport, checkpoint, *to],
            FILE,
        )
    return found


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rounds, and their summary by process."""
    folder = Path(tempfile.mkdtemp(prefix="port-", dir=options.work))
    took: dict[str, list[Took]] = {}
    try:
        command = [sys.executable, "-c", CHECKPOINT, str(folder / "checkpoint")]
        subprocess.run(command, check=True)
        measured = commands(folder, verify=options.verify)
        for index in range(options.rounds + 1):
            for what, (command, _) in measured.items():
                shutil.rmtree(folder / "out", ignore_errors=True)
                one = measure(command, folder / "log")
                print(f"{index} {what}: {one}", file=sys.stderr, flush=True)
                if index:  # round 0 brings the files into the page cache
                    took.setdefault(what, []).append(one)
    finally:
        shutil.rmtree(folder)
    return [_row(what, base, took) for what, (_, base) in measured.items()]


def _row(what: str, base: str | None, took: dict[str, list[Took]]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "what": what,
        "baseline": base,
        "median_s": statistics.median(t.wall for t in took[what]),
        "cpu_s": statistics.median(t.cpu for t in took[what]),
        "peak_rss": max(t.peak_rss for t in took[what]),
        "rounds_s": [round(t.wall, 2) for t in took[what]],
        "ratio": None,
        "cpu_ratio": None,
    }
    if base is not None:
        pairs = list(zip(took[what], took[base], strict=True))
        row["ratio"] = statistics.median(t.wall / b.wall for t, b in pairs)
        row["cpu_ratio"] = statistics.median(t.cpu / b.cpu for t, b in pairs)
    return row


def main() -> None:
    """Measure, and write port_time_<date>.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--verify", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--work", type=Path, help="where the files are put for a while")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    options = parser.parse_args()
    values: dict[str, Any] = {
        "benchmark": "port_time",
        "environment": measured_on(),
        "model": MODEL,
        "rounds": options.rounds,
        "limit": LIMIT,
    }
    values["rows"] = run(options)
    values["environment"]["load_after"] = os.getloadavg()
    print(save(options.out, values), file=sys.stderr)


if __name__ == "__main__":
    main()
