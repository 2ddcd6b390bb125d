"""Rules for layers of `ivyport.core.ops_nn`: products, normalisation, activations, attention.

Where a whole module is one of these, the module emitter uses a class of the file instead.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import (
    one_axis,
    present,
    softmax_axis,
    unless,
)
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import TensorType
from ivyport.core.ops import normalize
from ivyport.core.ops_nn import channel_axis

RULES, emits = rule_table()


# ---- products


@emits("linear")
def linear(
    e: Exprs,
    x: ast.expr,
    weight: ast.expr,
    bias: ast.expr | None,
    *,
    weight_layout: str,
) -> ast.expr:
    y = e.binary("@", x, attribute(weight, "T") if weight_layout == "oi" else weight)
    return y if bias is None else e.binary("+", y, bias)


@emits("embedding")
def embedding(
    e: Exprs, indices: ast.expr, weight: ast.expr, *, padding: int | None
) -> ast.expr:
    return e.rt("embedding", weight, indices)


@emits("one_hot")
def one_hot(
    e: Exprs, indices: ast.expr, *, num_classes: DimLike, dtype: str
) -> ast.expr:
    kind = OMIT if dtype == "float32" else e.dtype(dtype)
    return e.rt("one_hot", indices, num_classes, dtype=kind)


# ---- normalisation


def _trailing(axis: tuple[int, ...], rank: int) -> int:
    """The number of axes, which must be the last ones."""
    if sorted(normalize(a, rank) for a in axis) != list(range(rank - len(axis), rank)):
        raise GraphError(f"a norm over axes {axis} of {rank}: not the last")
    return len(axis)


@emits("layer_norm")
def layer_norm(
    e: Exprs,
    x: ast.expr,
    scale: ast.expr | None,
    bias: ast.expr | None,
    *,
    axis: tuple[int, ...],
    eps: float,
) -> ast.expr:
    count = unless(_trailing(axis, e.out.rank), 1)
    given = {"weight": present(scale), "bias": present(bias)}
    return e.rt("layer_norm", x, **given, axes=count, eps=eps)


@emits("rms_norm")
def rms_norm(
    e: Exprs, x: ast.expr, scale: ast.expr | None, *, axis: tuple[int, ...], eps: float
) -> ast.expr:
    count = unless(_trailing(axis, e.out.rank), 1)
    return e.rt("rms_norm", x, present(scale), axes=count, eps=eps)


@emits("group_norm")
def group_norm(
    e: Exprs,
    x: ast.expr,
    scale: ast.expr | None,
    bias: ast.expr | None,
    *,
    groups: int,
    eps: float,
    layout: str,
) -> ast.expr:
    first = channel_axis(layout, e.out.rank) != e.out.rank - 1
    x = e.call("np.moveaxis", x, 1, -1) if first else x
    given = {"weight": present(scale), "bias": present(bias)}
    y = e.rt("group_norm", x, groups, **given, eps=eps)
    return e.call("np.moveaxis", y, -1, 1) if first else y


@emits("batch_norm")
def batch_norm(
    e: Exprs,
    x: ast.expr,
    scale: ast.expr | None,
    bias: ast.expr | None,
    mean: ast.expr | None,
    var: ast.expr | None,
    *,
    axis: int,
    eps: float,
    momentum: float | None,
    unbiased: bool,
    debias: bool,
) -> ast.expr:
    where = one_axis(axis, e.out.rank)
    first = where != -1 and e.out.rank > 1
    x = e.call("np.moveaxis", x, where, -1) if first else x
    given = {"weight": present(scale), "bias": present(bias)}
    y = e.rt("batch_norm", x, present(mean), present(var), **given, eps=eps)
    return e.call("np.moveaxis", y, -1, where) if first else y


# ---- activations


@emits("softmax", "log_softmax")
def softmax(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    along = unless(softmax_axis(axis, e.out.rank), -1)
    return e.rt(e.node.op, x, axis=along)


@emits("gelu")
def gelu(e: Exprs, x: ast.expr, *, approximate: bool) -> ast.expr:
    return e.rt("tanh_gelu" if approximate else "gelu", x)


@emits("leaky_relu")
def leaky_relu(
    e: Exprs, x: ast.expr, *, negative_slope: float, closed: bool
) -> ast.expr:
    return e.rt("leaky_relu", x, negative_slope)


@emits("elu")
def elu(e: Exprs, x: ast.expr, *, alpha: float) -> ast.expr:
    return e.rt("elu", x, unless(alpha, 1.0))


# ---- attention


@emits("attention")
def attention(
    e: Exprs,
    query: ast.expr,
    key: ast.expr,
    value: ast.expr,
    mask: ast.expr | None,
    *,
    scale: float | None,
    is_causal: bool,
    dropout: float,
    layout: str,
    empty: str,
) -> ast.expr:
    operands = [query, key, value]
    if layout == "bshd":
        operands = [e.method(x, "swapaxes", -2, -3) for x in operands]
    y = e.rt(
        "grouped_attention" if _grouped(e, layout) else "attention",
        *operands,
        present(mask),
        scale=unless(scale, None),
        is_causal=unless(is_causal, False),
        empty=OMIT if mask is None else _unless_usual(e.type(3), empty),
    )
    return e.method(y, "swapaxes", -2, -3) if layout == "bshd" else y


def _unless_usual(mask: TensorType, empty: str) -> Any:
    """What a query gives that may see nothing, left out where it is zero."""
    if mask.dtype == "bool" and empty == "softmax":
        return "mean"
    return unless(empty, "zero")


def _grouped(e: Exprs, layout: str) -> bool:
    """Whether heads of the query share heads of the key."""
    axis = -3 if layout == "bhsd" else -2
    return e.type(0).rank > 2 and e.type(0).shape[axis] != e.type(1).shape[axis]
