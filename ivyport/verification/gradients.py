"""Compares the gradients of every parameter, and the buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ivyport.core.report import ReportRow
from ivyport.verification import compare
from ivyport.verification.compare import Array, Entry
from ivyport.verification.tolerance import Tolerances
from ivyport.weights.mapping import Row, WeightMap

#: In tolerances: a gradient that is further off beside its own size may be another one.
FAR = 100


class Named(Mapping[str, Array]):
    """Arrays under every name of theirs; names without an array are left out."""

    def __init__(self, arrays: Mapping[str, Array], owner: Mapping[str, str]) -> None:
        self._arrays = arrays
        self._owner = {n: kept for n, kept in owner.items() if kept in arrays}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[self._owner[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._owner)

    def __len__(self) -> int:
        return len(self._owner)


def compare_gradients(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    weight_map: WeightMap,
    entry: Entry,
    tolerance: Tolerances,
    *,
    sources: Mapping[str, str],
    targets: Mapping[str, str],
    name: Callable[[str], str] = str,
    undecided: dict[str, Array] | None = None,
) -> list[ReportRow]:
    """One row a parameter of the port, in the order of the weight map.

    Args:
        actual: gradients by the port's names, each tied parameter once.
        expected: gradients by the source's names, each tied parameter once.
        weight_map: leads from the source's parameters to the port's.
        entry: the rows' kind and note.
        tolerance: largest errors, and the floor of the scale.
        sources: the name in `expected` for every name of a source's parameter.
        targets: the name in `actual` for every name of a port's parameter.
        name: what a row is called, from the port's name.
        undecided: gets the source's gradient of each tensor that is far off beside its own
            size, and passes for the size of others alone.
    """
    ours, theirs = Named(expected, sources), Named(actual, targets)
    largest = {n: _largest(a) for n, a in expected.items()}
    finite = [v for v in largest.values() if math.isfinite(v)]
    floor = tolerance.gradient_floor * max(finite, default=0.0)
    chosen = [r for r in weight_map.rows if r.kind == "parameter"]
    mapped = WeightMap(tuple(r for r in chosen if _has_one(r, ours)))
    rows = []

    def limit(dtype: str) -> float:
        return tolerance.of(dtype).gradient

    for target in dict.fromkeys(row.target for row in mapped.rows):
        if target not in theirs:
            problem = "no parameter of the port"
            rows.append(compare.failed(name(target), entry, problem))
            continue
        source = mapped.read_target(target, ours)
        row = compare.compare_arrays(
            name(target), theirs[target], source, entry, limit, floor
        )
        rows.append(row)
        if undecided is not None and row.passed and _is_far(row, source):
            undecided[target] = source
    read = {n for r in mapped.rows for n in mapped.sources_of(r.target, ours)}
    reached = {sources[n] for n in read}
    for lost in expected:
        # NaN is not zero either.
        if lost not in reached and largest[lost] != 0:
            rows.append(compare.failed(name(lost), entry, "the port lacks it"))
    known = {targets.get(row.target) for row in mapped.rows}
    for target in sorted(set(actual) - known):
        rows.append(compare.failed(name(target), entry, "no parameter of the source"))
    return rows


def _largest(array: Array) -> float:
    return max((float(np.abs(p).max()) for p in compare.parts(array)), default=0.0)


def _is_far(row: ReportRow, source: Array) -> bool:
    return row.max_abs > FAR * row.tolerance * _largest(source)


def _has_one(row: Row, arrays: Mapping[str, Array]) -> bool:
    return any(name in arrays for name in (row.source, *row.aliases))


def compare_buffers(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    weight_map: WeightMap,
    entry: Entry,
    tolerance: Tolerances,
    *,
    narrow: bool = True,
) -> list[ReportRow]:
    """One row a buffer: running statistics after a forward in train mode, say.

    Buffers of the source that the map leads nowhere are not compared: a port may have
    no use for a count of batches.
    """
    chosen = [r for r in weight_map.rows if r.kind == "buffer"]
    mapped = WeightMap(tuple(r for r in chosen if _has_one(r, expected)))
    rows = []
    for target in dict.fromkeys(row.target for row in mapped.rows):
        if target not in actual:
            rows.append(compare.failed(target, entry, "no buffer of the port"))
            continue
        row = compare.compare_arrays(
            target,
            actual[target],
            mapped.read_target(target, expected),
            entry,
            lambda dtype: tolerance.of(dtype).gradient,
            narrow=narrow,
        )
        rows.append(row)
    return rows
