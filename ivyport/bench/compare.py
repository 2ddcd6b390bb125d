"""Two result files: what changed, and whether by more than the noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivyport.bench.case import OK, Row
from ivyport.bench.report import Key, case_name, read
from ivyport.bench.runner import Rounds
from ivyport.bench.timer import bootstrap_ratio

# Runs of one program on one machine differ by this much for no reason that a single run
# shows: where its memory happens to lie, how warm the machine is.
SMALLEST = 0.02
FASTER, SLOWER, SAME = "faster", "slower", "within the noise"
BROKEN, MENDED, STILL = "no longer ok", "now ok", "not ok in either"
ONLY_FIRST, ONLY_SECOND = "only in the first", "only in the second"


@dataclasses.dataclass(frozen=True)
class Change:
    """One row of the two files.

    ratio: the second's median over the first's; low and high: its 95 % interval.
    """

    row: Row
    verdict: str
    first_ms: float | None = None
    second_ms: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        found = dataclasses.asdict(self)
        row = found.pop("row")
        names = ("model", "engine", "mode", "batch", "seq_len", "dtype", "device")
        return {name: row[name] for name in names} | found

    def cells(self) -> list[str]:
        """The change as text, by `HEADER`."""
        interval = "" if self.low is None else f"{self.low:.2f}-{self.high:.2f}"
        return [
            case_name(self.row),
            self.row.engine,
            "" if self.first_ms is None else f"{self.first_ms:.2f}",
            "" if self.second_ms is None else f"{self.second_ms:.2f}",
            "" if self.ratio is None else f"{self.ratio:.3f}",
            interval,
            f"{self.verdict}{f' ({self.note})' if self.note else ''}",
        ]


HEADER = ("case", "engine", "first ms", "second ms", "ratio", "95 %", "change")


def compare(first: Path, second: Path) -> tuple[list[Change], list[str]]:
    """Every row of both files, and how their environments differ.

    Where every call is known (the .csv beside a file), the interval comes from drawing
    rounds anew; else two medians count as different if the p10 to p90 ranges do not meet.

    Raises InputError for a file that is no result.
    """
    environment_a, rows_a, samples_a = read(first)
    environment_b, rows_b, samples_b = read(second)
    by_key_a = {row.key: row for row in rows_a}
    by_key_b = {row.key: row for row in rows_b}
    changes = []
    for key in dict.fromkeys([*by_key_a, *by_key_b]):
        a, b = by_key_a.get(key), by_key_b.get(key)
        if a is None or b is None:
            row = a or b
            assert row is not None
            verdict = ONLY_FIRST if b is None else ONLY_SECOND
            changes.append(Change(row, verdict))
        else:
            changes.append(_judge(a, b, samples_a, samples_b))
    return changes, differences(environment_a, environment_b)


def _judge(
    a: Row, b: Row, samples_a: Mapping[Key, Rounds], samples_b: Mapping[Key, Rounds]
) -> Change:
    if a.status != OK or b.status != OK:
        note = f"{a.status}, then {b.status}" if a.status != b.status else a.status
        verdict = BROKEN if a.status == OK else MENDED if b.status == OK else STILL
        return Change(b, verdict, a.median_ms, b.median_ms, note=note)
    assert a.median_ms is not None
    assert b.median_ms is not None
    ratio = b.median_ms / a.median_ms
    rounds_a, rounds_b = samples_a.get(a.key), samples_b.get(b.key)
    if rounds_a and rounds_b and min(len(rounds_a), len(rounds_b)) > 2:
        low, high = bootstrap_ratio(rounds_b, rounds_a)
        note = ""
    else:
        low = (b.p10_ms or 0.0) / (a.p90_ms or 1.0)
        high = (b.p90_ms or 0.0) / (a.p10_ms or 1.0)
        note = "by p10 and p90"
    if abs(ratio - 1) <= SMALLEST or low <= 1 <= high:
        verdict = SAME
    else:
        verdict = FASTER if ratio < 1 else SLOWER
    return Change(b, verdict, a.median_ms, b.median_ms, ratio, low, high, note)


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What of two environments bears on latency and is not the same."""
    lines = []
    names = ("processor", "cores", "threads", "tf32", "python", "gpus", "variables")
    for name in names:
        if a.get(name) != b.get(name):
            lines.append(f"{name}: {a.get(name)}, then {b.get(name)}")
    versions_a, versions_b = a.get("versions", {}), b.get("versions", {})
    for name in dict.fromkeys([*versions_a, *versions_b]):
        if versions_a.get(name) != versions_b.get(name):
            old, new = versions_a.get(name, "absent"), versions_b.get(name, "absent")
            lines.append(f"{name}: {old}, then {new}")
    return lines
