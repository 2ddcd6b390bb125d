"""Rules for the array operations of `ivyport.core.ops` that move no elements by index.

A rule writes each operand once, so that inlining an operand never computes it twice;
whatever needs one twice is a helper in `_rt`. Python numbers take the dtype of the array
beside them (NEP 50). What an operation means is said where it is defined.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, rule_table
from ivyport.backends.spelling import (
    axes,
    demand_bool,
    demand_float,
    is_hole,
    one_axis,
    range_bounds,
    unless,
    whole,
)
from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.ir import Scalar
from ivyport.core.ops import normalize
from ivyport.core.proofs import at_least

RULES, emits = rule_table()

#: Integers whose sums and products NumPy widens to 64 bits.
WIDENED = ("int8", "int16", "int32", "uint8", "uint16", "uint32")
#: NumPy's names where they are not those of the Array API.
NAMES = {"acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
         "atan": "arctan", "atanh": "arctanh"}  # fmt: skip


def dtype_unless(e: Exprs, dtype: str, default: str) -> Any:
    """A dtype as an argument, left out where it is the callee's default."""
    return OMIT if dtype == default else e.dtype(dtype)


def narrow(e: Exprs) -> Any:
    """The dtype of sums and products of small integers."""
    return e.dtype(e.out.dtype) if e.out.dtype in WIDENED else OMIT


# ---- elementwise


@emits("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh")
@emits("tan", "tanh", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt")
@emits("reciprocal", "square", "isfinite", "isinf", "isnan")
def numpy_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"np.{NAMES.get(e.node.op, e.node.op)}", x)


@emits("rsqrt")
def rsqrt(e: Exprs, x: ast.expr) -> ast.expr:
    return e.binary("/", 1.0, e.call("np.sqrt", x))


@emits("erf", "erfinv", "sigmoid", "softplus", "silu", "log_sigmoid", "mish")
@emits("hard_swish")
def helper(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt(e.node.op, x)


@emits("relu")
def relu(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call("np.maximum", x, 0.0)


@emits("relu6")
def relu6(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call("np.clip", x, 0.0, 6.0)


@emits("hard_sigmoid")
def hard_sigmoid(e: Exprs, x: ast.expr) -> ast.expr:
    shifted = e.call("np.clip", e.binary("+", x, 3.0), 0.0, 6.0)
    return e.binary("/", shifted, 6.0)


@emits("abs")
def absolute(e: Exprs, x: ast.expr, *, slope: float) -> ast.expr:
    return e.call("np.abs", x)


@emits("atan2")
def atan2(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call("np.arctan2", x, y)


@emits("maximum", "minimum")
def extremum(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call(f"np.{e.node.op}", x, y)


@emits("pow")
def power(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    exponent = e.node.inputs[1]
    number = exponent.value if isinstance(exponent, Scalar) else None
    known = isinstance(number, int) and number >= 0
    if dt.is_int(e.out.dtype) and not known:  # NumPy refuses negative powers of these
        return e.rt("integer_power", x, y)
    return e.binary("**", x, y)


@emits("astype")
def astype(e: Exprs, x: ast.expr, *, dtype: str, saturate: bool) -> ast.expr:
    if saturate:
        return e.rt("saturated", x, e.dtype(dtype))
    return e.method(x, "astype", e.dtype(dtype))


@emits("clip")
def clip(e: Exprs, x: ast.expr, *, min: Any, max: Any, edge: str) -> ast.expr:
    if min is not None and max is not None:
        return e.call("np.clip", x, min, max)
    if min is not None:
        return e.call("np.maximum", x, min)
    return x if max is None else e.call("np.minimum", x, max)


# ---- reductions


def over(e: Exprs, axis: tuple[int, ...] | None, keepdims: bool) -> dict[str, Any]:
    """Arguments `axis` and `keepdims`, defaults left out."""
    rank = e.type(0).rank
    every = axis is None or (len(axis) == rank and rank > 0)
    return {
        "axis": OMIT if every else axes(axis or (), rank),
        "keepdims": unless(keepdims, False),
    }


def _one_by_one(e: Exprs, axis: tuple[int, ...] | None) -> bool:
    """Whether NumPy adds floats one after the other: over axes in front of others."""
    rank = e.type(0).rank
    found = sorted(normalize(a, rank) for a in axis or ())
    trailing = found == list(range(rank - len(found), rank))
    return dt.is_float(e.out.dtype) and not trailing


@emits("prod")
def prod(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    return e.method(x, "prod", **over(e, axis, keepdims), dtype=narrow(e))


@emits("sum")
def sum_(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    if _one_by_one(e, axis):
        return e.rt("summed", x, **over(e, axis, keepdims))
    return e.method(x, e.node.op, **over(e, axis, keepdims), dtype=narrow(e))


@emits("max", "min")
def largest(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool, first: bool
) -> ast.expr:
    return e.method(x, e.node.op, **over(e, axis, keepdims))


@emits("any", "all")
def quantifier(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_bool(e)
    return e.method(x, e.node.op, **over(e, axis, keepdims))


@emits("mean")
def mean(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    if _one_by_one(e, axis):
        return e.rt("average", x, **over(e, axis, keepdims))
    return e.method(x, "mean", **over(e, axis, keepdims))


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
    given = {**over(e, axis, keepdims), "ddof": unless(whole(correction), 0)}
    if _one_by_one(e, axis):
        return e.rt("variance" if e.node.op == "var" else "deviation", x, **given)
    return e.method(x, e.node.op, **given)


@emits("logsumexp")
def logsumexp(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    return e.rt("logsumexp", x, **over(e, axis, keepdims))


@emits("argmax", "argmin")
def index_reduction(
    e: Exprs, x: ast.expr, *, axis: int | None, keepdims: bool
) -> ast.expr:
    along = None if axis is None else (axis,)
    return e.method(x, e.node.op, **over(e, along, keepdims))


@emits("vector_norm")
def vector_norm(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool, ord: float
) -> ast.expr:
    demand_float(e)
    given = {**over(e, axis, keepdims), "ord": unless(whole(ord), 2)}
    return e.call("np.linalg.vector_norm", x, **given)


@emits("cumulative_sum")
def cumulative_sum(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.call("np.cumsum", x, axis=one_axis(axis, e.out.rank), dtype=narrow(e))


# ---- shape


@emits("concat")
def concat(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    along = unless(one_axis(axis, e.out.rank), 0)
    return e.call("np.concatenate", list(xs), axis=along)


@emits("stack")
def stack(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    return e.call("np.stack", list(xs), axis=unless(one_axis(axis, e.out.rank), 0))


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
    along = unless(one_axis(axis, e.type(0).rank), 0)
    return e.call("np.split", x, where, axis=along)


@emits("pad")
def pad(
    e: Exprs,
    x: ast.expr,
    *,
    padding: tuple[tuple[DimLike, DimLike], ...],
    mode: str,
    value: float,
) -> ast.expr:
    pairs = tuple(tuple(pair) for pair in padding)
    if not is_hole(value) and not dt.is_float(e.out.dtype):
        value = int(value) if dt.is_int(e.out.dtype) else bool(value)
    if mode == "constant" and _may_crop(padding):
        return e.rt("padded", x, pairs, unless(value, 0))
    kept = unless(value, 0) if mode == "constant" else OMIT
    how = unless(mode, "constant")
    return e.call("np.pad", x, pairs, mode=how, constant_values=kept)


def _may_crop(padding: tuple[tuple[DimLike, DimLike], ...]) -> bool:
    amounts = [n for pair in padding for n in pair if not is_hole(n)]
    return not all(at_least(amount, 0, {}) for amount in amounts)


@emits("tril", "triu")
def triangle(e: Exprs, x: ast.expr, *, k: int) -> ast.expr:
    return e.call(f"np.{e.node.op}", x, unless(k, 0))


# ---- creation


@emits("arange")
def arange(e: Exprs, *, start: Any, stop: Any, step: Any, dtype: str) -> ast.expr:
    numbers = (start, stop, step)
    default = "float64" if any(isinstance(n, float) for n in numbers) else "int64"
    kind = dtype_unless(e, dtype, default)
    return e.call("np.arange", *range_bounds(start, stop, step), dtype=kind)


@emits("linspace")
def linspace(e: Exprs, *, start: float, stop: float, num: int, dtype: str) -> ast.expr:
    kind = dtype_unless(e, dtype, "float64")
    return e.call("np.linspace", start, stop, num, dtype=kind)


@emits("full")
def full(e: Exprs, *, shape: tuple[DimLike, ...], value: Any, dtype: str) -> ast.expr:
    if not shape:
        return e.call("np.array", value, e.dtype(dtype))
    known = not is_hole(value) and str(value) != "-0.0"
    for number, function in ((0, "np.zeros"), (1, "np.ones")):
        if known and value == number:
            return e.call(function, tuple(shape), dtype_unless(e, dtype, "float64"))
    return e.call("np.full", tuple(shape), value, e.dtype(dtype))


@emits("eye")
def eye(e: Exprs, *, rows: DimLike, columns: DimLike, dtype: str) -> ast.expr:
    others = OMIT if rows == columns else columns
    return e.call("np.eye", rows, others, dtype=dtype_unless(e, dtype, "float64"))


# ---- order, and sums of products


@emits("sort")
def sort(
    e: Exprs, x: ast.expr, *, axis: int, descending: bool, stable: bool
) -> ast.expr:
    along = unless(one_axis(axis, e.out.rank), -1)
    return e.rt("sort", x, axis=along, descending=unless(descending, False))


@emits("topk")
def topk(
    e: Exprs, x: ast.expr, *, k: DimLike, axis: int, largest: bool, stable: bool
) -> ast.expr:
    along = unless(normalize(axis, e.type(0).rank), e.type(0).rank - 1)
    function = "stable_topk" if stable else "topk"
    return e.rt(function, x, k, axis=along, largest=unless(largest, True))


@emits("einsum")
def einsum(e: Exprs, *xs: ast.expr, equation: str) -> ast.expr:
    fast = True if len(xs) > 1 else OMIT  # products of matrices, where it has any
    return e.call("np.einsum", equation, *xs, optimize=fast)
