"""Means and variances out of sums, in any of the ways that they are written."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.dims import Dim
from ivyport.core.ir import Node, Value
from ivyport.core.passes.match import (
    axes_of,
    constant_or_cast_size,
    correspondence,
    equals_size,
    extent,
    floating,
    made_by,
    number,
    reduced,
    squared,
    view,
)
from ivyport.core.passes.rewrite import Rule

REDUCTIONS = ("sum", "mean", "max", "min", "var", "std", "prod", "logsumexp")


def keepdims(b: Builder, node: Node) -> Value | None:
    """A reduction whose axes are put back at size one keeps them."""
    seen = view(node.output, through=())
    made = made_by(seen.base, *REDUCTIONS)
    if made is None or made.attrs["keepdims"]:
        return None
    x = made.inputs[0]
    assert isinstance(x, Value)
    axes = axes_of(made)
    shape = tuple(1 if a in axes else d for a, d in enumerate(x.type.shape))
    if node.output.type.shape != shape:
        return None
    kept = [a for a in range(x.type.rank) if a not in axes]
    for a, d in enumerate(shape):
        if d != 1 and seen.axes[a] != kept.index(a):
            return None
    return b.node(made.op, (x,), {**made.attrs, "keepdims": True}).output


def mean(b: Builder, node: Node) -> Value | None:
    """sum(x) / n, n being how many elements there are, known or symbolic."""
    total = made_by(node.inputs[0], "sum")
    if total is None or not floating(total.output):
        return None
    x = total.inputs[0]
    assert isinstance(x, Value)
    if not equals_size(node.inputs[1], extent(x, axes_of(total))):
        return None
    return b.mean(x, **total.attrs)


def _spread(node: Node) -> tuple[Value, tuple[int, ...]] | None:
    """x and the axes of a sum or mean over ``(x - mean(x)) ** 2``."""
    centred = made_by(squared(node.inputs[0]), "subtract")
    if centred is None or not floating(node.output):
        return None
    x, middle = centred.inputs
    if not isinstance(x, Value) or not isinstance(middle, Value):
        return None
    found = reduced(view(middle), x, "mean")
    axes = axes_of(node)
    if found is None or found[1] != axes or centred.output.type != x.type:
        return None
    return x, axes


def var_of_centred(b: Builder, node: Node) -> Value | None:
    """mean((x - mean(x)) ** 2)."""
    found = _spread(node)
    if found is None:
        return None
    keep = node.attrs["keepdims"]
    return b.var(found[0], axis=found[1], correction=0, keepdims=keep)


def var_corrected(b: Builder, node: Node) -> Value | None:
    """sum((x - mean(x)) ** 2) / (n - correction)."""
    total = made_by(node.inputs[0], "sum")
    found = _spread(total) if total is not None else None
    if found is None or total is None:
        return None
    size, divisor = extent(*found), constant_or_cast_size(node.inputs[1])
    if isinstance(divisor, float) and divisor.is_integer():
        divisor = int(divisor)
    if not isinstance(divisor, int | Dim):
        return None
    correction = size - divisor
    if isinstance(correction, Dim) or correction < 0:
        return None
    keep = total.attrs["keepdims"]
    return b.var(found[0], axis=found[1], correction=correction, keepdims=keep)


def var_fast(b: Builder, node: Node) -> Value | None:
    """mean(x ** 2) - mean(x) ** 2."""
    power = made_by(node.inputs[0], "mean")
    middle = squared(node.inputs[1])
    plain = made_by(middle, "mean") if middle is not None else None
    if power is None or plain is None or not floating(node.output):
        return None
    x, squares = plain.inputs[0], squared(power.inputs[0])
    if not isinstance(x, Value) or squares is None or axes_of(power) != axes_of(plain):
        return None
    same = correspondence(squares, x) == {i: i for i in range(x.type.rank)}
    if not same or power.output.type != plain.output.type:
        return None
    if power.attrs["keepdims"] != plain.attrs["keepdims"]:
        return None
    keep = plain.attrs["keepdims"]
    return b.var(x, axis=axes_of(plain), correction=0, keepdims=keep)


def not_negative(b: Builder, node: Node) -> Value | None:
    """max(0, var): a variance is never negative."""
    for x, bound in (
        (node.inputs[0], node.inputs[-1]),
        (node.inputs[-1], node.inputs[0]),
    ):
        spread = made_by(x, "var")
        if spread is None or spread.output.type != node.output.type:
            continue
        zero = node.op == "relu" or (
            node.op == "clip" and node.attrs["min"] == 0 and node.attrs["max"] is None
        )
        if zero or (node.op == "maximum" and number(bound) == 0):
            return spread.output
    return None


def defined(b: Builder, node: Node) -> Value | None:
    """where(n - correction > 0, var, nan) with as many elements as every call has."""
    spread = made_by(node.inputs[1], "var")
    test = made_by(view(node.inputs[0]).base, "greater")  # type: ignore[arg-type]  # a condition is a tensor
    if spread is None or test is None or number(test.inputs[1]) != 0:
        return None
    other = number(node.inputs[2])
    x = spread.inputs[0]
    assert isinstance(x, Value)
    expected = extent(x, axes_of(spread)) - spread.attrs["correction"]
    left = constant_or_cast_size(test.inputs[0])
    if other is None or other == other or left is None or left != expected:
        return None
    if spread.attrs["correction"] != 0 or spread.output.type != node.output.type:
        return None
    return spread.output


def std(b: Builder, node: Node) -> Value | None:
    """sqrt(var(x))."""
    spread = made_by(node.inputs[0], "var")
    if spread is None:
        return None
    return b.std(spread.inputs[0], **spread.attrs)


RULES: dict[str, list[Rule]] = {
    "reshape": [keepdims],
    "getitem": [keepdims],
    "mean": [var_of_centred],
    "divide": [mean, var_corrected],
    "subtract": [var_fast],
    "maximum": [not_negative],
    "relu": [not_negative],
    "clip": [not_negative],
    "where": [defined],
    "sqrt": [std],
}
