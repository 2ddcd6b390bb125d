"""Rules for layers of `ivyport.core.ops_nn`: products, normalisation, activations, attention.

Where a whole module is one of these, the module emitter uses the `nn` layer instead.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends import operators
from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import (
    has_gradient,
    one_axis,
    other_axes,
    present,
    softmax_axis,
    unless,
)
from ivyport.backends.torch.spell import (
    as_dtype_of_input,
    back,
    channels_first,
    dtype_unless,
    index_of,
    trivial,
)
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Value
from ivyport.core.ops import normalize
from ivyport.core.ranges import is_small

RULES, emits = rule_table()


# ---- dropout


@emits("dropout")
def dropout(
    e: Exprs, x: ast.expr, *, rate: float, broadcast: tuple[int, ...], always: bool
) -> ast.expr:
    if not always or e.dropout_module is None:
        return operators.dropout(e, x, rate=rate, broadcast=broadcast, always=always)
    p = attribute(e.dropout_module, "p")
    if broadcast:
        return e.rt("dropped", x, p, broadcast)
    return e.call("F.dropout", x, p)


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
    if weight_layout == "oi":
        return e.call("F.linear", x, weight, present(bias))
    y = e.binary("@", x, weight)
    return y if bias is None else e.binary("+", y, bias)


@emits("embedding")
def embedding(
    e: Exprs, indices: ast.expr, weight: ast.expr, *, padding: int | None
) -> ast.expr:
    kept = OMIT if padding is None else padding
    return e.call("F.embedding", index_of(e, indices, 0), weight, padding_idx=kept)


@emits("one_hot")
def one_hot(
    e: Exprs, indices: ast.expr, *, num_classes: DimLike, dtype: str
) -> ast.expr:
    # F.one_hot refuses an index out of range, which is a row of zeros here.
    kind = dtype_unless(e, dtype, "float32")
    return e.rt("one_hot", indices, num_classes, dtype=kind)


# ---- normalisation


def _affine(e: Exprs, *operands: ast.expr | None) -> list[Any]:
    """Scale and bias, the operands from position 1, in the dtype of the first operand."""
    return [
        OMIT if x is None else as_dtype_of_input(e, x, 1 + i)
        for i, x in enumerate(operands)
    ]


def _trailing(e: Exprs, axis: tuple[int, ...]) -> int:
    """The number of axes, which must be the last ones."""
    rank = e.type(0).rank
    found = sorted(normalize(a, rank) for a in axis)
    if found != list(range(rank - len(axis), rank)):
        raise GraphError(f"{e.node.op} over axes {axis} of {e.type(0)}: not the last")
    return len(axis)


def _normalized_shape(e: Exprs, x: ast.expr, scale: ast.expr | None, n: int) -> Any:
    """The shape that a norm takes, read off a tensor that is at hand; None if none is.

    It is never a literal: instances of one class may differ in it.
    """
    weight = e.node.inputs[1]
    if isinstance(weight, Value):
        if weight.type.shape != e.type(0).shape[e.type(0).rank - n :]:
            raise GraphError(f"{e.node.op} of {e.type(0)} scaled by {weight.type}")
        assert scale is not None
        return attribute(scale, "shape") if trivial(scale) else None
    return e.index(attribute(x, "shape"), [_last(n)]) if trivial(x) else None


def _last(count: int) -> ast.expr:
    return ast.Slice(ast.UnaryOp(ast.USub(), ast.Constant(count)), None, None)


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
    count = _trailing(e, axis)
    shape = _normalized_shape(e, x, scale, count)
    weight, offset = _affine(e, scale, bias)
    if shape is None:
        affine = {"weight": weight, "bias": offset}
        return e.rt("layer_norm", x, unless(count, 1), **affine, eps=eps)
    if weight is OMIT:
        return e.call("F.layer_norm", x, shape, bias=offset, eps=eps)
    return e.call("F.layer_norm", x, shape, weight, offset, eps=eps)


@emits("rms_norm")
def rms_norm(
    e: Exprs, x: ast.expr, scale: ast.expr | None, *, axis: tuple[int, ...], eps: float
) -> ast.expr:
    count = _trailing(e, axis)
    shape = _normalized_shape(e, x, scale, count)
    (weight,) = _affine(e, scale)
    if shape is None:
        return e.rt("rms_norm", x, unless(count, 1), weight=weight, eps=eps)
    return e.call("F.rms_norm", x, shape, weight, eps=eps)


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
    weight, offset = _affine(e, scale, bias)
    x = channels_first(e, x, layout)
    y = e.call("F.group_norm", x, groups, weight=weight, bias=offset, eps=eps)
    return back(e, y, layout)


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
    rank = e.out.rank
    channels = normalize(axis, rank)
    x = x if channels == 1 else e.method(x, "movedim", one_axis(axis, rank), 1)
    tensors = {"weight": present(scale), "bias": present(bias)}
    if mean is None:
        y = e.call("F.batch_norm", x, None, None, **tensors, training=True, eps=eps)
    elif momentum is None or e.training is None:
        y = e.call("F.batch_norm", x, mean, var, **tensors, eps=eps)
    elif debias:
        raise GraphError("batch_norm with debiased averages needs its own layer")
    else:
        mode = {"training": e.training, "momentum": momentum, "eps": eps}
        function = "F.batch_norm" if unbiased else "batch_norm"
        emit = e.call if unbiased else e.rt
        y = emit(function, x, mean, var, **tensors, **mode)
    return y if channels == 1 else e.method(y, "movedim", 1, one_axis(axis, rank))


@emits("weight_norm")
def weight_norm(e: Exprs, v: ast.expr, g: ast.expr, *, axis: int) -> ast.expr:
    others = other_axes(axis, e.type(0).rank)
    return e.rt("weight_norm", v, g, dim=others)


# ---- activations


@emits("softmax", "log_softmax")
def softmax(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.call(f"F.{e.node.op}", x, dim=softmax_axis(axis, e.out.rank))


@emits("gelu")
def gelu(e: Exprs, x: ast.expr, *, approximate: bool) -> ast.expr:
    return e.call("F.gelu", x, approximate="tanh" if approximate else OMIT)


@emits("leaky_relu")
def leaky_relu(
    e: Exprs, x: ast.expr, *, negative_slope: float, closed: bool
) -> ast.expr:
    if closed and has_gradient(e.node.inputs[0]):
        return e.rt("leaky_relu", x, negative_slope)
    return e.call("F.leaky_relu", x, unless(negative_slope, 0.01))


@emits("elu")
def elu(e: Exprs, x: ast.expr, *, alpha: float) -> ast.expr:
    return e.call("F.elu", x, unless(alpha, 1.0))


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
        operands = [e.method(x, "transpose", 1, 2) for x in operands]
    if mask is not None and e.type(3).dtype != "bool":
        mask = as_dtype_of_input(e, mask, 3)
    options = {
        "dropout_p": _dropout_p(e),
        "scale": unless(scale, None),
        "enable_gqa": unless(_grouped(e, layout), False),
    }
    if mask is not None and empty in ("mean", "nan"):
        _demand_no_causal(is_causal)
        value_of_none = e.name("torch.nan") if empty == "nan" else OMIT
        y = e.rt("masked_attention", *operands, mask, empty=value_of_none, **options)
    elif mask is not None and empty == "softmax" and not is_small(e.node.inputs[3]):
        _demand_no_causal(is_causal)
        y = e.rt("softmax_attention", *operands, mask, **options)
    elif mask is not None and is_causal:  # torch takes the one or the other
        y = e.rt("causal_attention", *operands, mask, **options)
    else:
        y = e.call(
            "F.scaled_dot_product_attention",
            *operands,
            attn_mask=present(mask),
            is_causal=unless(is_causal, False),
            **options,
        )
    return e.method(y, "transpose", 1, 2) if layout == "bshd" else y


def _demand_no_causal(is_causal: bool) -> None:
    if is_causal:
        raise GraphError("attention under a causal mask and one that may hide all keys")


def _grouped(e: Exprs, layout: str) -> bool:
    """Whether heads of the query share heads of the key."""
    if e.type(0).rank < 4:
        return False
    axis = -3 if layout == "bhsd" else -2
    return e.type(0).shape[axis] != e.type(1).shape[axis]


def _dropout_p(e: Exprs) -> Any:
    """``self.dropout.p if self.training else 0.0``."""
    layer = e.dropout_module
    if layer is None:
        return OMIT
    trains = attribute(layer, "training") if e.training is None else e.training
    return ast.IfExp(trains, attribute(layer, "p"), ast.Constant(0.0))
