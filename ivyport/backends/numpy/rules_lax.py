"""Rules for the operations of `ivyport.core.ops_lax`."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.numpy.rules_array import narrow
from ivyport.backends.numpy.rules_vision import back, last
from ivyport.backends.pyast import Exprs, rule_table
from ivyport.backends.spelling import one_axis, unless
from ivyport.core.ops_nn import Pads

RULES, emits = rule_table()

RUNNING = {
    "cumulative_max": "np.maximum.accumulate",
    "cumulative_min": "np.minimum.accumulate",
    "cumulative_logsumexp": "np.logaddexp.accumulate",
}


@emits("cbrt", "exp2", "signbit")
def numpy_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"np.{e.node.op}", x)


@emits("erfc", "lgamma", "digamma")
def helper(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt(e.node.op, x)


@emits("stop_gradient")
def stop_gradient(e: Exprs, x: ast.expr) -> ast.expr:
    return x  # there are no gradients


@emits("fmod", "nextafter")
def binary_function(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call(f"np.{e.node.op}", x, y)


@emits("trunc_divide")
def trunc_divide(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.rt("trunc_divide", x, y)


# ---- running reductions


@emits("cumulative_prod")
def cumulative_prod(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.call("np.cumprod", x, axis=one_axis(axis, e.out.rank), dtype=narrow(e))


@emits("cumulative_max", "cumulative_min", "cumulative_logsumexp")
def running(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    along = unless(one_axis(axis, e.out.rank), 0)
    return e.call(RUNNING[e.node.op], x, axis=along)


# ---- slices at computed places


# ---- windows


@emits("sum_pool")
def sum_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    layout: str,
) -> ast.expr:
    none = unless(padding, ((0, 0),) * len(kernel))
    y = e.rt("sum_pool", last(e, x, layout), kernel, stride, none)
    return back(e, y, layout)
