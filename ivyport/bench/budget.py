"""How long a run will take, and a clock that ends it in time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from ivyport.bench.case import Case
from ivyport.bench.engines import Engine
from ivyport.bench.suite import Entry, call_seconds

# Seconds on two cores of a machine of 2023: to build a model and its references, and to port it,
# at first and for each million parameters.
_BUILD, _PORT = (10.0, 0.05), (15.0, 0.08)
_LOAD = 8.0  # imports and weights of an engine
_COMPILE = {
    "compile": 30.0,
    "compile:reduce-overhead": 30.0,
    "compile:max-autotune": 60.0,
}
_JIT = 12.0  # of a port, under XLA
_WAIT = 0.6  # before each turn of an engine, until the machine is quiet
WARM_CALLS = 8


@dataclasses.dataclass
class Clock:
    """The time that is left of a budget of seconds; 0 is no limit."""

    budget: float = 0.0
    start: float = dataclasses.field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds until the budget is spent, infinite without one."""
        if not self.budget:
            return float("inf")
        return self.budget - (time.monotonic() - self.start)


def case_seconds(
    entry: Entry, case: Case, engines: Sequence[Engine], runs: int, rounds: int
) -> float:
    """About how long it takes to load, compile and time a case's engines."""
    call = call_seconds(entry, case)
    found = 0.0
    for engine in engines:
        found += _LOAD + _COMPILE.get(engine.name, _JIT if engine.port else 0.0)
        found += (runs + rounds + WARM_CALLS) * call + _WAIT * rounds
    return found


def model_seconds(entry: Entry, engines: Sequence[Engine]) -> float:
    """About how long it takes to build a model and its ports."""
    ports = {engine.port for engine in engines if engine.port is not None}
    first, each = _BUILD
    found = first + each * entry.million
    first, each = _PORT
    return found + len(ports) * (first + each * entry.million)


def estimate(
    entries: Sequence[Entry],
    cases: Sequence[Case],
    engines: Sequence[Engine],
    runs: int,
    rounds: int,
) -> float:
    """About how many seconds a run of all cases takes."""
    by_name = {entry.name: entry for entry in entries}
    built = {(case.model, case.dtype, case.mode) for case in cases}
    found = sum(model_seconds(by_name[name], engines) for name, _, _ in built)
    return found + sum(
        case_seconds(by_name[case.model], case, engines, runs, rounds) for case in cases
    )


def in_words(seconds: float) -> str:
    """``40 s``, ``9 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
