"""Neural-network operations of torch: products, norms, attention, activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import normalize
from ivyport.frontends.torch.einsum import explicit
from ivyport.frontends.torch.promote import Number, number_as, promoted
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import add, scaled
from ivyport.frontends.torch.rules_shape import cut, squeezed

aten = torch.ops.aten


# Products.


@lowers(aten.linear.default)
def linear(b: Builder, input: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ W.T + b."""
    if weight.type.rank == 1:
        product = b.matmul(input, weight)
        return product if bias is None else b.add(product, bias)
    return b.linear(input, weight, bias)


@lowers(aten.addmm.default)
def addmm(
    b: Builder,
    input: Value,
    mat1: Value,
    mat2: Value,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * x + alpha * (m1 @ m2); with a vector for x, a linear layer."""
    if beta == 1 and alpha == 1 and input.type.shape == mat2.type.shape[1:]:
        return b.linear(mat1, mat2, input, weight_layout="io")
    return _plus_product(b, input, b.matmul(mat1, mat2), beta, alpha)


@lowers(aten.baddbmm.default)
def baddbmm(
    b: Builder,
    input: Value,
    batch1: Value,
    batch2: Value,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * x + alpha * (b1 @ b2)."""
    return _plus_product(b, input, b.matmul(batch1, batch2), beta, alpha)


@lowers(aten.addmv.default)
def addmv(
    b: Builder,
    input: Value,
    mat: Value,
    vec: Value,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * x + alpha * (m @ v)."""
    return _plus_product(b, input, b.matmul(mat, vec), beta, alpha)


def _plus_product(
    b: Builder, x: Value, product: Value, beta: Number, alpha: Number
) -> Value:
    product = scaled(b, product, alpha)  # type: ignore[assignment]  # a tensor scaled is a tensor
    # For beta 0 torch ignores x, not-a-numbers included.
    return product if beta == 0 else add(b, scaled(b, x, beta), product)


@lowers(aten.matmul.default)
def matmul(b: Builder, input: Value, other: Value) -> Value:
    """Matrix product; vectors and leading axes as numpy."""
    return b.matmul(input, other)


@lowers(aten.mm.default, aten.bmm.default)
def mm(b: Builder, input: Value, mat2: Value) -> Value:
    """Matrix product."""
    return b.matmul(input, mat2)


@lowers(aten.mv.default)
def mv(b: Builder, input: Value, vec: Value) -> Value:
    """Matrix times vector."""
    return b.matmul(input, vec)


@lowers(aten.dot.default)
def dot(b: Builder, input: Value, tensor: Value) -> Value:
    """Inner product of vectors."""
    return b.matmul(input, tensor)


@lowers(aten.vdot.default)
def vdot(b: Builder, input: Value, other: Value) -> Value:
    """Inner product of real vectors."""
    return b.matmul(input, other)


@lowers(aten.outer.default, aten.ger.default)
def outer(b: Builder, input: Value, vec2: Value) -> Value:
    """Every product of two vectors' elements."""
    _, (x, y) = promoted(b, input, vec2)
    return b.einsum(x, y, equation="i,j->ij")


@lowers(aten.einsum.default)
def einsum(b: Builder, equation: str, tensors: list[Value], path: Any = None) -> Value:
    """Sum of products; the order in which they are taken (`path`) is no part of it."""
    spelled = explicit(equation, [t.type.rank for t in tensors])
    spelled, tensors = _without_broadcasts(b, spelled, tensors)
    return b.einsum(*tensors, equation=spelled)


def _without_broadcasts(
    b: Builder, equation: str, tensors: list[Value]
) -> tuple[str, list[Value]]:
    """Drop axes of size 1 where another operand has more: letters do not broadcast."""
    left, _, right = equation.partition("->")
    terms = left.split(",")
    wide = {
        letter
        for term, x in zip(terms, tensors, strict=True)
        for letter, size in zip(term, x.type.shape, strict=True)
        if size != 1
    }
    new_terms, new_tensors = [], []
    for term, x in zip(terms, tensors, strict=True):
        single = [i for i, n in enumerate(term) if n in wide and x.type.shape[i] == 1]
        new_terms.append("".join(n for i, n in enumerate(term) if i not in single))
        new_tensors.append(squeezed(b, x, single))
    return f"{','.join(new_terms)}->{right}", new_tensors


def grouped_mm_fallback(b: Builder, input: Value, weight: Value, offs: Value) -> Value:
    """Consecutive groups of rows, each times its own matrix (mixtures of experts)."""
    return b.grouped_matmul(input, weight, offs)


@lowers(aten._grouped_mm.default)
def grouped_mm(
    b: Builder,
    input: Value,
    mat2: Value,
    offs: Value | None = None,
    bias: Value | None = None,
    out_dtype: str | None = None,
) -> Value:
    """Consecutive groups of rows, each times its own matrix."""
    if offs is None or bias is not None or (input.type.rank, mat2.type.rank) != (2, 3):
        raise GraphError(
            f"grouped_mm of {input.type} and {mat2.type} with offs={offs}, bias={bias}:"
            " rows (T, K) by weights (G, K, N) with offsets and no bias are supported"
        )
    product = b.grouped_matmul(input, mat2, offs)
    return product if out_dtype is None else b.cast(product, out_dtype)


# Operators of other libraries, by qualified name: they exist once one is imported.
NAMED: dict[str, Callable[..., Any]] = {
    "transformers::grouped_mm_fallback": grouped_mm_fallback,
}


@lowers(aten.embedding.default)
def embedding(
    b: Builder,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """Rows of the weight; that of the padding index gets no gradient, -1 is none.

    `sparse` is about the layout of the gradient in memory.
    """
    if scale_grad_by_freq:
        raise GraphError(
            "scale_grad_by_freq=True divides each row's gradient by how often the row is read, "
            "which no other framework has: make the layer without it"
        )
    return b.embedding(
        indices, weight, padding=padding_idx if padding_idx >= 0 else None
    )


# Normalisation.


def trailing(normalized_shape: Sequence[DimLike]) -> tuple[int, ...]:
    """The last axes, as many as a shape has.

    >>> trailing((4, 8))
    (-2, -1)
    """
    return tuple(range(-len(normalized_shape), 0))


@lowers(aten.layer_norm.default)
def layer_norm(
    b: Builder,
    input: Value,
    normalized_shape: Sequence[DimLike],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    """Normalise over the last axes, then scale and shift."""
    return b.layer_norm(input, weight, bias, axis=trailing(normalized_shape), eps=eps)


@lowers(aten.rms_norm.default)
def rms_norm(
    b: Builder,
    input: Value,
    normalized_shape: Sequence[DimLike],
    weight: Value | None = None,
    eps: float | None = None,
) -> Value:
    """Divide by the root mean square over the last axes; eps None is the dtype's."""
    if eps is None:
        eps = float(dt.finfo(input.type.dtype).eps)
    return b.rms_norm(input, weight, axis=trailing(normalized_shape), eps=eps)


@lowers(aten.group_norm.default)
def group_norm(
    b: Builder,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalise groups of channels (axis 1)."""
    return b.group_norm(input, weight, bias, groups=num_groups, eps=eps)


@lowers(aten.instance_norm.default)
def instance_norm(
    b: Builder,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalise every channel of every sample over space.

    Raises:
        GraphError: running statistics are kept, or the channels are symbolic.
    """
    channels = input.type.shape[1]
    if not use_input_stats or running_mean is not None or running_var is not None:
        raise GraphError("instance_norm with running statistics is not supported")
    if not isinstance(channels, int):
        raise GraphError(f"instance_norm of {input.type}: channels must be static")
    return b.group_norm(input, weight, bias, groups=channels, eps=eps)


@lowers(aten.batch_norm.default)
def batch_norm(
    b: Builder,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float | None,
    eps: float,
    cudnn_enabled: bool = True,
) -> Value:
    """Normalise channels (axis 1) by the running statistics, or by the batch's.

    That a capture in train mode uses running statistics means that they never change there.
    """
    statistics = (running_mean, running_var)
    if running_mean is not None and b.trains and not training:
        momentum = None
    return b.batch_norm(
        input, weight, bias, *statistics, axis=1, eps=eps, momentum=momentum
    )


@lowers(aten._weight_norm.default)
def weight_norm(b: Builder, v: Value, g: Value, dim: int = 0) -> Value:
    """g * v / ||v||; -1 is the norm of the whole tensor."""
    if dim == -1:
        return b.multiply(v, b.divide(g, b.vector_norm(v, axis=None)))
    return b.weight_norm(v, g, axis=dim)


# Attention, softmax, dropout.


@lowers(aten.softmax.int)
def softmax(b: Builder, input: Value, dim: int, dtype: str | None = None) -> Value:
    """exp(x) / sum(exp(x)), computed in `dtype`."""
    return b.softmax(b.cast(input, dtype or input.type.dtype), axis=dim)


@lowers(aten.log_softmax.int)
def log_softmax(b: Builder, input: Value, dim: int, dtype: str | None = None) -> Value:
    """log of softmax, computed in `dtype`."""
    return b.log_softmax(b.cast(input, dtype or input.type.dtype), axis=dim)


@lowers(aten._softmax.default)
def softmax_half(b: Builder, input: Value, dim: int, half_to_float: bool) -> Value:
    """softmax; of halves perhaps in float32."""
    return softmax(b, input, dim, "float32" if half_to_float else None)


@lowers(aten._log_softmax.default)
def log_softmax_half(b: Builder, input: Value, dim: int, half_to_float: bool) -> Value:
    """log_softmax; of halves perhaps in float32."""
    return log_softmax(b, input, dim, "float32" if half_to_float else None)


@lowers(aten.scaled_dot_product_attention.default)
def attention(
    b: Builder,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(Q K^T * scale + mask) V; key and value may have fewer heads."""
    mask = attn_mask
    if mask is not None and mask.type.dtype != "bool":
        mask = b.cast(mask, query.type.dtype)
    return b.attention(
        query,
        key,
        value,
        mask,
        scale=scale,
        is_causal=is_causal,
        dropout=float(dropout_p),
        layout="bhsd",
    )


@lowers(aten.dropout.default)
def dropout(b: Builder, input: Value, p: float, train: bool) -> Value:
    """Dropout. Whether it draws is seen in both captures (`ivyport.core.modes`)."""
    return b.dropout(input, rate=float(p), always=train)


@lowers(aten.native_dropout.default)
def native_dropout(
    b: Builder, input: Value, p: float, train: bool | None
) -> tuple[Value, None]:
    """Dropout; its mask is None, for what is drawn is not part of the graph."""
    return b.dropout(input, rate=float(p), always=train is not False), None


@lowers(aten.feature_dropout.default)
def feature_dropout(b: Builder, input: Value, p: float, train: bool) -> Value:
    """Dropout of whole channels: the same draw over space."""
    space = tuple(range(2, input.type.rank))
    return b.dropout(input, rate=float(p), broadcast=space, always=train)


# Activations.


@lowers(aten.gelu.default)
def gelu(b: Builder, input: Value, approximate: str = "none") -> Value:
    """x * Phi(x), by erf ("none") or tanh ("tanh")."""
    return b.gelu(input, approximate=approximate == "tanh")


@lowers(aten.softplus.default)
def softplus(
    b: Builder, input: Value, beta: Number = 1, threshold: Number = 20
) -> Value:
    """log(1 + exp(beta x)) / beta, x itself where beta x > threshold."""
    if beta == 1 and threshold == 20:
        # Beyond 20 the two agree within the rounding of float32.
        return b.softplus(input)
    inner = b.multiply(input, beta)
    smooth = b.divide(b.softplus(inner), beta)
    return b.where(b.greater(inner, threshold), input, smooth)


@lowers(aten.leaky_relu.default)
def leaky_relu(b: Builder, input: Value, negative_slope: float = 0.01) -> Value:
    """x where positive, else negative_slope * x."""
    return b.leaky_relu(input, negative_slope=float(negative_slope))


@lowers(aten.elu.default)
def elu(
    b: Builder,
    input: Value,
    alpha: float = 1,
    scale: float = 1,
    input_scale: float = 1,
) -> Value:
    """scale * (x where positive, else alpha * (exp(input_scale * x) - 1))."""
    if input_scale == 1:
        return scaled(b, b.elu(input, alpha=float(alpha)), scale)  # type: ignore[return-value]  # a tensor scaled is a tensor
    # Where x is positive the other branch, and its gradient, must stay finite.
    positive = b.greater(input, 0)
    below = b.where(positive, number_as(0, input.type.dtype), input)
    low = b.multiply(b.expm1(b.multiply(below, input_scale)), alpha)
    return scaled(b, b.where(positive, input, low), scale)  # type: ignore[return-value]  # a tensor scaled is a tensor


SELU_ALPHA = 1.6732632423543772848170429916717  # arXiv:1706.02515
SELU_SCALE = 1.0507009873554804934193349852946


@lowers(aten.selu.default)
def selu(b: Builder, input: Value) -> Value:
    """The self-normalising scaled ELU."""
    return elu(b, input, SELU_ALPHA, SELU_SCALE)


@lowers(aten.celu.default)
def celu(b: Builder, input: Value, alpha: float = 1.0) -> Value:
    """alpha * elu(x / alpha)."""
    return elu(b, input, alpha, 1, 1.0 / alpha)


@lowers(aten.glu.default)
def glu(b: Builder, input: Value, dim: int = -1) -> Value:
    """First half times sigmoid of second half."""
    size = input.type.shape[normalize(dim, input.type.rank)]
    half = size // 2
    first, gate = cut(b, input, (half, size - half), dim)
    return b.multiply(first, b.sigmoid(gate))


@lowers(aten.prelu.default)
def prelu(b: Builder, input: Value, weight: Value) -> Value:
    """x where positive, else weight * x; one weight, or one a channel (axis 1)."""
    rank = input.type.rank
    slope = weight
    if weight.type.shape != (1,) and rank > 2:
        slope = b.reshape(weight, shape=(-1, *((1,) * (rank - 2))))
    return b.where(b.greater(input, 0), input, b.multiply(slope, input))


@lowers(aten.hardshrink.default)
def hardshrink(b: Builder, input: Value, lambd: float = 0.5) -> Value:
    """x where |x| > lambda, else 0."""
    return b.where(b.less_equal(b.abs(input), lambd), 0.0, input)


@lowers(aten.softshrink.default)
def softshrink(b: Builder, input: Value, lambd: float = 0.5) -> Value:
    """x moved towards 0 by lambda, at most to 0."""
    clipped = b.clip(input, min=-lambd, max=lambd)
    return b.subtract(input, clipped)


@lowers(aten.threshold.default)
def threshold(b: Builder, input: Value, threshold: Number, value: Number) -> Value:
    """x where above the threshold, else a value."""
    dtype = input.type.dtype
    below = b.less_equal(input, number_as(threshold, dtype))
    return b.where(below, number_as(value, dtype), input)


@lowers(aten.cosine_similarity.default)
def cosine_similarity(
    b: Builder, x1: Value, x2: Value, dim: int = 1, eps: float = 1e-8
) -> Value:
    """x1 . x2 / (max(||x1||, eps) max(||x2||, eps))."""
    _, (x, y) = promoted(b, x1, x2)
    norms = (b.vector_norm(v, axis=(dim,), keepdims=True) for v in (x, y))
    unit_x, unit_y = (
        b.divide(v, b.clip(n, min=eps)) for v, n in zip((x, y), norms, strict=True)
    )
    return b.sum(b.multiply(unit_x, unit_y), axis=(dim,))


@lowers(aten.unfold.default)
def windows(b: Builder, input: Value, dimension: int, size: int, step: int) -> Value:
    """Windows of an axis, the places within each on a new last axis."""
    axis = normalize(dimension, input.type.rank)
    count = (input.type.shape[axis] - size) // step + 1
    starts = b.arange(start=0, stop=count * step, step=step, dtype="int64")
    offsets = b.arange(stop=size, dtype="int64")
    column = b.getitem(starts, index=(Slice(), NewAxis()))
    places = b.add(column, offsets)
    taken = b.take(input, places, axis=axis)
    rank = taken.type.rank
    axes = (*(a for a in range(rank) if a != axis + 1), axis + 1)
    return b.transpose(taken, axes)
