"""Rules for the neural-network operations of `ivyport.core.ops_nn`, as functions.

Where a whole module is one of these, the module emitter uses the library's layer instead.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends import operators
from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import (
    has_gradient,
    is_hole,
    last_windows,
    one_axis,
    present,
    softmax_axis,
    unless,
)
from ivyport.core import dims
from ivyport.core.dims import DimLike
from ivyport.core.ir import NewAxis, Slice, TensorType
from ivyport.core.ops_nn import Pads
from ivyport.core.ranges import is_finite

RULES, emits = rule_table()

IMAGES = {3: "NCW", 4: "NCHW", 5: "NCDHW"}


def image_layout(layout: str, rank: int) -> str:
    """JAX's name of an axis order: ``NHWC``."""
    name = IMAGES[rank]
    return name if layout == "channels_first" else "N" + name[2:] + "C"


def add_bias(
    e: Exprs, y: ast.expr, bias: ast.expr | None, layout: str = "channels_last"
) -> ast.expr:
    """``y + bias`` over the channels."""
    if bias is None:
        return y
    if layout == "channels_first":
        bias = e.index(bias, [Slice(), *(NewAxis(),) * (e.out.rank - 2)])
    return e.binary("+", y, bias)


# ---- dropout


@emits("dropout")
def dropout(
    e: Exprs, x: ast.expr, *, rate: float, broadcast: tuple[int, ...], always: bool
) -> ast.expr:
    if always and e.dropout_module is not None:
        return e.call(e.dropout_module, x, deterministic=False)
    return operators.dropout(e, x, rate=rate, broadcast=broadcast, always=always)


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
    matrix = attribute(weight, "T") if weight_layout == "oi" else weight
    return add_bias(e, e.binary("@", x, matrix), bias)


@emits("embedding")
def embedding(
    e: Exprs, indices: ast.expr, weight: ast.expr, *, padding: int | None
) -> ast.expr:
    if padding is not None:
        return e.rt("padded_embedding", weight, indices, padding)
    return e.index(weight, [indices])


@emits("one_hot")
def one_hot(
    e: Exprs, indices: ast.expr, *, num_classes: DimLike, dtype: str
) -> ast.expr:
    kind = OMIT if dtype == "float32" else e.dtype(dtype)
    return e.call("jax.nn.one_hot", indices, num_classes, dtype=kind)


@emits("grouped_matmul")
def grouped_matmul(e: Exprs, x: ast.expr, weight: ast.expr, ends: ast.expr) -> ast.expr:
    sizes = e.call("jnp.diff", ends, prepend=0)
    return e.call("jax.lax.ragged_dot", x, weight, sizes)


@emits("conv")
def conv(
    e: Exprs,
    x: ast.expr,
    weight: ast.expr,
    bias: ast.expr | None,
    *,
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
    layout: str,
) -> ast.expr:
    rank = e.out.rank
    image = image_layout(layout, rank)
    options = {
        "rhs_dilation": unless(dilation, (1,) * (rank - 2)),
        "dimension_numbers": (image, "OI" + IMAGES[rank][2:], image),
    }
    wide = e.type(1).shape[1]  # input channels of a group
    if 1 < groups <= 32 and isinstance(wide, int) and wide >= 16:
        y = e.rt("grouped_conv", x, weight, stride, padding, **options, groups=groups)
    else:
        options["feature_group_count"] = unless(groups, 1)
        y = e.call(
            "jax.lax.conv_general_dilated", x, weight, stride, padding, **options
        )
    return add_bias(e, y, bias, layout)


@emits("conv_transpose")
def conv_transpose(
    e: Exprs,
    x: ast.expr,
    weight: ast.expr,
    bias: ast.expr | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    layout: str,
) -> ast.expr:
    y = e.rt(
        "conv_transpose",
        x,
        weight,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=unless(groups, 1),
        layout=image_layout(layout, e.out.rank),
    )
    return add_bias(e, y, bias, layout)


@emits("unfold")
def unfold(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> ast.expr:
    patches = e.call(
        "jax.lax.conv_general_dilated_patches",
        x,
        kernel,
        stride,
        tuple((p, p) for p in padding),
        rhs_dilation=unless(dilation, (1,) * len(kernel)),
    )
    batch = e.out.shape[0]
    return e.method(patches, "reshape", batch, _patch_size(e, kernel), -1)


def _patch_size(e: Exprs, kernel: tuple[int, ...]) -> Any:
    if not is_hole(kernel):
        return e.out.shape[1]
    size: Any = e.type(0).shape[1]
    for length in kernel:
        size = e.binary("*", size, length)
    return size


# ---- normalisation


def _affine(scale: ast.expr | None, bias: ast.expr | None) -> dict[str, Any]:
    return {"scale": present(scale), "bias": present(bias)}


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
    where = unless(trailing(axis, e.out.rank), -1)
    return e.rt("layer_norm", x, **_affine(scale, bias), axis=where, eps=eps)


@emits("rms_norm")
def rms_norm(
    e: Exprs, x: ast.expr, scale: ast.expr | None, *, axis: tuple[int, ...], eps: float
) -> ast.expr:
    where = unless(trailing(axis, e.out.rank), -1)
    return e.rt("rms_norm", x, present(scale), axis=where, eps=eps)


def trailing(axis: tuple[int, ...], rank: int) -> Any:
    """Trailing axes counted from the end: -1, or (-2, -1)."""
    negative = tuple(sorted(a if a < 0 else a - rank for a in axis))
    return negative[0] if len(negative) == 1 else negative


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
    axis = OMIT if layout == "channels_first" else -1
    return e.rt(
        "group_norm", x, **_affine(scale, bias), groups=groups, axis=axis, eps=eps
    )


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
    return e.rt(
        "batch_norm",
        x,
        present(mean),
        present(var),
        **_affine(scale, bias),
        axis=one_axis(axis, e.out.rank),
        eps=eps,
    )


# ---- activations


@emits("softmax", "log_softmax")
def softmax(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    return e.call(f"jax.nn.{e.node.op}", x, axis=softmax_axis(axis, e.out.rank))


@emits("gelu")
def gelu(e: Exprs, x: ast.expr, *, approximate: bool) -> ast.expr:
    if approximate:
        return e.call("jax.nn.gelu", x, approximate=True)
    return e.rt("gelu", x)


@emits("leaky_relu")
def leaky_relu(
    e: Exprs, x: ast.expr, *, negative_slope: float, closed: bool
) -> ast.expr:
    if not closed and has_gradient(e.node.inputs[0]):
        return e.rt("leaky_relu", x, negative_slope)
    return e.call("jax.nn.leaky_relu", x, negative_slope)


@emits("elu")
def elu(e: Exprs, x: ast.expr, *, alpha: float) -> ast.expr:
    return e.call("jax.nn.elu", x, unless(alpha, 1.0))


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
    heads_first = layout == "bhsd"
    operands = [
        _four_axes(e, x, e.type(i), heads_first)
        for i, x in enumerate((query, key, value))
    ]
    half = e.out.dtype == "float16"
    if half:  # XLA's products of float16 on a CPU have no float32 results
        operands = [e.method(x, "astype", e.dtype("float32")) for x in operands]
    options = {
        **_mask_or_bias(e, mask),
        "scale": unless(scale, None),
        "is_causal": unless(is_causal, False),
    }
    given = {k for k, v in options.items() if v is not OMIT}
    uneven = e.type(1).shape[-1] != e.type(2).shape[-1]
    empty = _empty(e, given, empty)
    options["empty"] = unless(empty, "zero") if given & {"mask", "bias"} else OMIT
    drop = present(e.dropout_module)
    # Without a word on rows that see nothing, JAX gives their mean, or what softmax makes.
    usual = {"mask": "mean", "bias": "softmax"}
    plain = all(usual.get(k, empty) == empty for k in given)
    if _long(e, layout):
        y = e.rt("long_attention", *operands, drop, **options)
    elif given <= {"mask"} and empty == "zero" and _same_heads(e, layout):
        # XLA computes products of matrices with the heads in front faster than what
        # `jax.nn.dot_product_attention` makes, on a CPU by a third for 1,500 tokens.
        del options["empty"]
        y = e.rt("attention", *operands, **options, dropout=drop)
    elif e.dropout_module is None and plain and not uneven:
        del options["empty"]
        y = e.call("jax.nn.dot_product_attention", *operands, **options)
    else:
        y = e.rt("weighted_sum", *operands, drop, **options)
    if half:
        y = e.method(y, "astype", e.dtype("float16"))
    if heads_first:
        y = e.method(y, "swapaxes", 1, 2)
    return y if e.out.rank == 4 else e.method(y, "reshape", *e.out.shape)


def _empty(e: Exprs, given: set[str], empty: str) -> str:
    """What a query gives that sees nothing, as simply as it can be said.

    A float mask that holds no minus infinity leaves no query without a key.
    """
    if "bias" in given and is_finite(e.node.inputs[3]):
        return "softmax"
    return "softmax" if empty == "nan" and "mask" not in given else empty


# From 512 tokens on, a head's scores fill a core's cache, and all heads' do not fit any.
_LONG = 512 * 512


def _long(e: Exprs, layout: str) -> bool:
    """Whether several heads have many scores each; unknown lengths are not long."""
    length, heads = (-2, -3) if layout == "bhsd" else (-3, -2)
    scores = dims.product(e.type(i).shape[length] for i in (0, 1))
    count = e.type(0).shape[heads] if e.type(0).rank > 2 else 1
    return isinstance(scores, int) and scores >= _LONG and count != 1


def _same_heads(e: Exprs, layout: str) -> bool:
    axis = -3 if layout == "bhsd" else -2
    sizes = [e.type(i).shape[axis] if e.type(i).rank > 2 else 1 for i in (0, 1)]
    return sizes[0] == sizes[1]


def _four_axes(e: Exprs, x: ast.expr, type: TensorType, heads_first: bool) -> ast.expr:
    """An operand as (batch, length, heads, size); leading axes are one batch."""
    if type.rank < 4:
        x = e.index(x, [NewAxis()] * (4 - type.rank))
    elif type.rank > 4:
        x = e.method(x, "reshape", -1, *type.shape[-3:])
    return e.method(x, "swapaxes", 1, 2) if heads_first else x


def _mask_or_bias(e: Exprs, mask: ast.expr | None) -> dict[str, Any]:
    """The mask under its keyword, with four axes: (batch, heads, query, key)."""
    if mask is None:
        return {}
    type, batch = e.type(3), e.out.shape[:-3]
    if type.rank < 4:
        mask = e.index(mask, [NewAxis()] * (4 - type.rank))
    elif len(batch) > 1:
        inner = type.shape[-3:]
        mask = e.call("jnp.broadcast_to", mask, (*batch, *inner))
        mask = e.method(mask, "reshape", -1, *inner)
    return {"mask" if type.dtype == "bool" else "bias": mask}


# ---- pooling and resizing


def _first(e: Exprs, x: ast.expr, layout: str) -> ast.expr:
    """x with its channels first, for helpers that work on the trailing axes."""
    return e.call("jnp.moveaxis", x, -1, 1) if layout == "channels_last" else x


def _back(e: Exprs, y: ast.expr, layout: str) -> ast.expr:
    return e.call("jnp.moveaxis", y, 1, -1) if layout == "channels_last" else y


@emits("max_pool")
def max_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    ceil_mode: bool,
    layout: str,
) -> ast.expr:
    if ceil_mode:
        extra = last_windows(e, kernel, stride, padding, dilation, layout)
        padding = tuple(
            (lo, hi + more) for (lo, hi), more in zip(padding, extra, strict=True)
        )
    spread = unless(dilation, (1,) * len(kernel))
    if spread is OMIT and layout == "channels_last" and e.layers:
        none = unless(padding, ((0, 0),) * len(kernel))
        return e.call(f"{e.layers}.max_pool", x, kernel, strides=stride, padding=none)
    x = _first(e, x, layout)
    if spread is OMIT:
        return _back(e, e.rt("max_pool", x, kernel, stride, padding), layout)
    y = e.rt("dilated_max_pool", x, kernel, stride, padding, dilation)
    return _back(e, y, layout)


@emits("avg_pool")
def avg_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    ceil_mode: bool,
    count_include_pad: bool,
    layout: str,
) -> ast.expr:
    none = ((0, 0),) * len(kernel)
    if ceil_mode:
        ones = (1,) * len(kernel)
        extra = last_windows(e, kernel, stride, padding, ones, layout)
        if count_include_pad:
            # The padding counts, what lies beyond it does not.
            x, padding = _padded(e, x, padding, layout), none
            count_include_pad = all(n == 0 for n in extra)
        padding = tuple(
            (lo, hi + more) for (lo, hi), more in zip(padding, extra, strict=True)
        )
    if unless(padding, none) is OMIT:
        count_include_pad = True
    counts = unless(count_include_pad, True)
    if layout == "channels_last" and e.layers:
        y = e.call(
            f"{e.layers}.avg_pool",
            x,
            kernel,
            strides=stride,
            padding=unless(padding, none),
            count_include_pad=counts,
        )
        # Its counts are float32, and so is what they divide.
        wide = counts is not OMIT and e.out.dtype != "float32"
        return e.method(y, "astype", e.dtype(e.out.dtype)) if wide else y
    x = _first(e, x, layout)
    y = e.rt("avg_pool", x, kernel, stride, padding, count_include_pad=counts)
    return _back(e, y, layout)


def _padded(e: Exprs, x: ast.expr, padding: Pads, layout: str) -> ast.expr:
    if not any(map(any, padding)):
        return x
    edge = (0, 0)
    last = layout == "channels_last"
    every = (edge, *padding, edge) if last else (edge, edge, *padding)
    return e.call("jnp.pad", x, every)
