"""Rules for the array operations of `ivyport.core.ops`.

A rule writes each operand once, so that inlining an operand never computes it twice;
whatever needs one twice is a helper in `_rt`. 64-bit types have become 32-bit ones
before emission. What an operation means is said where it is defined.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np

from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import (
    axes,
    colons,
    demand_float,
    has_gradient,
    is_hole,
    one_axis,
    over_trailing_axes,
    range_bounds,
    rows_agree,
    tidy,
    unless,
    whole,
)
from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Slice, Value
from ivyport.core.ops import normalize
from ivyport.core.proofs import at_least

RULES, emits = rule_table()

PROMOTED = ("int8", "int16", "uint8", "uint16")  # jnp.sum and jnp.prod widen these


# ---- elementwise


@emits("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh")
@emits("tan", "tanh", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt")
@emits("reciprocal", "square", "isfinite", "isinf", "isnan")
def numpy_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"jnp.{e.node.op}", x)


@emits("abs")
def absolute(e: Exprs, x: ast.expr, *, slope: float) -> ast.expr:
    if slope == 0.0 and has_gradient(e.node.inputs[0]):
        return e.rt("absolute", x)
    return e.call("jnp.abs", x)


@emits("difference")
def difference(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.rt("difference", x, y)


@emits("sigmoid", "softplus", "silu", "relu", "log_sigmoid", "mish")
@emits("hard_swish", "hard_sigmoid")
def activation(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"jax.nn.{e.node.op}", x)


@emits("relu6")
def relu6(e: Exprs, x: ast.expr) -> ast.expr:
    # Where x is 0 or 6 its slope is 0, as torch's; that of `jax.nn.relu6` is a half. Units
    # that a ReLU before them silenced are 0 exactly.
    return e.call("jax.lax.clamp", 0.0, x, 6.0)


@emits("erf", "rsqrt")
def lax_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"jax.lax.{e.node.op}", x)


@emits("erfinv")
def erfinv(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call("jax.lax.erf_inv", x)


@emits("atan2")
def atan2(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    if any(map(has_gradient, e.node.values())):
        return e.rt("atan2", x, y)
    return e.call("jnp.atan2", x, y)


@emits("pow")
def pow_(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    base, exponent = e.node.inputs
    both = isinstance(base, Value) and isinstance(exponent, Value)
    if both and dt.is_float(e.out.dtype) and has_gradient(base):
        return e.rt("power", x, y)
    return e.binary("**", x, y)


@emits("maximum", "minimum")
def binary_function(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call(f"jnp.{e.node.op}", x, y)


@emits("astype")
def astype(e: Exprs, x: ast.expr, *, dtype: str, saturate: bool) -> ast.expr:
    return e.method(x, "astype", e.dtype(dtype))


@emits("clip")
def clip(e: Exprs, x: ast.expr, *, min: Any, max: Any, edge: str) -> ast.expr:
    if edge != "half" and has_gradient(e.node.inputs[0]):
        if edge == "none" and min is not None and max is not None:
            return e.call("jax.lax.clamp", _like(min), x, _like(max))
        return e.rt("clamp", x, min=unless(min, None), max=unless(max, None))
    if min is not None and max is not None:
        return e.call("jnp.clip", x, min, max)
    return e.call("jnp.clip", x, min=unless(min, None), max=unless(max, None))


def _like(bound: Any) -> Any:
    """A bound as `jax.lax.clamp` takes it: a float."""
    return bound if is_hole(bound) else float(bound)


# ---- reductions


def _reduction(
    e: Exprs, axis: tuple[int, ...] | None, keepdims: bool
) -> dict[str, Any]:
    """Arguments `axis` and `keepdims`, defaults left out."""
    rank = e.type(0).rank
    whole = axis is None or (len(axis) == rank and rank > 0)
    return {
        "axis": OMIT if whole else axes(axis or (), rank),
        "keepdims": unless(keepdims, False),
    }


@emits("sum", "prod")
def accumulation(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    dtype = e.dtype(e.out.dtype) if e.out.dtype in PROMOTED else OMIT
    return e.method(x, e.node.op, **_reduction(e, axis, keepdims), dtype=dtype)


@emits("max", "min")
def extremum(
    e: Exprs,
    x: ast.expr,
    *,
    axis: tuple[int, ...] | None,
    keepdims: bool,
    first: bool,
) -> ast.expr:
    if first and has_gradient(e.node.inputs[0]):
        return e.rt(f"first_{e.node.op}", x, **_reduction(e, axis, keepdims))
    return e.method(x, e.node.op, **_reduction(e, axis, keepdims))


@emits("any", "all")
def reduction(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    return e.method(x, e.node.op, **_reduction(e, axis, keepdims))


@emits("mean")
def mean(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    return e.method(x, "mean", **_reduction(e, axis, keepdims))


@emits("var", "std")
def moment(
    e: Exprs,
    x: ast.expr,
    *,
    axis: tuple[int, ...] | None,
    correction: float,
    keepdims: bool,
) -> ast.expr:
    demand_float(e)
    over = {**_reduction(e, axis, keepdims), "ddof": unless(whole(correction), 0)}
    if e.node.op == "std":
        return e.rt("std", x, **over)
    return e.method(x, "var", **over)


@emits("logsumexp")
def logsumexp(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    return e.call("jax.nn.logsumexp", x, **_reduction(e, axis, keepdims))


@emits("argmax", "argmin")
def index_reduction(
    e: Exprs, x: ast.expr, *, axis: int | None, keepdims: bool
) -> ast.expr:
    along = None if axis is None else (axis,)
    return e.method(x, e.node.op, **_reduction(e, along, keepdims))


@emits("vector_norm")
def vector_norm(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool, ord: float
) -> ast.expr:
    demand_float(e)
    over = {**_reduction(e, axis, keepdims), "ord": unless(whole(ord), 2)}
    if not is_hole(ord) and (ord <= 0 or ord == math.inf):  # no root of a sum
        return e.call("jnp.linalg.vector_norm", x, **over)
    return e.rt("vector_norm", x, **over)


@emits("cumulative_sum")
def cumulative_sum(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.call("jnp.cumsum", x, axis=one_axis(axis, e.out.rank))


# ---- shape


@emits("concat")
def concat(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    return e.call("jnp.concatenate", list(xs), axis=one_axis(axis, e.out.rank))


@emits("stack")
def stack(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    return e.call("jnp.stack", list(xs), axis=one_axis(axis, e.out.rank))


@emits("split")
def split(
    e: Exprs, x: ast.expr, *, sizes: tuple[DimLike, ...], axis: int, even: bool
) -> ast.expr:
    if len(sizes) == 1:
        return x
    where: Any = len(sizes)
    if not even and (len(set(sizes)) > 1 or is_hole(sizes)):
        where = [sizes[0]]
        for size in sizes[1:-1]:
            both = (where[-1], size)
            where.append(e.binary("+", *both) if is_hole(both) else sum(both))
    return e.call("jnp.split", x, where, axis=one_axis(axis, e.type(0).rank))


@emits("pad")
def pad(
    e: Exprs,
    x: ast.expr,
    *,
    padding: tuple[tuple[DimLike, DimLike], ...],
    mode: str,
    value: float,
) -> ast.expr:
    if any(isinstance(n, int) and n < 0 for pair in padding for n in pair):
        if is_hole(padding):
            raise GraphError("pad: a crop that differs between instances")
        x = e.index(
            x,
            [
                _cropped(d, *pair)
                for d, pair in zip(e.type(0).shape, padding, strict=True)
            ],
        )
        padding = tuple((_grown(lo), _grown(hi)) for lo, hi in padding)
        if all(n == 0 for pair in padding for n in pair):
            return x
    if dt.is_int(e.out.dtype) and not is_hole(value):
        value = int(value)
    if mode == "constant" and not is_hole(padding) and _may_crop(padding):
        # jnp.pad refuses what is negative for some sizes; jax.lax.pad crops.
        filler = e.call("jnp.array", value, e.dtype(e.out.dtype))
        return e.call("jax.lax.pad", x, filler, tuple((*pair, 0) for pair in padding))
    return e.call(
        "jnp.pad",
        x,
        tuple(tuple(pair) for pair in padding),
        mode=unless(mode, "constant"),
        constant_values=unless(value, 0) if mode == "constant" else OMIT,
    )


def _may_crop(padding: tuple[tuple[DimLike, DimLike], ...]) -> bool:
    amounts = [n for pair in padding for n in pair if not isinstance(n, int)]
    return not all(at_least(amount, 0, {}) for amount in amounts)


def _cropped(size: DimLike, lo: DimLike, hi: DimLike) -> Slice:
    start = -lo if isinstance(lo, int) and lo < 0 else None
    stop = size + hi if isinstance(hi, int) and hi < 0 else None
    return Slice(start, stop)


def _grown(amount: DimLike) -> DimLike:
    return 0 if isinstance(amount, int) and amount < 0 else amount


@emits("tril", "triu")
def triangle(e: Exprs, x: ast.expr, *, k: int) -> ast.expr:
    return e.call(f"jnp.{e.node.op}", x, k=unless(k, 0))


# ---- indexing


@emits("slice_update")
def slice_update(
    e: Exprs, x: ast.expr, values: ast.expr, *, index: tuple[Any, ...]
) -> ast.expr:
    items = tidy(index, e.type(0).shape) or [ast.Constant(...)]
    return e.method(e.index(attribute(x, "at"), items), "set", values)


@emits("index")
def index(
    e: Exprs, x: ast.expr, *indices: ast.expr | None, fill: float | None
) -> ast.expr:
    return _filled(e, x, colons(indices), fill)


def _filled(e: Exprs, x: ast.expr, items: list[Any], fill: float | None) -> ast.expr:
    """``x[i]``; an index out of bounds gives `fill` (JAX's own choice is not spelled)."""
    if fill is None:
        return e.index(x, items)
    value = OMIT if _is_default(fill, e.out.dtype) else fill
    found = e.index(attribute(x, "at"), items)
    return e.method(found, "get", mode=ast.Constant("fill"), fill_value=value)


def _is_default(fill: float, dtype: str) -> bool:
    if dt.is_float(dtype):
        return math.isnan(fill)
    if dtype == "bool":
        return bool(fill)
    limits = np.iinfo(dtype)
    return fill == (limits.max if limits.min == 0 else limits.min)


@emits("index_update")
def index_update(
    e: Exprs,
    x: ast.expr,
    values: ast.expr,
    *indices: ast.expr | None,
    accumulate: bool,
    drop: bool,
) -> ast.expr:
    first = e.node.inputs[2]
    if isinstance(first, Value) and first.type.dtype == "bool":
        mask = over_trailing_axes(e, indices, first.type)
        if accumulate:
            return e.binary("+", x, e.call("jnp.where", mask, values, 0))
        return e.call("jnp.where", mask, values, x)
    where = e.index(attribute(x, "at"), colons(indices))
    return e.method(where, "add" if accumulate else "set", values)


@emits("take")
def take(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    along = normalize(axis, e.type(0).rank)
    if fill is None:
        return e.index(x, [*(Slice(),) * along, indices])
    value = OMIT if _is_default(fill, e.out.dtype) else fill
    return e.call("jnp.take", x, indices, axis=along, fill_value=value)


@emits("take_along_axis")
def take_along_axis(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    along = one_axis(axis, e.out.rank)
    usual = fill is None or _is_default(fill, e.out.dtype)
    if usual and rows_agree(e.type(0), e.type(1), axis):
        return e.call("jnp.take_along_axis", x, indices, axis=along)
    return _filled(e, x, [e.rt("along_axis", indices, along)], fill)


@emits("scatter")
def scatter(
    e: Exprs, x: ast.expr, index: ast.expr, values: ast.expr, *, axis: int, mode: str
) -> ast.expr:
    source = e.node.inputs[2]
    if isinstance(source, Value):
        sizes = e.type(1).shape
        items = tidy(tuple(Slice(0, n) for n in sizes), source.type.shape)
        values = e.index(values, items) if items else values
    where = e.rt("along_axis", index, one_axis(axis, e.out.rank))
    if mode == "mul" and any(map(has_gradient, e.node.values())):
        return e.rt("multiplied_at", x, where, values)
    return e.method(e.index(attribute(x, "at"), [where]), mode, values)


# ---- creation


@emits("arange")
def arange(e: Exprs, *, start: Any, stop: Any, step: Any, dtype: str) -> ast.expr:
    numbers = (start, stop, step)
    default = "float32" if any(isinstance(n, float) for n in numbers) else "int32"
    return e.call(
        "jnp.arange",
        *range_bounds(start, stop, step),
        dtype=_unless_dtype(e, dtype, default),
    )


@emits("linspace")
def linspace(e: Exprs, *, start: float, stop: float, num: int, dtype: str) -> ast.expr:
    return e.call(
        "jnp.linspace", start, stop, num, dtype=_unless_dtype(e, dtype, "float32")
    )


@emits("full")
def full(e: Exprs, *, shape: tuple[DimLike, ...], value: Any, dtype: str) -> ast.expr:
    known = not is_hole(value) and str(value) != "-0.0"
    if not shape:
        return e.call("jnp.array", value, e.dtype(dtype))
    for number, function in ((0, "jnp.zeros"), (1, "jnp.ones")):
        if known and value == number:
            return e.call(function, tuple(shape), _unless_dtype(e, dtype, "float32"))
    # Without a dtype the constant would be weakly typed, and lose it to its neighbours.
    return e.call("jnp.full", tuple(shape), value, e.dtype(dtype))


@emits("eye")
def eye(e: Exprs, *, rows: DimLike, columns: DimLike, dtype: str) -> ast.expr:
    return e.call(
        "jnp.eye",
        rows,
        OMIT if rows == columns else columns,
        dtype=_unless_dtype(e, dtype, "float32"),
    )


def _unless_dtype(e: Exprs, dtype: str, default: str) -> Any:
    return OMIT if dtype == default else e.dtype(dtype)


# ---- order, and sums of products


@emits("sort")
def sort(
    e: Exprs, x: ast.expr, *, axis: int, descending: bool, stable: bool
) -> ast.expr:
    return e.rt(
        "sort",
        x,
        axis=one_axis(axis, e.out.rank),
        descending=unless(descending, False),
    )


@emits("topk")
def topk(
    e: Exprs, x: ast.expr, *, k: DimLike, axis: int, largest: bool, stable: bool
) -> ast.expr:
    along = unless(normalize(axis, e.out.rank), e.out.rank - 1)
    if largest:
        return e.call("jax.lax.top_k", x, k, axis=along)
    return e.rt("smallest_k", x, k, axis=along)


@emits("bincount")
def bincount(e: Exprs, x: ast.expr, *, length: int) -> ast.expr:
    return e.call("jnp.bincount", x, length=length)


@emits("einsum")
def einsum(e: Exprs, *xs: ast.expr, equation: str) -> ast.expr:
    return e.call("jnp.einsum", equation, *xs)
