"""Compares nested outputs and tensors; numpy only."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ivyport.core.dtype import FLOATS, NARROW, finfo
from ivyport.core.report import Inputs, Kind, ReportRow

Array = np.ndarray[Any, np.dtype[Any]]
#: Elements of an array that are looked at together.
_PART = 1 << 20


@dataclasses.dataclass
class Flat:
    """A nested value as leaves by path (`hidden_states.0`), and containers by path.

    A leaf is an array, None or a Python constant. A container is a 'record' (dataclass
    or named tuple), a 'mapping' or a 'sequence'.
    """

    leaves: dict[str, Any] = dataclasses.field(default_factory=dict)
    containers: dict[str, str] = dataclasses.field(default_factory=dict)

    def arrays(self) -> dict[str, Any]:
        """The leaves that have a shape."""
        return {k: v for k, v in self.leaves.items() if is_array(v)}


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a row says beside the numbers: the group that it belongs to, and a note."""

    kind: Kind
    inputs: Inputs = "traced"
    note: str = ""


def is_array(value: Any) -> bool:
    """Whether a leaf is an array of any framework rather than a constant."""
    return not isinstance(value, int | float | complex | str | bytes | None)


def flatten(value: Any, leaf: Callable[[Any], Any] = lambda x: x) -> Flat:
    """Leaves and containers of outputs; `leaf` converts everything that is neither.

    A single tensor has the path 'output'.
    """
    flat = Flat()

    def visit(item: Any, path: str) -> None:
        found = _items(item)
        if found is None:
            flat.leaves[path or "output"] = leaf(item)
            return
        kind, items = found
        flat.containers[path] = kind
        for key, inner in items:
            visit(inner, f"{path}.{key}" if path else str(key))

    visit(value, "")
    return flat


def _items(value: Any) -> tuple[str, list[tuple[Any, Any]]] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return "record", [(name, getattr(value, name)) for name in fields]
    names = getattr(type(value), "_fields", None)
    if isinstance(value, tuple) and names is not None:
        return "record", list(zip(names, value, strict=True))
    if isinstance(value, Mapping):
        return "mapping", list(value.items())
    if isinstance(value, tuple | list):
        return "sequence", list(enumerate(value))
    return None


def compare_outputs(
    port: Flat,
    source: Flat,
    entry: Entry,
    tolerance: Callable[[str], float],
    *,
    narrow: bool = True,
    through: Mapping[str, str] | None = None,
) -> list[ReportRow]:
    """One row an output of the source, and one a difference in structure.

    `tolerance` gives the largest relative error of a float dtype; `narrow` is as in
    `compare_arrays`; `through` gives the narrowest dtype that an output's values were
    rounded to, by output. Outputs that are None on both sides have no row.
    """
    rows = []
    for path, kind in source.containers.items():
        other = port.containers.get(path, kind)
        if path in port.leaves:
            other = _kind(port.leaves[path])
        if other != kind:
            problem = f"the source returns a {kind}, the port {_article(other)}"
            rows.append(failed(path or "output", entry, problem))
    for path, expected in source.leaves.items():
        if path in port.leaves:
            limit = _at_least(tolerance, (through or {}).get(path))
            row = _compare_leaf(path, port.leaves[path], expected, entry, limit, narrow)
            rows += [] if row is None else [row]
        elif path not in port.containers:
            problem = f"the source returns {_kind(expected)} here, the port nothing"
            rows.append(failed(path, entry, problem))
        else:
            kind = port.containers[path]
            problem = f"the source returns {_kind(expected)}, the port a {kind}"
            rows.append(failed(path, entry, problem))
    for path in port.leaves:
        known = path in source.leaves or path in source.containers
        below = any(path.startswith(f"{leaf}.") for leaf in source.leaves)
        if not known and not below:
            rows.append(failed(path, entry, "the source returns nothing here"))
    return rows


def _at_least(
    tolerance: Callable[[str], float], through: str | None
) -> Callable[[str], float]:
    if through is None:
        return tolerance
    least = tolerance(through)
    return lambda dtype: max(tolerance(dtype), least)


def _article(kind: str) -> str:
    return f"a {kind}" if kind in ("record", "mapping", "sequence") else kind


def _kind(leaf: Any) -> str:
    return "a tensor" if is_array(leaf) else repr(leaf)


def _compare_leaf(
    path: str,
    port: Any,
    source: Any,
    entry: Entry,
    tolerance: Callable[[str], float],
    narrow: bool,
) -> ReportRow | None:
    if is_array(port) and is_array(source):
        port, source = np.asarray(port), np.asarray(source)
        return compare_arrays(path, port, source, entry, tolerance, narrow=narrow)
    if is_array(port) != is_array(source) or type(port) is not type(source):
        problem = f"the source returns {_kind(source)}, the port {_kind(port)}"
        return failed(path, entry, problem)
    if port == source:
        return None
    return failed(path, entry, f"the source returns {source!r}, the port {port!r}")


def failed(name: str, entry: Entry, problem: str, shapes: str = "") -> ReportRow:
    """A row for what cannot be compared."""
    note = f"{entry.note}; {problem}" if entry.note else problem
    return ReportRow(
        name, entry.kind, shapes, math.inf, math.inf, 0.0, False, note, entry.inputs
    )


def compare_arrays(
    name: str,
    port: Array,
    source: Array,
    entry: Entry,
    tolerance: Callable[[str], float],
    floor: float = 0.0,
    *,
    narrow: bool = True,
) -> ReportRow:
    """One tensor of the port against the source's.

    The relative error is taken over the larger of `floor` and the source's largest
    magnitude. Another dtype (with `narrow` but for the 32 bits of 64), another shape
    and NaN on one side alone never pass.
    """
    dtype, given = source.dtype.name, port.dtype.name
    shapes = str(source.shape)
    if port.shape != source.shape:
        shapes = f"{port.shape}, source {source.shape}"
        return failed(name, entry, "other shape", shapes)
    problems = [entry.note] if entry.note else []
    right = same_dtype(port, source, narrow=narrow)
    if not right:
        problems.append(f"dtype is {given}, the source's {dtype}")
    if _inexact(port) != _inexact(source):
        return failed(name, entry, f"dtype is {given}, the source's {dtype}", shapes)
    exact = not _inexact(source)
    largest, scale = _exactly(port, source) if exact else difference(port, source)
    scale = max(scale, floor)
    # Nothing is small next to zero.
    alone = math.inf if largest > 0 else largest
    relative = largest / scale if scale else alone
    limit = 0.0 if exact else max(tolerance(given), tolerance(dtype))
    if math.isnan(relative):
        problems.append(_missing(port, source))
    elif not exact and (count := sum(int(np.isnan(p).sum()) for p in parts(source))):
        problems.append(f"NaN in the same {count} of {source.size} places")
    # NaN compares false with everything, so that it does not pass.
    passed = right and bool(relative <= limit)
    if exact:  # the numbers are rounded here
        passed = right and bool(np.array_equal(port, source))
    return ReportRow(
        name, entry.kind, shapes, largest, relative, limit, passed,
        "; ".join(problems), entry.inputs,
    )  # fmt: skip


def _missing(port: Array, source: Array) -> str:
    """Where NaN is that only one side has."""
    ours, theirs = int(np.isnan(port).sum()), int(np.isnan(source).sum())
    return f"NaN in {ours} of {source.size} places, in the source in {theirs}"


def same_dtype(port: Array, source: Array, *, narrow: bool = True) -> bool:
    """Whether the port has the source's dtype, or where `narrow` its 32 bits of 64."""
    name = source.dtype.name
    return port.dtype.name in (name, NARROW.get(name) if narrow else name)


def _inexact(array: Array) -> bool:
    return array.dtype.kind not in "biu"


def _exactly(port: Array, source: Array) -> tuple[float, float]:
    a, b = port.astype(np.float64), source.astype(np.float64)
    largest = float(np.max(np.abs(a - b), initial=0.0))
    return largest, float(np.max(np.abs(b), initial=0.0))


def difference(port: Array, source: Array) -> tuple[float, float]:
    """(largest |port - source|, largest |source|) of float tensors of one shape.

    Infinities, the finite numbers next to them that masks are filled with, and NaN are no
    magnitudes: they must be in the same places, and the rest is compared. Where one side
    alone has NaN, the difference is NaN.
    """
    found = [
        _difference(*pair) for pair in zip(parts(port), parts(source), strict=True)
    ]
    if not found:
        return 0.0, 0.0
    # `max` of numpy: NaN anywhere is the result.
    largest, scale = np.max(np.asarray(found, np.float64), axis=0)
    return float(largest), float(scale)


def parts(array: Array) -> Iterator[Array]:
    """An array along its first axis in pieces, so that what is computed of it stays small."""
    if not array.ndim or array.size <= _PART:
        if array.size:
            yield array
        return
    step = max(_PART * len(array) // array.size, 1)
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _difference(port: Array, source: Array) -> tuple[float, float]:
    limit = _mask_limit(source.dtype.name, port.dtype.name)
    a, b = _wide(port), _wide(source)
    magnitude = np.abs(b)
    scale = float(magnitude.max())
    if math.isnan(scale):
        missing = np.isnan(b)
        if not np.array_equal(missing, np.isnan(a)):
            return math.nan, scale
        a, b = np.where(missing, 0, a), np.where(missing, 0, b)
        magnitude = np.abs(b)
        scale = float(magnitude.max())
    if scale >= limit:
        masked = magnitude >= limit
        same = (np.abs(a) >= limit) & (np.sign(a.real) == np.sign(b.real))
        if not np.array_equal(masked, masked & same):
            return math.inf, scale
        a, b = np.where(masked, 0, a), np.where(masked, 0, b)
        scale = float(np.max(np.abs(b)))
    with np.errstate(over="ignore", invalid="ignore"):
        largest = float(np.max(np.abs(a - b)))
    return largest, scale


def _wide(array: Array) -> Array:
    """Floats of 16 bits as float32, everything else as it is."""
    if array.dtype.name in ("bfloat16", "float16"):
        return array.astype(np.float32)
    return array


def _mask_limit(*dtypes: str) -> float:
    """A quarter of the smallest largest number of the dtypes.

    float16 has no such limit: its 65504 is a number that models compute with.
    """
    names = [d if d in FLOATS else "float32" for d in dtypes]
    if "float16" in names:
        return math.inf
    return min(float(finfo(name).max) for name in names) / 4


def differ(first: Flat, second: Flat) -> bool:
    """Whether two calls returned anything else: NaN is equal to NaN."""
    a, b = first.arrays(), second.arrays()
    if a.keys() != b.keys():
        return True
    for name, array in a.items():
        one, other = np.asarray(array), np.asarray(b[name])
        inexact = one.dtype.kind not in "biu"
        if one.shape != other.shape or not np.array_equal(one, other, inexact):
            return True
    return False


def squared_norm(array: Array) -> float:
    """The sum of squares in float64, a part of the tensor at a time."""
    flat, step = array.ravel(), 1 << 20
    parts = (
        flat[start : start + step].astype(np.float64)
        for start in range(0, flat.size, step)
    )
    return sum(float(part @ part) for part in parts)


def is_usual(array: Array) -> Array | None:
    """Where a float array holds magnitudes, None if it does everywhere."""
    usual: Array = np.abs(_wide(array)) < _mask_limit(array.dtype.name)
    return None if usual.all() else usual


def aligned(port: Array, source: Array) -> float | None:
    """The relative error of an activation whose axes the port may order otherwise.

    Channels may be last, heads before or after positions, the axes of a split may be
    merged: the best permutation of axes counts, and another shape of the same elements
    where it agrees. None where the shapes have nothing to do with each other.
    """
    if sorted(port.shape) == sorted(source.shape):
        return min(_relative(port.transpose(p), source) for p in _orders(port, source))
    if port.size == source.size:
        error = _relative(port.reshape(source.shape), source)
        return error if error < 1e-2 else None
    return None


def _orders(port: Array, source: Array) -> Iterator[tuple[int, ...]]:
    for order in itertools.permutations(range(port.ndim)):
        if tuple(port.shape[axis] for axis in order) == source.shape:
            yield order


def _relative(port: Array, source: Array) -> float:
    largest, scale = difference(port, source)
    relative = largest / scale if scale else largest
    return math.inf if math.isnan(relative) else relative
