"""softmax, log_softmax and logsumexp out of exponentials that are shifted by their maximum.

All three are the same for any shift, gradients too, so that it does not matter how the source
guards it (``stop_gradient``, ``max(-inf, ..)``, ``where(isfinite(m), m, 0)``).
"""

from __future__ import annotations

import math
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.ir import Node, Value
from ivyport.core.passes.match import (
    STOPS,
    View,
    alike,
    axes_of,
    floating,
    made_by,
    number,
    pairs,
    reduced,
    view,
)
from ivyport.core.passes.rewrite import Rule


def _peak(shift: Any, x: Value) -> tuple[int, ...] | None:
    """The axes of which `shift` is the maximum of x, guarded or not."""
    if not isinstance(shift, Value):
        return None
    seen: View | None = view(shift, through=STOPS)
    while seen is not None:
        found = reduced(seen, x, "max")
        if found is not None:
            return found[1]
        seen = _unguarded(seen)
    return None


def _unguarded(seen: View) -> View | None:
    """The view past one guard of a maximum."""
    node = made_by(seen.base, "maximum", "where")
    if node is None:
        return None
    if node.op == "maximum":
        for guard, inner in pairs(node):
            if number(guard) == -math.inf:
                return seen.then(inner, STOPS)
        return None
    test, inner, other = node.inputs
    finite = made_by(test, "isfinite")
    if finite is None or number(other) != 0 or not alike(finite.inputs[0], inner):
        return None
    return seen.then(inner, STOPS)


def _exponential(value: Any) -> tuple[Value, tuple[int, ...] | None] | None:
    """x and the axes of the maximum that shifts it, of ``exp(x - max(x))`` or ``exp(x)``."""
    exp = made_by(value, "exp")
    if exp is None or not floating(exp.output):
        return None
    shifted = exp.inputs[0]
    difference = made_by(shifted, "subtract")
    if difference is not None and isinstance(difference.inputs[0], Value):
        x = difference.inputs[0]
        axes = _peak(difference.inputs[1], x)
        if axes is not None and x.type == difference.output.type:
            return x, axes
    return (shifted, None) if isinstance(shifted, Value) else None


def softmax(b: Builder, node: Node) -> Value | None:
    """exp(x - m) / sum(exp(x - m))."""
    top, below = node.inputs
    found = _exponential(top)
    if found is None or not isinstance(below, Value) or not isinstance(top, Value):
        return None
    x, axes = found
    total = reduced(view(below), top, "sum")
    if total is None or len(total[1]) != 1 or x.type != node.output.type:
        return None
    if axes is not None and axes != total[1]:
        return None
    return b.softmax(x, axis=total[1][0])


def log_softmax(b: Builder, node: Node) -> Value | None:
    """(x - m) - log(sum(exp(x - m)))."""
    shifted, normal = node.inputs
    if not isinstance(shifted, Value) or not isinstance(normal, Value):
        return None
    seen = view(normal)
    log = made_by(seen.base, "log")
    inner = seen.then(log.inputs[0]) if log is not None else None
    total = made_by(inner.base, "sum") if inner is not None else None
    exp = made_by(total.inputs[0], "exp") if total is not None else None
    if exp is None or not alike(exp.inputs[0], shifted):
        return None
    found = _exponential(exp.output)
    axis = reduced(inner, exp.output, "sum")
    if found is None or axis is None or len(axis[1]) != 1:
        return None
    x, axes = found
    if axes is not None and axes != axis[1]:
        return None
    return b.log_softmax(x, axis=axis[1][0]) if x.type == node.output.type else None


def softmax_of_log(b: Builder, node: Node) -> Value | None:
    """exp(log_softmax(x)) is softmax(x)."""
    log = made_by(node.inputs[0], "log_softmax")
    return b.softmax(log.inputs[0], **log.attrs) if log is not None else None


def log_of_softmax(b: Builder, node: Node) -> Value | None:
    """x - logsumexp(x) is log_softmax(x)."""
    x, normal = node.inputs
    if not isinstance(x, Value) or not isinstance(normal, Value):
        return None
    found = reduced(view(normal), x, "logsumexp")
    if found is None or len(found[1]) != 1 or x.type != node.output.type:
        return None
    return b.log_softmax(x, axis=found[1][0])


def logsumexp(b: Builder, node: Node) -> Value | None:
    """log(sum(exp(x - m))) + m."""
    for log, shift in pairs(node):
        made = made_by(log, "log")
        if made is None or not isinstance(shift, Value):
            continue
        size = made_by(made.inputs[0], "abs")  # of a sum that is positive
        total = made_by(size.inputs[0] if size is not None else made.inputs[0], "sum")
        found = _exponential(total.inputs[0]) if total is not None else None
        if found is None or found[1] is None or total is None:
            continue
        x, axes = found
        if axes != axes_of(total) or node.output.type != total.output.type:
            continue
        if not _is_shift(shift, total, x):
            continue
        return b.logsumexp(x, axis=axes, keepdims=total.attrs["keepdims"])
    return None


def _is_shift(shift: Value, total: Node, x: Value) -> bool:
    """Whether `shift`, of the shape of the sum, is the maximum that the exponent subtracts."""
    exp = made_by(total.inputs[0], "exp")
    difference = made_by(exp.inputs[0], "subtract") if exp is not None else None
    subtracted = difference.inputs[1] if difference is not None else None
    if not isinstance(subtracted, Value) or shift.type.shape != total.output.type.shape:
        return False
    if shift.type == subtracted.type and alike(shift, subtracted):
        return True
    one, other = view(shift, through=STOPS), view(subtracted, through=STOPS)
    if not alike(one.base, other.base):
        return False
    if total.attrs["keepdims"]:
        return one.axes == other.axes
    axes = axes_of(total)
    missing = x.type.rank - subtracted.type.rank
    if missing and any(a >= missing for a in axes):
        return False
    kept = [a - missing for a in range(missing, x.type.rank) if a not in axes]
    return one.axes == tuple(other.axes[a] for a in kept)


RULES: dict[str, list[Rule]] = {
    "divide": [softmax],
    "subtract": [log_softmax, log_of_softmax],
    "exp": [softmax_of_log],
    "add": [logsumexp],
}
