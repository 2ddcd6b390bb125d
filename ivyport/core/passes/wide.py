"""Numbers that 64 bits hold and 32 do not, before 64-bit types become 32-bit ones.

Nothing becomes another number without a word: what stands for "the largest" is the largest of the
narrow type, hashes are computed modulo their number of buckets from the start, and the rest is
noted at its line, or refused where 32 bits cannot even say it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.control import all_nodes, bodies
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.gaps import Gap, report
from ivyport.core.ir import Graph, Node, Scalar, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.match import constant, made_by
from ivyport.core.passes.rewrite import Rule, apply_rules
from ivyport.core.ranges import UNKNOWN, Interval, Ranges, of_dtype

USUAL = 2**20
"""What token ids, positions and counts that a model is given are below."""
SQUARES = 46340
"""The largest number of buckets whose square is within 32 bits."""
WORD = 30
"""Bits of the parts that products are summed of: two such numbers fit into an int32."""
STEPS = 6
"""Into how many parts a factor is taken apart at most: more is no code to read."""
HALF = (2.0**-24, 65504.0)
"""The least and the greatest magnitude of float16."""
INT32 = np.iinfo(np.int32)
INT64 = np.iinfo(np.int64)
GROWING = ("add", "subtract", "multiply", "pow", "square", "bitwise_left_shift", "negative",
           "sum", "prod", "cumulative_sum", "cumulative_prod")  # fmt: skip


def fit(graph: Graph) -> list[str]:
    """Rewrite what 32 bits would compute wrongly; sentences on what is left.

    Raises:
        UnsupportedOpsError: integers of the source that 32 bits cannot say.
    """
    notes = _fit_floats(graph)
    _fit_integers(graph)
    ranges = Ranges(_given(graph))
    _demand_steps(graph, ranges)
    rules: dict[str, list[Rule]] = {
        "remainder": [functools.partial(modular, ranges)],
        "multiply": [half],
        "divide": [half],
    }
    for part in _with_bodies(graph):
        if apply_rules(part, rules):
            eliminate(part)
    return notes + _overflows(graph, Ranges(ranges.known))


def hold_factors(graph: Graph) -> None:
    """Compute products with numbers that float16 lacks in float32, in place."""
    for part in _with_bodies(graph):
        if apply_rules(part, {"multiply": [half], "divide": [half]}):
            eliminate(part)


def _with_bodies(graph: Graph) -> Iterator[Graph]:
    """The graph and the bodies of its loops and branches, the inner ones first."""
    for node in graph.nodes:
        for body in bodies(node):
            yield from _with_bodies(body)
    yield graph


def _where(node: Node) -> str:
    return f" ({Path(node.src.file).name}:{node.src.line})" if node.src else ""


def _dtypes(node: Node) -> set[str]:
    return {v.type.dtype for v in (*node.values(), *node.outputs)}


# ---- floats


def _fit_floats(graph: Graph) -> list[str]:
    notes: list[str] = []
    for node in all_nodes(graph):
        if "float64" not in _dtypes(node):
            continue
        node.inputs = tuple(
            Scalar(_fitted(x.value, node, notes)) if isinstance(x, Scalar) else x
            for x in node.inputs
        )
        for key, value in node.attrs.items():
            if isinstance(value, float):
                node.attrs[key] = _fitted(value, node, notes)
    return list(dict.fromkeys(notes))


def _fitted(value: Any, node: Node, notes: list[str]) -> Any:
    """A float as what stands for it in float32."""
    if not isinstance(value, float) or not math.isfinite(value) or value == 0:
        return value
    limits = dt.finfo("float32")
    largest = float(limits.max)
    if abs(value) > largest:
        if abs(value) != float(dt.finfo("float64").max):
            notes.append(
                f"{value:g}{_where(node)} is beyond float32, in which the port computes: it "
                f"is {math.copysign(largest, value):g} there."
            )
        return math.copysign(largest, value)
    if abs(value) < float(limits.smallest_normal):
        notes.append(
            f"{value:g}{_where(node)} is 0 in float32, in which the port computes."
        )
        return 0.0
    return value


# ---- integers


def _literals(node: Node) -> Iterator[tuple[Any, Any]]:
    """Places of a node that hold integers: positions of operands, and keys of attributes."""
    for position, x in enumerate(node.inputs):
        if isinstance(x, Scalar) and type(x.value) is int:
            yield position, x.value
    for key in ("value", "start", "stop", "step", "min", "max", "fill"):
        if type(node.attrs.get(key)) is int:
            yield key, node.attrs[key]


def _fit_integers(graph: Graph) -> None:
    gaps = []
    for node in all_nodes(graph):
        if "int64" not in _dtypes(node):
            continue
        inputs = list(node.inputs)
        for place, value in list(_literals(node)):
            if INT32.min <= value <= INT32.max:
                continue
            if node.op in ("multiply", "add", "subtract") and _only_hashed(graph, node):
                continue
            if value not in (INT64.min, INT64.max):
                gaps.append(_gap(node, value))
                continue
            small = int(INT32.min if value < 0 else INT32.max)
            if isinstance(place, int):
                inputs[place] = Scalar(small)
            else:
                node.attrs[place] = small
        node.inputs = tuple(inputs)
    if gaps:
        raise UnsupportedOpsError(report(gaps))


def _only_hashed(graph: Graph, node: Node) -> bool:
    """Whether a product or sum is used in remainders alone, which `modular` rewrites."""
    users = graph.uses().get(node.output, [])
    return bool(users) and all(
        (u.op == "remainder" and _buckets(u) is not None)
        or (u.op in ("multiply", "add", "subtract") and _only_hashed(graph, u))
        for u in users
    )


def _place(node: Node) -> str:
    scope = (node.scope[-1].path or "the model") if node.scope else "the model"
    return f"{scope} ({node.src})" if node.src else scope


def _gap(node: Node, value: int) -> Gap:
    return Gap(
        node.op,
        _place(node),
        f"the integer {value} needs 64 bits, and JAX computes in 32 "
        "(keep integers below 2147483648, or compute them before the model)",
    )


def _buckets(node: Node) -> int | None:
    """The number that a remainder of 64-bit integers is taken by, if it can be in 32."""
    by = constant(node.inputs[1])
    if type(by) is not int or not 1 < by < 2**31:
        return None
    if node.output.type.dtype != "int64":
        return None
    return by if _wraps(by) or _digits(by) <= STEPS else None


def _wraps(by: int) -> bool:
    """Whether integers that wrap around at 2**32 keep their remainder."""
    return by & (by - 1) == 0


def _shift(by: int) -> int:
    """Bits of the parts of a factor, so that a part times a remainder has `WORD` bits."""
    return max(WORD - (by - 1).bit_length(), 0)


def _digits(by: int) -> int:
    """Into how many parts a factor below `by` is taken apart."""
    if by <= SQUARES:
        return 1
    bits, shift = (by - 1).bit_length(), _shift(by)
    return -(-bits // shift) if shift else bits


def _hashed(ranges: Ranges, node: Node) -> bool:
    """Whether a remainder is one of arithmetic that may leave 32 bits."""
    x = node.inputs[0]
    if not isinstance(x, Value) or x.producer is None:
        return False
    if x.producer.op not in ("add", "subtract", "multiply"):
        return False
    found = ranges.of(x)
    unknown = found.low is None and found.high is None and _multiplies(x)
    return unknown or _beyond(found)


def _multiplies(x: Any) -> bool:
    node = x.producer if isinstance(x, Value) else None
    if node is None or node.op not in ("add", "subtract", "multiply"):
        return False
    return node.op == "multiply" or any(map(_multiplies, node.inputs))


def modular(ranges: Ranges, b: Builder, node: Node) -> Value | None:
    """``(i * 40503 + 12345) % 97`` of remainders: none of them leaves 32 bits."""
    by, x = _buckets(node), node.inputs[0]
    if by is None or not isinstance(x, Value) or not _hashed(ranges, node):
        return None
    made = b.remainder(_reduced(b, x, by, top=True), Scalar(by))
    ranges.known[made] = Interval(0, by - 1)
    for inner in _chain(made):
        ranges.known.setdefault(inner, Interval(INT32.min, INT32.max))
    return made


def _chain(x: Value) -> Iterator[Value]:
    """What a remainder was made of: within 32 bits by construction."""
    node = x.producer
    for y in node.inputs if node is not None else ():
        made = made_by(y, "add", "subtract", "multiply", "remainder")
        if made is not None:
            yield made.output
            yield from _chain(made.output)


def _reduced(b: Builder, x: Any, by: int, top: bool = False) -> Any:
    """An operand within 0 ... by - 1; only congruent to it, and within 32 bits, at the `top`."""
    if isinstance(x, Scalar):
        return Scalar(x.value % by)
    known = constant(x)
    if type(known) is int:
        return Scalar(known % by)
    node = x.producer
    if node is None or node.op not in ("add", "subtract", "multiply"):
        return b.remainder(x, Scalar(by))
    one, other = (_reduced(b, y, by) for y in node.inputs)
    if node.op == "multiply" and not _wraps(by) and _digits(by) > 1:
        return _product(b, one, other, by)
    made = b.node(node.op, (one, other), {}).output
    return made if top else b.remainder(made, Scalar(by))


def _product(b: Builder, x: Any, y: Any, by: int) -> Value:
    """x * y % by of remainders, the second one taken apart into few bits at a time."""
    if isinstance(x, Scalar):
        x, y = y, x
    shift = _shift(by)
    base = 2**shift
    made = None
    for place in reversed(range(_digits(by))):
        part = _part(b, y, base, place)
        if made is None and isinstance(part, Scalar) and part.value == 0:
            continue
        term = b.multiply(x, part)
        if made is not None:
            term = b.add(b.multiply(made, Scalar(base)), term)
        made = b.remainder(term, Scalar(by))
    return made if made is not None else b.multiply(x, Scalar(0))


def _part(b: Builder, y: Any, base: int, place: int) -> Any:
    """One digit of a factor to a base."""
    if isinstance(y, Scalar):
        return Scalar(y.value // base**place % base)
    higher = b.floor_divide(y, Scalar(base**place)) if place else y
    return b.remainder(higher, Scalar(base))


def _demand_steps(graph: Graph, ranges: Ranges) -> None:
    """Refuse hashes whose number of buckets is too large to be computed in 32 bits."""
    gaps = [
        Gap(
            "remainder",
            _place(node),
            f"a product modulo {by} needs 64 bits, and JAX computes in 32: compute the hash "
            f"before the model and pass it as an input, or take at most {2**25} buckets",
        )
        for node in all_nodes(graph)
        if node.op == "remainder" and node.output.type.dtype == "int64"
        if type(by := constant(node.inputs[1])) is int and by > 1
        if _buckets(node) is None and _multiplies(node.inputs[0])
        if _hashed(ranges, node)
    ]
    if gaps:
        raise UnsupportedOpsError(report(gaps))


def half(b: Builder, node: Node) -> Value | None:
    """``x * 1e6`` of a float16 x: torch has the number in float32, JAX as infinity."""
    kind = node.output.type.dtype
    if kind != "float16" or not any(map(_beyond_half, node.inputs)):
        return None
    wide = [b.cast(x, "float32") if isinstance(x, Value) else x for x in node.inputs]
    return b.cast(b.node(node.op, tuple(wide), {}).output, kind)


def _beyond_half(x: Any) -> bool:
    if not isinstance(x, Scalar) or not isinstance(x.value, int | float):
        return False
    size = abs(x.value)
    return bool(0 < size < HALF[0] or HALF[1] < size < math.inf)


def _given(graph: Graph) -> dict[Value, Interval]:
    """What integers the model is given: usual ones."""
    known = {}
    values = [*graph.inputs, *(p.value for p in graph.params.values())]
    for value in values:
        whole = of_dtype(value.type.dtype)
        if whole is not None and (whole.low is None or whole.high is None):
            known[value] = Interval(-USUAL, USUAL)
    return known


def _beyond(found: Interval) -> bool:
    return any(
        isinstance(bound, int) and not INT32.min <= bound <= INT32.max
        for bound in (found.low, found.high)
    )


def _overflows(graph: Graph, ranges: Ranges) -> list[str]:
    """A sentence on each line whose integers may leave 32 bits."""
    lines: dict[str, None] = {}
    wide: set[Value] = set()
    top = set(map(id, graph.nodes))
    for node in all_nodes(graph):
        if node.op not in GROWING or "int64" not in _dtypes(node):
            continue
        if id(node) not in top and _compounds(node, ranges):
            lines.setdefault(_where(node))
            continue
        if any(v in wide for v in node.values()):
            wide.update(node.outputs)  # its line has been named
            continue
        if _beyond(ranges.of(node.output)) or _power(node, ranges):
            wide.update(node.outputs)
            lines.setdefault(_where(node))
    return [
        f"Integers of this line may need 64 bits{line}; the port computes in 32, and beyond "
        "2147483647 they wrap around."
        for line in lines
    ]


def _compounds(node: Node, ranges: Ranges) -> bool:
    """Whether a product in a loop grows with each of its steps, as far as can be told."""
    if node.op not in ("multiply", "pow", "bitwise_left_shift", "prod", "square"):
        return False
    if ranges.of(node.output) != UNKNOWN:
        return False
    known = [constant(x) for x in node.inputs]
    return not any(type(x) is int and abs(x) <= 1 for x in known)


def _power(node: Node, ranges: Ranges) -> bool:
    """Whether a power or a shift may be beyond 32 bits."""
    if node.op == "square":
        x = ranges.of(node.inputs[0])
        ends = [e for e in (x.low, x.high) if isinstance(e, int)]
        return any(e * e > INT32.max for e in ends)
    if node.op not in ("pow", "bitwise_left_shift"):
        return False
    x, by = (ranges.of(y) for y in node.inputs)
    if not all(isinstance(e, int) for e in (x.low, x.high, by.high)):
        return False
    top = max(abs(x.low), abs(x.high))  # type: ignore[arg-type]  # ints, says the test above
    many = min(int(by.high), 64)  # type: ignore[arg-type]  # as above
    if many < 0:
        return False
    return (top**many if node.op == "pow" else top << many) > INT32.max
