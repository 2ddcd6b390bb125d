"""The driver: prepares cases, starts engines, times them in rounds, keeps what is done.

It imports no framework. One process computes at a time.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ivyport.bench import environment as machine
from ivyport.bench import suite
from ivyport.bench.budget import Clock, case_seconds, model_seconds
from ivyport.bench.case import (
    NO_DEVICE,
    NO_TIME,
    NOT_INSTALLED,
    PARITY,
    PORT_FAILED,
    TF32_TOLERANCE,
    Case,
    Row,
)
from ivyport.bench.engines import Engine
from ivyport.bench.prepare import Recipe, Sizes
from ivyport.bench.processes import (
    Quiet,
    StepError,
    Worker,
    busy_seconds,
    environment,
    run_step,
)
from ivyport.bench.timer import is_steady, summary

# CPU time is counted in ticks of 10 ms: what others used beside a shorter turn is unknown.
TICKS_S = 0.2
MIN_ROUNDS = 3  # of a case that is begun, whatever the budget
_COSTLY = {"compile": 1, "compile:reduce-overhead": 2, "compile:max-autotune": 3}
Say = Callable[[str], None]
Rounds = list[list[float]]  # seconds of calls, a list a round


@dataclasses.dataclass(frozen=True)
class Options:
    """How it is measured.

    runs: timed calls of an engine, spread over `rounds`. warm_calls: at most, until they
    are steady. timeout: seconds for a step or the loading of an engine.
    memory: bytes that engines may hold at once; None for what is free.
    budget: seconds for the whole run, 0 for no limit. Rounds are cut short and cases left
    out, but never the first case's first rounds.
    """

    runs: int = 100
    rounds: int = 10
    warm_calls: int = 50
    threads: int = 1
    tf32: bool = False
    quiet: Quiet = dataclasses.field(default_factory=Quiet)
    timeout: float = 1800.0
    memory: int | None = None
    work: Path | None = None
    budget: float = 0.0

    def counts(self) -> list[int]:
        """The calls of each round; their sum is `runs`."""
        rounds = min(self.rounds, self.runs)
        whole, rest = divmod(self.runs, rounds)
        return [whole + (index < rest) for index in range(rounds)]


@dataclasses.dataclass
class Results:
    """What a run has found so far.

    samples: the seconds of every call, by row, in rounds. details: why a row has no
    latency, and remarks on those that have one.
    """

    environment: dict[str, Any]
    rows: list[Row] = dataclasses.field(default_factory=list)
    samples: dict[tuple[Any, ...], Rounds] = dataclasses.field(default_factory=dict)
    details: dict[tuple[Any, ...], str] = dataclasses.field(default_factory=dict)
    about: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class _Running:
    """An engine that is loaded and checked, with its row so far."""

    engine: Engine
    worker: Worker
    row: Row
    first_call_s: float
    rounds: Rounds = dataclasses.field(default_factory=list)
    others: list[float] = dataclasses.field(default_factory=list)


class Runner:
    """Measures cases, and calls `keep` after every row."""

    def __init__(
        self,
        entries: Sequence[suite.Entry],
        engines: Sequence[Engine],
        options: Options,
        results: Results,
        *,
        keep: Callable[[Results], None],
        say: Say,
        seen: set[str] | None = None,
    ) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._engines, self._options, self._results = engines, options, results
        self._keep, self._say = keep, say
        self._seen = {"torch", "jax"} if seen is None else seen
        self._clock = Clock(options.budget)
        self._to_do = 0

    def run(self, cases: Sequence[Case]) -> None:
        """Measure every case; rows of engines that fail say how."""
        self._to_do = len(cases)
        for (name, dtype, mode), group in groupby(
            cases, key=lambda case: (case.model, case.dtype, case.mode)
        ):
            members = list(group)
            if not self._has_time(members):
                continue
            folder = Path(
                tempfile.mkdtemp(prefix="ivyport-bench-", dir=self._options.work)
            )
            try:
                self._model(self._entries[name], dtype, mode, members, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _has_time(self, cases: list[Case]) -> bool:
        """Whether a model can be built and its first case timed; where not, rows say so."""
        entry, runs = self._entries[cases[0].model], min(MIN_ROUNDS, self._options.runs)
        needed = model_seconds(entry, self._engines)
        needed += case_seconds(entry, cases[0], self._engines, runs, MIN_ROUNDS)
        if not any(row.median_ms for row in self._results.rows):
            return True
        if self._clock.left() >= needed:
            return True
        for case in cases:
            self._refuse(case, list(self._engines), NO_TIME, self._spent())
        self._to_do -= len(cases)
        return False

    def _spent(self) -> str:
        return (
            f"the budget of {self._options.budget:.0f} s was spent; --budget gives more"
        )

    # ---- one model

    def _model(
        self,
        entry: suite.Entry,
        dtype: str,
        mode: str,
        cases: list[Case],
        folder: Path,
    ) -> None:
        engines = [e for e in self._engines if self._usable(e, cases)]
        if not engines:
            return
        sizes = tuple(
            Sizes(f"case-{i}", case.batch, case.seq_len) for i, case in enumerate(cases)
        )
        recipe = Recipe(entry, dtype, mode, sizes, self._options.threads)
        file = folder / "recipe.json"
        file.write_text(json.dumps(recipe.to_json()), "utf-8")
        self._say(f"{entry.name} {mode} {dtype}: weights and references")
        try:
            self._step(["build", str(file)], folder)
        except StepError as error:
            for case in cases:
                self._refuse(case, engines, error.status, error.detail)
            return
        broken = self._ports(engines, file, folder)
        built = json.loads((folder / "built.json").read_text("utf-8"))
        for case, size in zip(cases, sizes, strict=True):
            able = []
            for engine in engines:
                if engine.port in broken:
                    self._refuse(case, [engine], *broken[engine.port])
                else:
                    able.append(engine)
            self._case(case, able, folder, size.folder, built[size.folder])
            self._to_do -= 1

    def _usable(self, engine: Engine, cases: list[Case]) -> bool:
        """Whether an engine can run here; where not, its rows say why."""
        status, detail = "", ""
        if engine.missing:
            status = NOT_INSTALLED
            detail = f"not installed: {', '.join(engine.missing)}"
        elif cases[0].device == "gpu" and engine.framework not in self._seen:
            status, detail = NO_DEVICE, f"{engine.framework} sees no GPU"
        if status:
            for case in cases:
                self._refuse(case, [engine], status, detail)
        return not status

    def _step(self, arguments: list[str], folder: Path) -> None:
        log = folder / f"{arguments[0]}-{arguments[-1].rpartition('/')[2]}.log"
        # References are torch's on the CPU, whatever the device of the engines is.
        run_step(
            ["ivyport.bench.prepare", *arguments],
            log,
            environment("cpu", folder),
            self._options.timeout,
        )

    def _ports(
        self, engines: list[Engine], file: Path, folder: Path
    ) -> dict[str | None, tuple[str, str]]:
        """Make the ports that the engines run; returns those that failed, and why."""
        failed: dict[str | None, tuple[str, str]] = {}
        for target in dict.fromkeys(e.port for e in engines if e.port is not None):
            self._say(f"  port to {target}")
            try:
                self._step(["port", str(file), target], folder)
            except StepError as error:
                status = PORT_FAILED if error.status == "failed" else error.status
                failed[target] = status, error.detail
        return failed

    # ---- one case

    def _case(
        self,
        case: Case,
        engines: list[Engine],
        folder: Path,
        inputs: str,
        built: dict[str, float],
    ) -> None:
        """Time a case's engines: all in turns, or one by one where memory is short."""
        entry = self._entries[case.model]
        free = self._options.memory or _free(case.device)
        each = suite.resident_bytes(entry, case.dtype, case.mode)
        together = each * len(engines) <= 0.8 * free
        if not together:
            self._say(
                f"  {case.title}: too large to load all engines; one after another"
            )
        for group in [engines] if together else [[engine] for engine in engines]:
            self._group(case, group, folder, folder / inputs, built)
        self._compare(case)

    def _group(
        self,
        case: Case,
        engines: list[Engine],
        folder: Path,
        inputs: Path,
        built: dict[str, float],
    ) -> None:
        running: list[_Running] = []
        share = self._clock.left() / max(1, self._to_do)
        until = time.monotonic() + share
        try:
            # The costly modes of torch.compile come last, and are what a budget leaves out.
            for engine in sorted(engines, key=lambda e: _COSTLY.get(e.name, 0)):
                late = time.monotonic() > until and len(running) > 1
                if late and engine.name in _COSTLY:
                    self._refuse(case, [engine], NO_TIME, self._spent())
                    continue
                found = self._start(case, engine, folder, inputs, built)
                if found is not None:
                    running.append(found)
            self._interleave(case, running, until)
            for one in running:
                self._finish(one)
        finally:
            for one in running:
                one.worker.kill()

    def _start(
        self,
        case: Case,
        engine: Engine,
        folder: Path,
        inputs: Path,
        built: dict[str, float],
    ) -> _Running | None:
        """Load an engine, compare its output, warm it up; None if its row is done."""
        self._say(f"  {case.title}: {engine.name}")
        options = self._options
        job = {
            "engine": engine.name,
            "loader": engine.loader,
            "port": engine.port,
            "path": engine.path,
            "model": str(folder),
            "inputs": str(inputs),
            "cls": self._entries[case.model].cls,
            "mode": case.mode,
            "dtype": case.dtype,
            "device": case.device,
            "threads": options.threads,
            "tf32": options.tf32,
            "rate": built.get("rate", 0.0),
        }
        worker = Worker(engine.name, job, inputs, environment(case.device, folder))
        try:
            found = worker.ready(min(options.timeout, max(60.0, self._clock.left())))
            row = Row.of(case, engine.name)
            row.max_rel_diff = _finite(found["difference"])
            wrong = _mismatch(found, built, case, options.tf32)
            self._results.about[engine.name] = found["about"]
            if wrong:
                worker.kill()
                row.status = PARITY
                self._add(row, wrong)
                return None
            one = _Running(engine, worker, row, found["first_call_s"])
            self._warm_up(one)
        except StepError as error:
            worker.kill()
            self._refuse(case, [engine], error.status, error.detail)
            return None
        except BaseException:
            worker.kill()
            raise
        return one

    def _warm_up(self, one: _Running) -> None:
        times: list[float] = []
        while len(times) < self._options.warm_calls and not is_steady(times):
            times += one.worker.run(1, self._options.timeout)["seconds"]

    def _interleave(self, case: Case, running: list[_Running], until: float) -> None:
        """The rounds; each starts with another engine, so that no place is favoured.

        At the moment `until` they end, if there were enough.
        """
        counts = self._options.counts()
        for index, count in enumerate(counts):
            if index >= MIN_ROUNDS and time.monotonic() > until:
                self._say(f"    {index} of {len(counts)} rounds: {self._spent()}")
                break
            shift = index % max(1, len(running))
            for one in running[shift:] + running[:shift]:
                try:
                    one.rounds.append(self._turn(one, count, case.device))
                except StepError as error:
                    one.worker.kill()
                    running.remove(one)
                    self._refuse(case, [one.engine], error.status, error.detail)
            if running:
                took = ", ".join(
                    f"{one.engine.name} {1000 * statistics.median(one.rounds[-1]):.2f}"
                    for one in running
                )
                self._say(f"    round {index + 1} of {len(counts)}: {took} ms")

    def _turn(self, one: _Running, count: int, device: str) -> list[float]:
        """One engine's calls; of turns that were disturbed, the quietest counts."""
        quiet, best = self._options.quiet, (math.inf, list[float]())
        patient = device == "cpu" and quiet.patience > 0
        for _ in range(quiet.tries if patient else 1):
            if patient:
                quiet.wait()
            start, busy = time.perf_counter(), busy_seconds()
            reply = one.worker.run(count, self._options.timeout)
            wall = time.perf_counter() - start
            peak = reply["peak"] / 1e6
            one.row.peak_memory_mb = round(max(one.row.peak_memory_mb or 0, peak), 1)
            if busy is None:
                return list(reply["seconds"])
            # The call that is not timed is as long as the others.
            own = reply["cpu"] * (count + 1) / count
            others = max(0.0, ((busy_seconds() or busy) - busy - own) / wall)
            if others < best[0]:
                best = (others, list(reply["seconds"]))
            if others <= quiet.cores:
                break
        if wall >= TICKS_S:
            one.others.append(best[0])
        return best[1]

    def _finish(self, one: _Running) -> None:
        times = [seconds for times in one.rounds for seconds in times]
        row = one.row
        row.runs = len(times)
        if one.others and row.device == "cpu":
            others = min(statistics.median(one.others), float(machine.cores()))
            row.others = round(others, 2)
        for name, value in summary(times).items():
            setattr(row, name, value)
        if one.engine.compiles:
            steady = statistics.median(times)
            row.compile_s = round(max(0.0, one.first_call_s - steady), 3)
        self._results.samples[row.key] = one.rounds
        self._add(row)

    def _compare(self, case: Case) -> None:
        """Speed-ups over the best torch mode, in all of a case's rows."""
        baselines = {engine.name for engine in self._engines if engine.is_baseline}
        rows = self._results.rows
        own = [row for row in rows if _is_of(row, case)]
        speed_up(own, baselines)
        # In the order of the engines, not in that in which they ended.
        order = [engine.name for engine in self._engines]
        own.sort(key=lambda row: order.index(row.engine))
        rows[:] = [row for row in rows if not _is_of(row, case)] + own
        self._keep(self._results)

    # ---- rows

    def _refuse(
        self, case: Case, engines: list[Engine], status: str, detail: str
    ) -> None:
        for engine in engines:
            self._say(f"  {case.title}: {engine.name}: {status}: {detail}")
            self._add(Row.of(case, engine.name, status), detail)

    def _add(self, row: Row, detail: str = "") -> None:
        self._results.rows.append(row)
        if detail:
            self._results.details[row.key] = detail
        self._keep(self._results)


def speed_up(rows: Sequence[Row], baselines: set[str]) -> None:
    """Set `speedup_vs_best_torch` of one case's rows, in place."""
    best = min(
        (r.median_ms for r in rows if r.engine in baselines and r.median_ms),
        default=None,
    )
    for row in rows:
        if best is not None and row.median_ms:
            row.speedup_vs_best_torch = round(best / row.median_ms, 4)


def cases_of(
    entries: Sequence[suite.Entry],
    *,
    modes: Sequence[str],
    dtypes: Sequence[str],
    batches: Sequence[int],
    seq_lens: Sequence[int],
    device: str,
) -> list[Case]:
    """Every combination, model by model; models without a length have it once."""
    found = [
        Case(entry.name, mode, batch, entry.seq_len(length), dtype, device)
        for entry in entries
        for dtype in dtypes
        for mode in modes
        for batch in batches
        for length in seq_lens
    ]
    return list(dict.fromkeys(found))


def _mismatch(
    found: dict[str, Any], built: dict[str, float], case: Case, tf32: bool
) -> str:
    """What is wrong with an engine's output; empty if it is right."""
    accepted = built["tolerance"]
    if tf32 and case.dtype == "float32" and case.device == "gpu":
        accepted = max(accepted, TF32_TOLERANCE)
    if not found["difference"] <= accepted:
        return (
            f"differs from torch by {found['difference']:.1e} of the largest value; "
            f"{accepted:.0e} is accepted"
        )
    if not found["update"] <= built.get("update", math.inf):
        return (
            f"its SGD steps change the output otherwise than torch's, by "
            f"{found['update']:.1e} of the change; {built['update']:.0e} is accepted"
        )
    return ""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _free(device: str) -> int:
    gpu = machine.gpu_memory() if device == "gpu" else None
    return machine.free_memory() if gpu is None else gpu


def _is_of(row: Row, case: Case) -> bool:
    fields = dataclasses.asdict(case).items()
    return all(getattr(row, name) == value for name, value in fields)
