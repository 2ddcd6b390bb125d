"""Operations of torch that are a few others: constants, diagonals, statistics, windows put back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.frontends.torch.promote import (
    DEFAULT_FLOAT,
    Arg,
    Number,
    floated,
    number_as,
    promoted,
    tensor_of,
)
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import scaled
from ivyport.frontends.torch.rules_shape import resized
from ivyport.frontends.torch.rules_spatial import Ints, batched, sizes_of

aten = torch.ops.aten


# ---- constants


@lowers(aten.hann_window.default, aten.hann_window.periodic)
def hann_window(
    b: Builder, window_length: int, periodic: bool = True, dtype: str | None = None
) -> Value:
    """sin(pi n / N)^2, N being one less where the window is not periodic."""
    dtype = dtype or DEFAULT_FLOAT
    if not isinstance(window_length, int):
        raise GraphError("hann_window of a free size: make that axis constant in dims")
    if window_length == 1:
        return b.full(shape=(1,), value=1.0, dtype=dtype)
    steps = window_length if periodic else window_length - 1
    line = b.arange(start=0, stop=window_length, step=1, dtype=dtype)
    return b.square(b.sin(b.multiply(line, math.pi / max(steps, 1))))


@lowers(aten.logspace.default)
def logspace(
    b: Builder,
    start: Number,
    end: Number,
    steps: int,
    base: float = 10.0,
    dtype: str | None = None,
) -> Value:
    """base ** x for evenly spaced x, both ends included."""
    line = b.linspace(start=start, stop=end, num=steps, dtype=dtype or DEFAULT_FLOAT)
    return b.pow(float(base), line)


# ---- matrices


@lowers(aten.fill_diagonal_.default)
def fill_diagonal(
    b: Builder, input: Value, fill_value: Number, wrap: bool = False
) -> Value:
    """A matrix with a number on its diagonal.

    Raises:
        GraphError: the tensor is no matrix, or the diagonal goes on below a square.
    """
    if input.type.rank != 2 or wrap:
        raise GraphError(
            f"fill_diagonal_ of {input.type} with wrap={wrap}: a matrix, and wrap=False,"
            " are due; write torch.where(mask, value, x)"
        )
    height, width = input.type.shape
    rows = b.arange(start=0, stop=height, step=1, dtype="int64")
    columns = b.arange(start=0, stop=width, step=1, dtype="int64")
    here = b.equal(b.getitem(rows, index=(Slice(), NewAxis())), columns)
    return b.where(here, number_as(fill_value, input.type.dtype), input)


@lowers(aten.block_diag.default)
def block_diag(b: Builder, tensors: list[Value]) -> Value:
    """Matrices along a diagonal, zeros elsewhere; vectors are rows."""
    dtype, _ = promoted(b, *tensors)
    values = [b.cast(x, dtype) for x in tensors]
    blocks = [resized(b, x, (1,) * (2 - x.type.rank) + x.type.shape) for x in values]
    before: DimLike = 0
    total: DimLike = 0
    for x in blocks:
        total = total + x.type.shape[1]
    rows = []
    for x in blocks:
        after = total - before - x.type.shape[1]
        rows.append(b.pad(x, padding=((0, 0), (before, after))))
        before = before + x.type.shape[1]
    return b.concat(*rows, axis=0)


@lowers(aten.dstack.default)
def dstack(b: Builder, tensors: list[Value]) -> Value:
    """Joined along the third axis, which matrices and vectors get."""
    dtype, _ = promoted(b, *tensors)
    joined = []
    for x in tensors:
        shape = x.type.shape
        whole = {0: (1, 1, 1), 1: (1, *shape, 1), 2: (*shape, 1)}.get(len(shape), shape)
        joined.append(resized(b, b.cast(x, dtype), whole))
    return b.concat(*joined, axis=2)


@lowers(aten.addbmm.default)
def addbmm(
    b: Builder,
    input: Value,
    batch1: Value,
    batch2: Value,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * x + alpha * (the sum of b1 @ b2)."""
    product = scaled(b, b.sum(b.matmul(batch1, batch2), axis=(0,)), alpha)
    return product if beta == 0 else b.add(scaled(b, input, beta), product)  # type: ignore[return-value]  # a tensor times a number is one


@lowers(aten.cov.default)
def cov(
    b: Builder,
    input: Value,
    correction: int = 1,
    fweights: Value | None = None,
    aweights: Value | None = None,
) -> Value:
    """Covariances of the rows, which are variables.

    Raises:
        GraphError: observations have weights.
    """
    if fweights is not None or aweights is not None:
        raise GraphError("cov with fweights or aweights: multiply before, and use @")
    x = floated(b, input)
    rank = x.type.rank
    x = x if rank == 2 else resized(b, x, (1, x.type.shape[0] if rank else 1))
    centred = b.subtract(x, b.mean(x, axis=(1,), keepdims=True))
    count = x.type.shape[1] - correction
    product = b.matmul(centred, b.transpose(centred, (1, 0)))
    found = b.divide(product, count)
    return found if rank == 2 else b.reshape(found, shape=())


@lowers(aten.corrcoef.default)
def corrcoef(b: Builder, input: Value) -> Value:
    """Correlations of the rows, within -1 and 1."""
    found = cov(b, input)
    if not found.type.rank:
        return b.divide(found, found)
    line = b.arange(start=0, stop=found.type.shape[0], step=1, dtype="int64")
    spread = b.sqrt(b.index(found, line, line))
    found = b.divide(found, b.getitem(spread, index=(Slice(), NewAxis())))
    return b.clip(b.divide(found, spread), min=-1.0, max=1.0)


# ---- elementwise


@lowers(aten.copysign.Tensor, aten.copysign.Scalar)
def copysign(b: Builder, input: Value, other: Arg) -> Value:
    """The size of x with the sign of y, that of a negative zero too."""
    _, (x, y) = promoted(b, floated(b, input), other)
    y = tensor_of(b, y, x.type.dtype)  # type: ignore[union-attr]  # x is a tensor
    below = signbit(b, y)
    size = b.abs(x)
    return b.where(below, b.negative(size), size)


@lowers(aten.signbit.default)
def signbit(b: Builder, input: Value) -> Value:
    """Whether the sign is a minus, that of a zero too."""
    if not dt.is_float(input.type.dtype):
        return (
            b.less(input, 0)
            if dt.is_int(input.type.dtype)
            else b.not_equal(input, input)
        )
    # 1 / -0 is minus infinity.
    zero = b.less(b.reciprocal(b.where(b.equal(input, 0), input, 1.0)), 0)
    return b.logical_or(b.less(input, 0), zero)


@lowers(aten.special_xlog1py.default)
def xlog1py(b: Builder, input: Value, other: Value) -> Value:
    """x * log(1 + y), 0 where x is 0."""
    _, (x, y) = promoted(b, floated(b, input), floated(b, other))
    none = b.logical_and(b.equal(x, 0), b.logical_not(b.isnan(y)))
    inner = b.log1p(b.where(none, 0.0, y))
    return b.where(none, 0.0, b.multiply(x, inner))


@lowers(aten.aminmax.default)
def aminmax(
    b: Builder, input: Value, dim: int | None = None, keepdim: bool = False
) -> tuple[Value, Value]:
    """The smallest and the largest element."""
    axis = None if dim is None or not input.type.rank else (dim,)
    return (
        b.min(input, axis=axis, keepdims=keepdim),
        b.max(input, axis=axis, keepdims=keepdim),
    )


# ---- windows and repeats


@lowers(aten.col2im.default)
def col2im(
    b: Builder,
    input: Value,
    output_size: Sequence[DimLike],
    kernel_size: Ints,
    dilation: Ints,
    padding: Ints,
    stride: Ints,
) -> Value:
    """Patches added up where they came from (`fold`).

    Raises:
        GraphError: a size of the image is free.
    """
    size = [n for n in output_size if isinstance(n, int)]
    if len(size) < 2:
        raise GraphError(
            f"fold to a free size {tuple(output_size)}: make those axes constant in dims"
        )
    kernel, spread = sizes_of(kernel_size, 2), sizes_of(dilation, 2)
    pads, steps = sizes_of(padding, 2), sizes_of(stride, 2)
    whole = [n + 2 * p for n, p in zip(size, pads, strict=True)]
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(whole, spread, kernel, steps, strict=True)
    ]

    def folded(x: Value) -> Value:
        lead, columns, _ = x.type.shape
        channels = columns // (kernel[0] * kernel[1])
        patches = b.reshape(x, shape=(lead, channels, *kernel, *counts))
        image = b.full(shape=(lead, channels, *whole), value=0.0, dtype=x.type.dtype)
        places = []
        for axis in (0, 1):
            inner = b.arange(
                start=0,
                stop=kernel[axis] * spread[axis],
                step=spread[axis],
                dtype="int64",
            )
            outer = b.arange(
                start=0,
                stop=counts[axis] * steps[axis],
                step=steps[axis],
                dtype="int64",
            )
            grid = b.add(b.getitem(inner, index=(Slice(), NewAxis())), outer)
            shape = [1, 1, 1, 1]
            shape[axis], shape[axis + 2] = kernel[axis], counts[axis]
            places.append(b.reshape(grid, shape=tuple(shape)))
        found = b.index_update(image, patches, None, None, *places, accumulate=True)
        cut = [
            Slice(p, p + n) if p else Slice() for p, n in zip(pads, size, strict=True)
        ]
        return b.getitem(found, index=(Slice(), Slice(), *cut)) if any(pads) else found

    return batched(b, input, 1, folded)


@lowers(aten.repeat_interleave.self_Tensor)
def repeat_interleave(
    b: Builder,
    input: Value,
    repeats: Value,
    dim: int | None = None,
    output_size: DimLike | None = None,
) -> Value:
    """Each element as often as `repeats` says, `output_size` in all.

    Raises:
        GraphError: how many there are depends on data.
    """
    if output_size is None:
        raise GraphError(
            "repeat_interleave makes as many elements as a tensor says, which depends on"
            " data: give output_size, or repeat by a number"
        )
    x = resized(b, input, (-1,)) if dim is None else input
    axis = 0 if dim is None else dim % x.type.rank
    ends = b.cumulative_sum(b.cast(repeats, "int64"), axis=0)
    line = b.arange(start=0, stop=output_size, step=1, dtype="int64")
    column = b.getitem(line, index=(Slice(), NewAxis()))
    place = b.sum(b.cast(b.less_equal(ends, column), "int64"), axis=(1,))
    return b.take(x, place, axis=axis)
