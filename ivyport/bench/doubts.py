"""What makes a result doubtful: a loaded machine, threads or compilers that are set oddly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ivyport.bench.case import OK, Row
from ivyport.bench.environment import COMPILERS, SLOW

#: Cores that other processes may keep busy while an engine computes.
BUSY_CORES = 0.3
#: What stands behind a time that was measured beside more than that.
MARK = "!"
#: Values of a variable by which a switch is off.
_OFF = ("", "0", "false", "no", "off")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def is_disturbed(row: Row) -> bool:
    """Whether other processes computed while this row was measured."""
    return row.others is not None and row.others > BUSY_CORES


def doubts(environment: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Why the figures of a result may be wrong, a sentence each; none where all is well."""
    found = [*_load(environment, rows), *_threads(environment, rows)]
    return [*found, *of_variables(environment.get("variables") or {})]


def of_variables(variables: Mapping[str, str]) -> Iterable[str]:
    """What variables of the environment did to compilers."""
    for name in SLOW:
        if variables.get(name, "").lower() not in _OFF:
            yield (
                f"{name}={variables[name]} was set: programs were slow, and figures say "
                "nothing of others. Unset it and measure again"
            )
    for name in COMPILERS:
        if name in variables:
            yield f"{name} was set: {variables[name]}"


def _load(environment: Mapping[str, Any], rows: Sequence[Row]) -> Iterable[str]:
    timed = [row for row in rows if row.status == OK]
    disturbed = [row for row in timed if is_disturbed(row)]
    cores = environment.get("cores") or 1
    if disturbed:
        most = max(row.others or 0.0 for row in disturbed)
        yield (
            f"the machine was loaded: beside {len(disturbed)} of {len(timed)} rows (marked "
            f"{MARK}) other processes kept up to {most:.1f} of {cores} cores busy. Their times "
            "are too long, and their ratios may be far off: measure again on a quiet machine"
        )
        return
    before = (environment.get("load_before") or [0.0])[0]
    known = any(row.others is not None for row in timed)
    if before > 0.5 * cores and not known:
        yield (
            f"the machine was loaded: {before:.1f} processes on {cores} cores in the minute "
            "before. Times may be too long and ratios off: measure again on a quiet machine"
        )


def _threads(environment: Mapping[str, Any], rows: Sequence[Row]) -> Iterable[str]:
    cores, threads = environment.get("cores"), environment.get("threads")
    on_cpu = any(row.device == "cpu" for row in rows)
    if not cores or not threads or not on_cpu:
        return
    if threads > cores:
        yield f"{threads} threads shared {cores} cores: give --threads {cores} or fewer"
    elif threads < cores:
        yield f"every engine had {threads} of {cores} cores (--threads {threads})"
    variables = environment.get("variables") or {}
    for name in _THREADS:
        given = variables.get(name)
        if given not in (None, str(threads)):
            yield f"{name} was {given}, and engines ran with {threads} threads all the same"
