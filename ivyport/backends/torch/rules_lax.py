"""Rules for the operations of `ivyport.core.ops_lax`."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import one_axis, unless
from ivyport.backends.torch.spell import (
    alike,
    back,
    channels_first,
    dtype_unless,
    flat_padding,
    index_of,
    narrow,
    scalar_of,
    spatial,
    tensor,
)
from ivyport.core.dims import DimLike
from ivyport.core.ops_nn import Pads

RULES, emits = rule_table()

REDUCTIONS = {"max": "amax", "min": "amin", "mul": "prod"}


@emits("exp2", "erfc", "lgamma", "digamma", "signbit")
def torch_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"torch.{e.node.op}", x)


@emits("cbrt")
def cbrt(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt("cbrt", x)


@emits("stop_gradient")
def stop_gradient(e: Exprs, x: ast.expr) -> ast.expr:
    return e.method(x, "detach")


@emits("fmod")
def fmod(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call("torch.fmod", tensor(e, x, 0), y)


@emits("nextafter")
def nextafter(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call("torch.nextafter", tensor(e, x, 0), tensor(e, y, 1))


@emits("trunc_divide")
def trunc_divide(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call("torch.div", tensor(e, x, 0), y, rounding_mode="trunc")


# ---- running reductions


@emits("cumulative_prod")
def cumulative_prod(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.method(x, "cumprod", dim=one_axis(axis, e.out.rank), dtype=narrow(e))


@emits("cumulative_max", "cumulative_min")
def cumulative_extremum(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    function = "cum" + e.node.op.removeprefix("cumulative_")
    found = e.method(x, function, dim=one_axis(axis, e.out.rank))
    return attribute(found, "values")


@emits("cumulative_logsumexp")
def cumulative_logsumexp(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.method(x, "logcumsumexp", dim=one_axis(axis, e.out.rank))


# ---- slices at computed places


@emits("index_reduce")
def index_reduce(
    e: Exprs,
    x: ast.expr,
    values: ast.expr,
    *indices: ast.expr | None,
    mode: str,
    drop: bool,
) -> ast.expr:
    where = tuple(
        ast.Call(ast.Name("slice", ast.Load()), [ast.Constant(None)], [])
        if i is None
        else index_of(e, i, 2 + position)
        for position, i in enumerate(indices)
    )
    if drop:
        return e.rt("put_inside", x, where, values, reduce=REDUCTIONS[mode])
    return e.rt("index_reduce", x, where, values, REDUCTIONS[mode])


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
    x = channels_first(e, x, layout)
    flat = flat_padding(padding)
    x = e.call("F.pad", x, flat) if flat else x
    line = len(kernel) == 1  # torch divides these by nothing else
    y = e.call(
        spatial(e, "avg_pool"),
        x,
        alike(kernel),
        unless(alike(stride), alike(kernel)),
        divisor_override=OMIT if line else 1,
    )
    return back(e, e.binary("*", y, kernel[0]) if line else y, layout)


# ---- randomness


@emits("random_uniform", "random_normal")
def random_floats(e: Exprs, *, shape: tuple[DimLike, ...], dtype: str) -> ast.expr:
    function = "torch.rand" if e.node.op == "random_uniform" else "torch.randn"
    kind = dtype_unless(e, dtype, "float32")
    return e.call(function, *(shape or ((),)), dtype=kind, device=e.device())


@emits("random_bernoulli")
def random_bernoulli(e: Exprs, p: ast.expr, *, shape: tuple[DimLike, ...]) -> ast.expr:
    # Uniform numbers of few bits are often equal, so these are float32 ones.
    uniform = e.call("torch.rand", *(shape or ((),)), device=e.device())
    wide = not scalar_of(e, 0) and e.type(0).dtype in ("float16", "bfloat16")
    return e.binary("<", uniform, e.method(p, "float") if wide else p)
