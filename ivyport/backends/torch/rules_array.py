"""Rules for the array operations of `ivyport.core.ops` that move no elements by index.

A rule writes each operand once, so that inlining an operand never computes it twice;
whatever needs one twice is a helper in `_rt`. What an operation means is said where it
is defined.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import (
    axes,
    demand_bool,
    demand_float,
    has_gradient,
    is_hole,
    one_axis,
    permuted,
    range_bounds,
    unless,
    whole,
)
from ivyport.backends.torch.spell import (
    cast,
    dtype_unless,
    flat_padding,
    narrow,
    scalar_of,
    tensor,
)
from ivyport.backends.torch.spell import dtype as dtype_of
from ivyport.core import dtype as dt
from ivyport.core.dims import Dim, DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ops import normalize

RULES, emits = rule_table()

FUNCTIONAL = {"log_sigmoid": "logsigmoid", "hard_swish": "hardswish",
              "hard_sigmoid": "hardsigmoid"}  # fmt: skip


# ---- elementwise


@emits("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "sin", "sinh")
@emits("tan", "tanh", "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt")
@emits("reciprocal", "square", "isfinite", "isinf", "isnan", "erf")
@emits("erfinv", "sigmoid")
def torch_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"torch.{e.node.op}", x)


@emits("softplus", "silu", "relu", "relu6", "log_sigmoid", "mish")
@emits("hard_swish", "hard_sigmoid")
def activation(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"F.{FUNCTIONAL.get(e.node.op, e.node.op)}", x)


@emits("abs")
def absolute(e: Exprs, x: ast.expr, *, slope: float) -> ast.expr:
    if slope == 1.0 and has_gradient(e.node.inputs[0]):
        return e.rt("absolute", x)
    return e.call("torch.abs", x)


@emits("maximum", "minimum")
def extremum(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    if any(map(has_gradient, e.node.values())):
        # Equal elements share the gradient; `clamp` gives all of it to x.
        x, y = tensor(e, x, 0), tensor(e, y, 1)
        return e.call(f"torch.{e.node.op}", x, y)
    bound = "min" if e.node.op == "maximum" else "max"
    if scalar_of(e, 1):
        return e.method(x, "clamp", **{bound: y})
    if scalar_of(e, 0):
        return e.method(y, "clamp", **{bound: x})
    return e.call(f"torch.{e.node.op}", x, y)


@emits("atan2")
def atan2(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call("torch.atan2", tensor(e, x, 0), tensor(e, y, 1))


@emits("sign")
def sign(e: Exprs, x: ast.expr, *, nan: bool) -> ast.expr:
    keeps = nan and dt.is_float(e.out.dtype)
    return e.rt("sign", x) if keeps else e.call("torch.sign", x)


@emits("floor_divide")
def floor_divide(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    if not dt.is_float(e.out.dtype):
        return e.binary("//", x, y)
    # The operator has no gradient in torch.
    return e.call("torch.div", tensor(e, x, 0), y, rounding_mode=ast.Constant("floor"))


@emits("astype")
def astype(e: Exprs, x: ast.expr, *, dtype: str, saturate: bool) -> ast.expr:
    if saturate:
        return e.rt("saturated", x, dtype_of(e, dtype))
    return cast(e, x, dtype)


@emits("clip")
def clip(e: Exprs, x: ast.expr, *, min: Any, max: Any, edge: str) -> ast.expr:
    if edge != "full" and has_gradient(e.node.inputs[0]):
        if edge == "none" and min is not None and max is not None:
            return e.call("F.hardtanh", x, min, max)
        return e.rt("clip", x, min=unless(min, None), max=unless(max, None))
    if min is not None and max is not None:
        return e.method(x, "clamp", min, max)
    if min is None and max is None:
        return x
    return e.method(x, "clamp", min=unless(min, None), max=unless(max, None))


# ---- reductions


def _over(e: Exprs, axis: tuple[int, ...] | None, keepdims: bool) -> dict[str, Any]:
    """Arguments `dim` and `keepdim`, defaults left out."""
    rank = e.type(0).rank
    along = tuple(range(rank)) if axis is None else axis
    if not along and rank:
        raise GraphError(f"{e.node.op} over no axes: torch would take all of them")
    whole = len(along) == rank and not keepdims
    return {
        "dim": OMIT if whole else axes(along, rank),
        "keepdim": unless(keepdims, False),
    }


@emits("sum")
def sum_(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    return e.method(x, "sum", **_over(e, axis, keepdims), dtype=narrow(e))


@emits("prod")
def prod(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    over = _over(e, axis, keepdims)
    if not isinstance(over["dim"], tuple):
        return e.method(x, "prod", **over, dtype=narrow(e))
    for along in sorted(over["dim"], reverse=True):  # torch takes one axis at a time
        x = e.method(x, "prod", dim=along, keepdim=over["keepdim"], dtype=narrow(e))
    return x


@emits("max", "min")
def largest(
    e: Exprs,
    x: ast.expr,
    *,
    axis: tuple[int, ...] | None,
    keepdims: bool,
    first: bool,
) -> ast.expr:
    if first and axis is not None and has_gradient(e.node.inputs[0]):
        along = one_axis(axis[0], e.type(0).rank)
        found = e.method(x, e.node.op, dim=along, keepdim=unless(keepdims, False))
        return attribute(found, "values")
    return e.method(x, f"a{e.node.op}", **_over(e, axis, keepdims))


@emits("any", "all")
def quantifier(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_bool(e)
    return e.method(x, e.node.op, **_over(e, axis, keepdims))


@emits("mean")
def mean(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    return e.method(x, "mean", **_over(e, axis, keepdims))


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
    return e.method(
        x,
        e.node.op,
        **_over(e, axis, keepdims),
        correction=unless(whole(correction), 1),
    )


@emits("logsumexp")
def logsumexp(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool
) -> ast.expr:
    demand_float(e)
    over = _over(e, axis, keepdims)
    if over["dim"] is OMIT:
        over["dim"] = tuple(range(e.type(0).rank))
    return e.method(x, "logsumexp", **over)


@emits("argmax", "argmin")
def index_reduction(
    e: Exprs, x: ast.expr, *, axis: int | None, keepdims: bool
) -> ast.expr:
    along = OMIT if axis is None else one_axis(axis, e.type(0).rank)
    if e.type(0).dtype == "bool":  # torch has no kernel for these
        x = e.method(x, "int")
    return e.method(x, e.node.op, dim=along, keepdim=unless(keepdims, False))


@emits("vector_norm")
def vector_norm(
    e: Exprs, x: ast.expr, *, axis: tuple[int, ...] | None, keepdims: bool, ord: float
) -> ast.expr:
    demand_float(e)
    over = _over(e, axis, keepdims)
    return e.call("torch.linalg.vector_norm", x, unless(whole(ord), 2), **over)


@emits("cumulative_sum")
def cumulative_sum(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.method(x, "cumsum", dim=one_axis(axis, e.out.rank), dtype=narrow(e))


# ---- shape


@emits("permute_dims")
def permute_dims(e: Exprs, x: ast.expr, *, axes: tuple[int, ...]) -> ast.expr:
    return permuted(e, x, axes, swap="transpose", permute="permute")


@emits("broadcast_to")
def broadcast_to(e: Exprs, x: ast.expr, *, shape: tuple[DimLike, ...]) -> ast.expr:
    return e.method(x, "expand", *(shape or ((),)))


@emits("concat")
def concat(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    return e.call("torch.cat", list(xs), dim=_along(axis, e.out.rank))


@emits("stack")
def stack(e: Exprs, *xs: ast.expr, axis: int) -> ast.expr:
    return e.call("torch.stack", list(xs), dim=_along(axis, e.out.rank))


def _along(axis: int, rank: int) -> Any:
    """`dim` of what works on the first axis by default."""
    return unless(one_axis(axis, rank), 0)


@emits("split")
def split(
    e: Exprs, x: ast.expr, *, sizes: tuple[DimLike, ...], axis: int, even: bool
) -> ast.expr:
    if len(sizes) == 1:
        return x
    along = one_axis(axis, e.type(0).rank)
    # Of a size that is free, parts may be empty, of which torch's chunk makes one.
    known = all(isinstance(n, int) and n > 0 for n in sizes)
    if even or (len(set(sizes)) == 1 and known and not is_hole(sizes)):
        return e.method(x, "chunk", len(sizes), dim=along)
    return e.method(x, "split", list(sizes), dim=along)


@emits("flip")
def flip(e: Exprs, x: ast.expr, *, axis: tuple[int, ...]) -> ast.expr:
    return e.method(x, "flip", *(one_axis(a, e.out.rank) for a in axis))


@emits("roll")
def roll(
    e: Exprs, x: ast.expr, *, shift: tuple[DimLike, ...], axis: tuple[int, ...]
) -> ast.expr:
    places = shift[0] if len(shift) == 1 else tuple(shift)
    return e.method(x, "roll", places, dims=axes(axis, e.out.rank))


MODES = {"edge": "replicate", "wrap": "circular", "reflect": "reflect"}
# F.pad in these modes: axes that it pads, for each rank.
PADDED = {2: (1,), 3: (1, 2), 4: (2, 3), 5: (3,)}


@emits("pad")
def pad(
    e: Exprs,
    x: ast.expr,
    *,
    padding: tuple[tuple[DimLike, DimLike], ...],
    mode: str,
    value: float,
) -> ast.expr:
    flat = flat_padding(padding)
    if not flat:
        return x
    if mode == "constant":
        if not is_hole(value) and not dt.is_float(e.out.dtype):
            value = int(value) if dt.is_int(e.out.dtype) else bool(value)
        return e.call("F.pad", x, flat, value=unless(value, 0))
    rank = e.out.rank
    wanted = [n for n in PADDED.get(rank, ()) if 2 * n >= len(flat)]
    if not wanted:
        return e.rt("pad_edges", x, tuple(map(tuple, padding)), mode)
    flat += (0,) * (2 * wanted[0] - len(flat))
    return e.call("F.pad", x, flat, mode=MODES[mode])


@emits("tile")
def tile(e: Exprs, x: ast.expr, *, repetitions: tuple[DimLike, ...]) -> ast.expr:
    return e.method(x, "tile", *repetitions)


@emits("repeat")
def repeat(e: Exprs, x: ast.expr, *, repeats: DimLike, axis: int) -> ast.expr:
    along = one_axis(axis, e.out.rank)
    return e.method(x, "repeat_interleave", repeats, dim=along)


@emits("tril", "triu")
def triangle(e: Exprs, x: ast.expr, *, k: int) -> ast.expr:
    return e.method(x, e.node.op, unless(k, 0))


# ---- creation


@emits("arange")
def arange(e: Exprs, *, start: Any, stop: Any, step: Any, dtype: str) -> ast.expr:
    numbers = (start, stop, step)
    default = "float32" if any(isinstance(n, float) for n in numbers) else "int64"
    return e.call(
        "torch.arange",
        *range_bounds(start, stop, step),
        dtype=dtype_unless(e, dtype, default),
        device=e.device(),
    )


@emits("linspace")
def linspace(e: Exprs, *, start: float, stop: float, num: int, dtype: str) -> ast.expr:
    kind = dtype_unless(e, dtype, "float32")
    return e.call("torch.linspace", start, stop, num, dtype=kind, device=e.device())


@emits("full")
def full(e: Exprs, *, shape: tuple[DimLike, ...], value: Any, dtype: str) -> ast.expr:
    known = not is_hole(value) and str(value) != "-0.0"
    for number, function in ((0, "torch.zeros"), (1, "torch.ones")):
        if known and value == number and shape:
            kind = dtype_unless(e, dtype, "float32")
            return e.call(function, *shape, dtype=kind, device=e.device())
    default = {bool: "bool", float: "float32"}.get(type(value), "int64")
    kind = dtype_of(e, dtype) if is_hole(value) else dtype_unless(e, dtype, default)
    if shape or isinstance(value, Dim):
        shape = tuple(shape)
        return e.call("torch.full", shape, value, dtype=kind, device=e.device())
    return e.call("torch.tensor", value, dtype=kind, device=e.device())


@emits("eye")
def eye(e: Exprs, *, rows: DimLike, columns: DimLike, dtype: str) -> ast.expr:
    return e.call(
        "torch.eye",
        rows,
        OMIT if rows == columns else columns,
        dtype=dtype_unless(e, dtype, "float32"),
        device=e.device(),
    )


# ---- order, and sums of products


@emits("sort")
def sort(
    e: Exprs, x: ast.expr, *, axis: int, descending: bool, stable: bool
) -> ast.expr:
    return e.method(
        x,
        "sort",
        dim=unless(one_axis(axis, e.out.rank), -1),
        descending=unless(descending, False),
        stable=unless(stable, False),
    )


@emits("topk")
def topk(
    e: Exprs, x: ast.expr, *, k: DimLike, axis: int, largest: bool, stable: bool
) -> ast.expr:
    along = unless(normalize(axis, e.type(0).rank), e.type(0).rank - 1)
    if stable:
        return e.rt("stable_topk", x, k, dim=along, largest=unless(largest, True))
    return e.method(x, "topk", k, dim=along, largest=unless(largest, True))


@emits("einsum")
def einsum(e: Exprs, *xs: ast.expr, equation: str) -> ast.expr:
    return e.call("torch.einsum", equation, *xs)
