"""What integers a value can hold, as far as constants, shapes and operations tell.

An `Interval` is a proof and never a guess: where a bound is None nothing is known. Bounds may be
symbolic, so that ``arange(B)`` is known to be within an axis of size B.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ivyport.core import dims as dm
from ivyport.core import dtype as dt
from ivyport.core.dims import Dim, DimLike, Func
from ivyport.core.ir import Node, Scalar, Value

DEPTH = 60  # of nodes that are looked through
SELECTS = frozenset(
    {"getitem", "reshape", "broadcast_to", "permute_dims", "take", "take_along_axis", "index",
     "flip", "roll", "tile", "repeat", "dynamic_slice", "split", "max", "min",
     "cumulative_max", "cumulative_min", "stop_gradient"}
)  # fmt: skip
"""Operations whose results are elements of their first operand."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """Least and greatest element, None where unknown."""

    low: DimLike | None = None
    high: DimLike | None = None


UNKNOWN = Interval()


def at_most(a: DimLike | None, b: DimLike | None) -> bool:
    """Whether a <= b is proved; sizes are at least 1, and quotients of them at least 0.

    >>> s = dm.symbol("S")
    >>> at_most(s - 1, s), at_most(0, s - 1), at_most(s, 7)
    (True, True, False)
    """
    if a is None or b is None:
        return False
    rest = b - a
    if isinstance(rest, int):
        return rest >= 0
    least = 0
    for monomial, coefficient in rest.terms:
        if monomial and coefficient < 0:
            return False
        if any(
            isinstance(atom, Func) and atom.op not in ("floordiv", "mod")
            for atom in monomial
        ):
            return False
        floor = 0 if any(isinstance(atom, Func) for atom in monomial) else 1
        least += coefficient * (floor if monomial else 1)
    return least >= 0


def interval(x: Any, known: Mapping[Value, Interval] | None = None) -> Interval:
    """What the elements of an integer or bool operand are within.

    `known` says of values that no node makes, and of others, what their elements are within.
    """
    return Ranges(known).of(x)


class Ranges:
    """Intervals of the values of one graph; what was found once is remembered."""

    def __init__(self, known: Mapping[Value, Interval] | None = None) -> None:
        self.known: dict[Value, Interval] = dict(known or {})
        self._found: dict[Value, Interval] = {}

    def of(self, x: Any, depth: int = DEPTH) -> Interval:
        """The interval of an operand."""
        if isinstance(x, Scalar):
            value = x.value
            if isinstance(value, float):
                return UNKNOWN
            return Interval(*(2 * (int(value) if isinstance(value, bool) else value,)))
        if not isinstance(x, Value) or depth == 0:
            return UNKNOWN
        if x in self.known:
            return self.known[x]
        if x not in self._found:
            self._found[x] = self._made(x, depth)
        return self._found[x]

    def _made(self, x: Value, depth: int) -> Interval:
        whole = of_dtype(x.type.dtype)
        if whole is None:
            return UNKNOWN
        node = x.producer
        if node is None:
            return whole
        found = self._by(node, x, lambda y: self.of(y, depth - 1))
        # What leaves the dtype has wrapped around, and may be anywhere.
        if found == UNKNOWN or _leaves(found, x.type.dtype):
            return whole
        return found

    def _by(self, node: Node, x: Value, of: Callable[[Any], Interval]) -> Interval:
        rule = RULES.get(node.op)
        if node.op in SELECTS:
            filled = node.attrs.get("fill") is not None
            return UNKNOWN if filled else of(node.inputs[0])
        if node.op in ("argmax", "argmin"):
            return _places(node)
        if node.op in ("sort", "topk") and x is node.outputs[1]:
            source = node.inputs[0]
            assert isinstance(source, Value)
            return _below(source.type.shape[node.attrs["axis"]])
        if node.op in ("sort", "topk"):
            return of(node.inputs[0])
        return UNKNOWN if rule is None else rule(node, of)


def of_dtype(dtype: str) -> Interval | None:
    """What a dtype holds; of 32 and 64 bits only that unsigned ones are not negative."""
    if dtype == "bool":
        return Interval(0, 1)
    if not dt.is_int(dtype):
        return None
    if dt.itemsize(dtype) >= 4:
        return Interval(0 if dtype.startswith("u") else None, None)
    limits = np.iinfo(dtype)
    return Interval(int(limits.min), int(limits.max))


def _leaves(found: Interval, dtype: str) -> bool:
    """Whether a bound that is a number, or none where one is due, is outside of the dtype."""
    if dtype == "bool":
        return not (at_most(0, found.low) and at_most(found.high, 1))
    limits = np.iinfo(dtype)
    narrow = dt.itemsize(dtype) < 4
    for bound in (found.low, found.high):
        if isinstance(bound, int):
            if not limits.min <= bound <= limits.max:
                return True
        elif narrow:
            return True
    return False


def _below(size: DimLike) -> Interval:
    return Interval(0, size - 1)


def _places(node: Node) -> Interval:
    source, axis = node.inputs[0], node.attrs["axis"]
    assert isinstance(source, Value)
    shape = source.type.shape
    return _below(dm.product(shape) if axis is None else shape[axis])


def least(x: Any, depth: int = DEPTH) -> float | None:
    """A number that no element of a float mask is below by more than learned numbers are.

    None where it is not known. What a model learns or computes with weights counts as small:
    what matters is where constants, or inputs, may be huge or infinite.
    """
    found = _span(x, depth)
    return None if found is None else found[0]


def is_small(mask: Any) -> bool:
    """Whether a float mask has no huge numbers.

    torch's kernel for a CPU gives wrong gradients to a query all of whose keys have a mask of
    -1e9 and beyond: it keeps only the logarithm of the sum of exponentials.
    """
    low = least(mask)
    return low is not None and low > -1e6


def is_finite(mask: Any) -> bool:
    """Whether a float mask holds no minus infinity, so that no query is left without a key."""
    low = least(mask)
    return low is not None and low > -math.inf


LEARNED = frozenset(
    {"linear", "matmul", "einsum", "embedding", "conv", "layer_norm", "rms_norm", "tanh",
     "sigmoid", "softmax", "attention"}
)  # fmt: skip


def _span(x: Any, depth: int) -> tuple[float, float] | None:
    """Least and greatest element of an operand of floats."""
    if isinstance(x, Scalar) and isinstance(x.value, int | float):
        return float(x.value), float(x.value)
    if not isinstance(x, Value) or depth == 0:
        return None
    if not dt.is_float(x.type.dtype):
        found = interval(x)
        low, high = found.low, found.high
        if not isinstance(low, int) or not isinstance(high, int):
            return None
        return float(low), float(high)
    node = x.producer
    if node is None:
        return None
    if node.op in LEARNED:
        return (0.0, 0.0)
    if node.op == "full":
        return _span(Scalar(node.attrs["value"]), depth)
    if node.op in SELECTS or node.op == "astype":
        table = node.inputs[0]
        learned = node.op in ("take", "index") and _is_held(table)
        return (0.0, 0.0) if learned else _span(table, depth - 1)
    if node.op == "negative":
        inner = _span(node.inputs[0], depth - 1)
        return None if inner is None else (-inner[1], -inner[0])
    if node.op not in ("add", "subtract", "multiply", "where", "maximum", "minimum"):
        return None
    spans = [_span(y, depth - 1) for y in node.inputs[-2:]]
    if spans[0] is None or spans[1] is None:
        return None
    return _combined(node.op, spans[0], spans[1])


def _is_held(x: Any) -> bool:
    return isinstance(x, Value) and x.producer is None and x.type.rank == 2


def _combined(
    op: str, x: tuple[float, float], y: tuple[float, float]
) -> tuple[float, float] | None:
    if op == "multiply":
        ends = [p * q for p in x for q in y]
    elif op == "add":
        ends = [x[0] + y[0], x[1] + y[1]]
    elif op == "subtract":
        ends = [x[0] - y[1], x[1] - y[0]]
    else:
        ends = [*x, *y]
    if any(e != e for e in ends):
        return None
    return min(ends), max(ends)


Of = Callable[[Any], Interval]


def _lesser(a: DimLike | None, b: DimLike | None) -> DimLike | None:
    """A bound that is at most both."""
    if a is None or b is None:
        return None
    if at_most(a, b):
        return a
    return b if at_most(b, a) else dm.minimum(a, b)


def _greater(a: DimLike | None, b: DimLike | None) -> DimLike | None:
    if a is None or b is None:
        return None
    if at_most(b, a):
        return a
    return b if at_most(a, b) else dm.maximum(a, b)


def _union(*parts: Interval) -> Interval:
    low, high = parts[0].low, parts[0].high
    for part in parts[1:]:
        low, high = _lesser(low, part.low), _greater(high, part.high)
    return Interval(low, high)


def _full(node: Node, of: Of) -> Interval:
    return of(Scalar(node.attrs["value"]))


def _arange(node: Node, of: Of) -> Interval:
    start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
    if any(isinstance(n, float) for n in (start, stop, step)):
        return UNKNOWN
    if not isinstance(step, int) or step == 0:
        return UNKNOWN
    return Interval(start, stop - 1) if step > 0 else Interval(stop + 1, start)


def _cast(node: Node, of: Of) -> Interval:
    source = node.inputs[0]
    assert isinstance(source, Value)
    old, new = source.type.dtype, node.attrs["dtype"]
    found = of(source)
    if of_dtype(old) is None or of_dtype(new) is None:
        return UNKNOWN
    wide = new == "bool" or dt.itemsize(new) >= dt.itemsize(old)
    if new == "bool":
        return Interval(0, 1)
    if new.startswith("u") and not at_most(0, found.low):
        return UNKNOWN
    limits = np.iinfo(new)
    fits = at_most(int(limits.min), found.low) and at_most(found.high, int(limits.max))
    # A size, and what is counted by one, fits 32 bits.
    symbolic = isinstance(found.high, Dim) and dt.itemsize(new) >= 4
    return found if wide or fits or symbolic else UNKNOWN


def _where(node: Node, of: Of) -> Interval:
    condition, x, y = node.inputs
    wrapped = _wrapped(condition, x, y, of)
    return _union(of(x), of(y)) if wrapped is None else wrapped


def _wrapped(condition: Any, x: Any, y: Any, of: Of) -> Interval | None:
    """``where(i < 0, i + n, i)``, which counts negative indices from the end."""
    test = condition.producer if isinstance(condition, Value) else None
    added = x.producer if isinstance(x, Value) else None
    if test is None or added is None or (test.op, added.op) != ("less", "add"):
        return None
    zero = of(test.inputs[1])
    if test.inputs[0] is not y or zero != Interval(0, 0) or y not in added.inputs:
        return None
    (other,) = [z for z in added.inputs if z is not y] or [None]
    size, plain = of(other), of(y)
    if size.low is None or size.low != size.high:
        return None
    n = size.low
    if at_most(0, plain.low):
        return plain
    low = _lesser(0, None if plain.low is None else plain.low + n)
    return Interval(low, _greater(n - 1, plain.high))


def _plus(a: DimLike | None, b: DimLike | None) -> DimLike | None:
    return None if a is None or b is None else a + b


def _minus(a: DimLike | None, b: DimLike | None) -> DimLike | None:
    return None if a is None or b is None else a - b


def _add(node: Node, of: Of) -> Interval:
    x, y = map(of, node.inputs)
    return Interval(_plus(x.low, y.low), _plus(x.high, y.high))


def _subtract(node: Node, of: Of) -> Interval:
    x, y = map(of, node.inputs)
    return Interval(_minus(x.low, y.high), _minus(x.high, y.low))


def _negative(node: Node, of: Of) -> Interval:
    x = of(node.inputs[0])
    return Interval(_minus(0, x.high), _minus(0, x.low))


def _multiply(node: Node, of: Of) -> Interval:
    x, y = map(of, node.inputs)
    ends = [_times(p, q) for p in (x.low, x.high) for q in (y.low, y.high)]
    if None in ends:
        natural = at_most(0, x.low) and at_most(0, y.low)
        return Interval(0, None) if natural else UNKNOWN
    return _union(*(Interval(e, e) for e in ends))


def _times(a: DimLike | None, b: DimLike | None) -> DimLike | None:
    return None if a is None or b is None else a * b


def _abs(node: Node, of: Of) -> Interval:
    x = of(node.inputs[0])
    if at_most(0, x.low):
        return x
    return Interval(0, _greater(_minus(0, x.low), x.high))


def _remainder(node: Node, of: Of) -> Interval:
    x, by = map(of, node.inputs)
    if not at_most(1, by.low):
        return UNKNOWN
    high = None if by.high is None else by.high - 1
    if at_most(0, x.low):
        if high is not None and at_most(x.high, high):
            high = x.high
        return Interval(0, x.high if high is None else high)
    if node.op == "fmod":
        return Interval(_minus(0, high), high)
    return Interval(0, high)


def _quotient(node: Node, of: Of) -> Interval:
    x, by = map(of, node.inputs)
    if not at_most(1, by.low):
        return UNKNOWN
    if at_most(0, x.low):
        one = by.low if isinstance(by.low, int) else 1
        low = 0 if by.high is None or x.low is None else x.low // by.high
        return Interval(low, None if x.high is None else x.high // one)
    return Interval(x.low, _greater(0, x.high))


def _shift_right(node: Node, of: Of) -> Interval:
    x, by = map(of, node.inputs)
    if not at_most(0, x.low) or not at_most(0, by.low):
        return UNKNOWN
    if isinstance(by.low, int) and isinstance(x.high, int):
        return Interval(0, x.high >> by.low)
    return Interval(0, x.high)


def _and(node: Node, of: Of) -> Interval:
    found = [of(x) for x in node.inputs]
    masks = [p.high for p in found if at_most(0, p.low) and p.high is not None]
    return Interval(0, masks[0]) if masks else UNKNOWN


def _maximum(node: Node, of: Of) -> Interval:
    x, y = map(of, node.inputs)
    lows = [p for p in (x.low, y.low) if p is not None]
    low = lows[0] if len(lows) == 1 else _greater(x.low, y.low)
    return Interval(low, _greater(x.high, y.high))


def _minimum(node: Node, of: Of) -> Interval:
    x, y = map(of, node.inputs)
    highs = [p for p in (x.high, y.high) if p is not None]
    high = highs[0] if len(highs) == 1 else _lesser(x.high, y.high)
    return Interval(_lesser(x.low, y.low), high)


def _clip(node: Node, of: Of) -> Interval:
    x, low, high = of(node.inputs[0]), node.attrs["min"], node.attrs["max"]
    if any(isinstance(v, float) for v in (low, high)):
        return UNKNOWN
    if low is not None and not at_most(low, x.low):
        x = Interval(low, _greater(low, x.high))
    if high is not None and not at_most(x.high, high):
        x = Interval(_lesser(high, x.low), high)
    return x


def _sum(node: Node, of: Of) -> Interval:
    x, source = of(node.inputs[0]), node.inputs[0]
    assert isinstance(source, Value)
    axis = node.attrs["axis"]
    axes = range(source.type.rank) if axis is None else axis
    axes = (axes,) if isinstance(axes, int) else axes
    count = dm.product(source.type.shape[a] for a in axes)
    if node.op == "cumulative_sum":
        low = 0 if at_most(0, x.low) else None if x.low is None else x.low * count
        return Interval(low, None if x.high is None else x.high * count)
    return Interval(*(None if v is None else v * count for v in (x.low, x.high)))


def _union_of(node: Node, of: Of) -> Interval:
    return _union(*(of(x) for x in node.inputs))


def _bit(node: Node, of: Of) -> Interval:
    return Interval(0, 1)


def _pad(node: Node, of: Of) -> Interval:
    x = of(node.inputs[0])
    if node.attrs["mode"] != "constant":
        return x
    value = int(node.attrs["value"])
    return _union(x, Interval(value, value))


def _with_zero(node: Node, of: Of) -> Interval:
    return _union(of(node.inputs[0]), Interval(0, 0))


RULES: dict[str, Callable[[Node, Of], Interval]] = {
    "full": _full,
    "arange": _arange,
    "astype": _cast,
    "where": _where,
    "add": _add,
    "subtract": _subtract,
    "negative": _negative,
    "multiply": _multiply,
    "abs": _abs,
    "remainder": _remainder,
    "fmod": _remainder,
    "floor_divide": _quotient,
    "trunc_divide": _quotient,
    "bitwise_right_shift": _shift_right,
    "bitwise_and": _and,
    "maximum": _maximum,
    "minimum": _minimum,
    "clip": _clip,
    "sum": _sum,
    "cumulative_sum": _sum,
    "concat": _union_of,
    "stack": _union_of,
    "one_hot": _bit,
    "eye": _bit,
    "sign": lambda node, of: Interval(-1, 1),
    "pad": _pad,
    "tril": _with_zero,
    "triu": _with_zero,
}
