"""Forward latency on the CPU, in float32: the port against Flax and torch.

Every engine is a process of its own with the same weights, inputs and threads. They stay
loaded, and this driver lets them run in turns, so that only one computes at a time and
each round holds one measurement of each under the same conditions. A ratio is taken
within a round, and what is reported is the median of the ratios.

Other work on the machine disturbs engines unequally: where a thread waits for another
that is not running, OpenMP's engines lose far more than XLA's. So each turn waits for a
quiet machine, and what ran beside it is recorded. With ``--threads 1`` the CPU time of
a call hardly depends on other work, and its ratios are meaningful on a busy machine.

    python benchmarks/latency.py [--cases ...] [--engines ...] [--rounds 15]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

import setup_flax
from cases import CASES, COMPILED, ENGINES, FLAX, PARITY, PORT, Case
from environment import busy_seconds, environment, today
from results import save

HERE = Path(__file__).resolve().parent
WARM_CALLS = 20
SAMPLE_S = 0.2
STEADY = 0.05


class Engine:
    """The parent's side of a worker process."""

    def __init__(self, name: str, case: str, folder: Path, threads: int) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HERE / "worker.py"),
                name,
                case,
                str(folder),
                str(threads),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        self.about = self._reply()

    def run(self, count: int) -> dict[str, Any]:
        """The times of `count` calls, in seconds, and the CPU time they took."""
        pipe = self._pipe(self.process.stdin)
        pipe.write(json.dumps({"run": count}) + "\n")
        pipe.flush()
        return self._reply()

    def close(self) -> dict[str, Any]:
        """End the process; returns its peak memory."""
        self._pipe(self.process.stdin).close()
        last = self._reply()
        self.process.wait()
        return last

    def kill(self) -> None:
        """End the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _reply(self) -> dict[str, Any]:
        line = self._pipe(self.process.stdout).readline()
        if not line:
            tail = self.log.read_text("utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"the worker of {self.name} ended:\n{tail}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def warm_up(engine: Engine, calls: int) -> int:
    """Call until three calls in a row differ by less than `STEADY`; returns how many.

    On a machine with other work that may never be; `calls` bounds it.
    """
    last: list[float] = []
    for count in range(1, calls + 1):
        last = [*last[-2:], *engine.run(1)["seconds"]]
        if len(last) == 3 and max(last) < (1 + STEADY) * min(last):
            return count
    return calls


def turn(engine: Engine, options: argparse.Namespace) -> dict[str, float]:
    """One engine's turn: the median of its calls, and what else ran meanwhile.

    `others` is the number of cores that other processes kept busy. A turn in which that
    was more than `options.quiet` is repeated, `options.tries` times in all; the
    quietest one counts.
    """
    count, best = options.calls, dict[str, float]()
    for _ in range(options.tries):
        wait_for_quiet(options.quiet, options.patience)
        start, busy = time.perf_counter(), busy_seconds()
        reply = engine.run(count)
        wall = time.perf_counter() - start
        # The call that is not timed is as long as the others.
        own = reply["cpu"] * (count + 1) / count
        others = max(0.0, (busy_seconds() - busy - own) / wall)
        if not best or others < best["others"]:
            best = {
                "seconds": statistics.median(reply["seconds"]),
                "cpu": reply["cpu"] / count,
                "others": others,
            }
        if others <= options.quiet:
            break
    return best


def wait_for_quiet(quiet: float, patience: float) -> None:
    """Sleep until other processes use at most `quiet` cores, or for `patience` s.

    OpenMP's threads of the engine before spin for a moment; that ends here, too.
    """
    end = time.perf_counter() + patience
    while True:
        start, busy = time.perf_counter(), busy_seconds()
        time.sleep(SAMPLE_S)
        now = time.perf_counter()
        if (busy_seconds() - busy) / (now - start) <= quiet or now >= end:
            return


def measure(
    name: str, engines: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """All of one case: prepare its files, start the engines, check, time."""
    case = CASES[name]
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=options.work))
    workers: dict[str, Engine] = {}
    rows: dict[str, dict[str, Any]] = {}
    try:
        log = (folder / "prepare.log").open("wb")
        command = [sys.executable, str(HERE / "prepare.py"), name, str(folder)]
        subprocess.run(command, check=True, stdout=log, stderr=log)
        for engine in engines:
            say(f"{name}: {engine}")
            worker = workers[engine] = Engine(engine, name, folder, options.threads)
            rows[engine] = dict(worker.about)
            if worker.about["error"] > PARITY:
                workers.pop(engine).kill()
                continue
            rows[engine]["warm_up_calls"] = warm_up(worker, options.warm)
        rounds = interleave(workers, options)
        for engine, worker in workers.items():
            rows[engine] |= worker.close()
    finally:
        for worker in workers.values():
            worker.kill()
        shutil.rmtree(folder)
    return summary(case, rows, rounds)


def interleave(
    workers: dict[str, Engine], options: argparse.Namespace
) -> list[dict[str, dict[str, float]]]:
    """The rounds; each starts with another engine, so that no place is favoured."""
    names = list(workers)
    rounds = []
    for index in range(options.rounds):
        shift = index % len(names)
        rounds.append(
            {
                name: turn(workers[name], options)
                for name in names[shift:] + names[:shift]
            }
        )
        took = {n: round(1000 * rounds[-1][n]["seconds"], 1) for n in names}
        say(f"  round {index + 1}: {took}")
    return rounds


def summary(
    case: Case,
    rows: dict[str, dict[str, Any]],
    rounds: list[dict[str, dict[str, float]]],
) -> dict[str, Any]:
    """Medians, and the ratios of the port to each other engine, round by round."""
    for engine in rounds[0] if rounds else ():
        seconds = [r[engine]["seconds"] for r in rounds]
        rows[engine] |= {
            "median_ms": 1000 * statistics.median(seconds),
            "min_ms": 1000 * min(seconds),
            "cpu_ms": 1000 * statistics.median(r[engine]["cpu"] for r in rounds),
            "others_cores": statistics.median(r[engine]["others"] for r in rounds),
            "rounds_ms": [round(1000 * s, 3) for s in seconds],
        }
    timed = [e for e in rows if "median_ms" in rows[e]]
    others = [e for e in timed if e != PORT] if PORT in timed else []
    compiled = [e for e in timed if e in COMPILED]
    best = min(compiled, key=lambda e: rows[e]["median_ms"], default=None)
    return {
        "model": case.model,
        "class": case.cls,
        "size": case.size,
        "engines": rows,
        "best_compile": best,
        "port_to": {e: ratios(PORT, e, rounds) for e in others},
        "port_cpu_to": {e: ratios(PORT, e, rounds, "cpu") for e in others},
        "meets": {
            "flax": _meets(PORT, FLAX, rounds, timed, 1.0),
            "compile": _meets(PORT, best, rounds, timed, 1.0),
        },
    }


def ratios(
    first: str,
    second: str,
    rounds: list[dict[str, dict[str, float]]],
    what: str = "seconds",
) -> dict[str, float]:
    """Median and quartiles of one engine's time over another's in the same round."""
    each = [r[first][what] / r[second][what] for r in rounds]
    low, middle, high = (
        statistics.quantiles(each, n=4, method="inclusive")
        if len(each) > 1
        else each * 3
    )
    return {"median": middle, "low": low, "high": high}


def _meets(
    first: str, second: str | None, rounds: list[Any], timed: list[str], limit: float
) -> bool | None:
    if second is None or first not in timed or second not in timed:
        return None
    return ratios(first, second, rounds)["median"] <= limit


def say(text: str) -> None:
    """Progress, on the standard error."""
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=3, help="timed calls of a turn")
    parser.add_argument("--warm", type=int, default=WARM_CALLS)
    parser.add_argument("--quiet", type=float, default=0.15, help="cores of others")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patience", type=float, default=10, help="s, for quiet")
    parser.add_argument("--tries", type=int, default=3, help="for a quiet turn")
    parser.add_argument(
        "--work", type=Path, help="where the models are put for a while"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results")
    return parser.parse_args()


def main() -> None:
    """Measure, and write latency_cpu_<date>.json."""
    options = arguments()
    if FLAX in options.engines:
        setup_flax.setup()
    values: dict[str, Any] = {
        "benchmark": "latency",
        "environment": environment(),
        "threads": options.threads,
        "rounds": options.rounds,
        "calls": options.calls,
        "parity": PARITY,
        "cases": {},
    }
    for name in options.cases:
        values["cases"][name] = measure(name, options.engines, options)
        values["environment"]["load_after"] = os.getloadavg()
        # Kept after each case, so that a run that is cut short is not lost.
        threads = "" if options.threads == 2 else f"_{options.threads}_thread"
        file = save(options.out / f"latency_cpu{threads}_{today()}", values)
    say(str(file))


if __name__ == "__main__":
    main()
