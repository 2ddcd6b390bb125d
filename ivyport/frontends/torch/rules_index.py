"""Indexing, gathering and scattering of torch."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np
import torch

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.dtype import is_float
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import normalize
from ivyport.frontends.torch.promote import (
    Arg,
    Number,
    number_as,
    operand_as,
    tensor_of,
)
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import scaled
from ivyport.frontends.torch.rules_shape import WHOLE, resized

aten = torch.ops.aten

UNBOUNDED = 2**63 - 1


def slice_of(
    size: DimLike, start: DimLike | None, end: DimLike | None, step: int = 1
) -> Slice:
    """A slice within an axis of `size`, None for the axis' own bounds, clamped.

    >>> slice_of(5, 0, 2**63 - 1), slice_of(5, -9, 3)
    (Slice(start=None, stop=None, step=1), Slice(start=None, stop=3, step=1))
    """
    if start == 0 or (
        isinstance(start, int) and isinstance(size, int) and start <= -size
    ):
        start = None
    if end == size or (isinstance(end, int) and _beyond(end, size)):
        end = None
    if isinstance(size, int):
        if isinstance(start, int) and start > size:
            start = size
        if isinstance(end, int) and end < -size:
            end = 0
    return Slice(start, end, step)


def _beyond(end: int, size: DimLike) -> bool:
    return end >= UNBOUNDED or (isinstance(size, int) and end >= size)


@lowers(aten.slice.Tensor)
def slice_(
    b: Builder,
    input: Value,
    dim: int = 0,
    start: DimLike | None = None,
    end: DimLike | None = None,
    step: int = 1,
) -> Value:
    """``x[start:end:step]`` along an axis; the whole axis is x itself."""
    axis = normalize(dim, input.type.rank)
    item = slice_of(input.type.shape[axis], start, end, step)
    if item == WHOLE:
        return input
    return b.getitem(input, index=(WHOLE,) * axis + (item,))


@lowers(aten.slice_scatter.default)
def slice_scatter(
    b: Builder,
    input: Value,
    src: Value,
    dim: int = 0,
    start: DimLike | None = None,
    end: DimLike | None = None,
    step: int = 1,
) -> Value:
    """x with a slice of an axis replaced."""
    axis = normalize(dim, input.type.rank)
    item = slice_of(input.type.shape[axis], start, end, step)
    source = b.cast(src, input.type.dtype)
    if item == WHOLE:
        return b.expand(source, input.type.shape)
    return b.slice_update(input, source, index=(WHOLE,) * axis + (item,))


@lowers(aten.select.int)
def select(b: Builder, input: Value, dim: int, index: DimLike) -> Value:
    """``x[index]`` along an axis, which goes."""
    axis = normalize(dim, input.type.rank)
    return b.getitem(input, index=(WHOLE,) * axis + (index,))


@lowers(aten.select_scatter.default)
def select_scatter(
    b: Builder, input: Value, src: Value, dim: int, index: DimLike
) -> Value:
    """x with one place of an axis replaced."""
    axis = normalize(dim, input.type.rank)
    source = b.cast(src, input.type.dtype)
    return b.slice_update(input, source, index=(WHOLE,) * axis + (index,))


@lowers(aten.narrow.default)
def narrow(
    b: Builder, input: Value, dim: int, start: DimLike, length: DimLike
) -> Value:
    """`length` places of an axis from `start`."""
    size = input.type.shape[normalize(dim, input.type.rank)]
    if isinstance(start, int) and start < 0:
        start = start + size
    return slice_(b, input, dim, start, start + length)


def _is_mask(index: Value | None) -> bool:
    return index is not None and index.type.dtype in ("bool", "uint8")


@lowers(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(b: Builder, input: Value, indices: list[Value | None]) -> Value:
    """Integer-array indexing; None keeps an axis.

    Raises:
        GraphError: a mask, whose result has a size that depends on data.
    """
    if any(_is_mask(i) for i in indices):
        raise GraphError(
            f"{input.type} is indexed by a boolean mask: the size of the result depends"
            " on data; use torch.where(mask, x, ...) or multiply by the mask, which"
            " keep the shape"
        )
    if all(i is None for i in indices):
        return input
    return b.index(input, *indices)


@lowers(aten.index_put.default, aten._unsafe_index_put.default)
def index_put(
    b: Builder,
    input: Value,
    indices: list[Value | None],
    values: Arg,
    accumulate: bool = False,
) -> Value:
    """x with ``x[indices] = values`` or ``+=``; a mask becomes `where`."""
    values = tensor_of(b, values, input.type.dtype)
    masks = [i for i in indices if _is_mask(i)]
    if masks:
        if len([i for i in indices if i is not None]) > 1:
            raise GraphError(
                f"{input.type} is assigned through a mask and other indices at once,"
                " which is not supported; assign with torch.where"
            )
        return _mask_put(b, input, indices, values, accumulate)
    if not any(indices):
        values = b.expand(values, input.type.shape)
        return b.add(input, values) if accumulate else values
    return b.index_update(input, values, *indices, accumulate=accumulate)


def _mask_put(
    b: Builder,
    x: Value,
    indices: list[Value | None],
    values: Value,
    accumulate: bool,
) -> Value:
    (at,) = (k for k, i in enumerate(indices) if i is not None)
    mask = indices[at]
    assert mask is not None
    trailing = x.type.rank - at - mask.type.rank
    if values.type.rank > trailing:
        # The axis that the mask makes: one value for all, or as many as are true.
        place = values.type.rank - trailing - 1
        if values.type.shape[place] != 1:
            raise GraphError(
                f"x[mask] = values of {values.type}: how many values are due depends on"
                " data; assign one value (or row) to all places, or use torch.where"
            )
        lead, tail = values.type.shape[:place], values.type.shape[place + 1 :]
        values = b.resize(values, (*lead, *((1,) * mask.type.rank), *tail))
    mask = b.cast(mask, "bool")
    if trailing:
        whole = (WHOLE,) * mask.type.rank
        mask = b.getitem(mask, index=whole + (NewAxis(),) * trailing)
    return b.where(mask, b.add(x, values) if accumulate else values, x)


@lowers(aten.masked_scatter.default)
def masked_scatter(b: Builder, input: Value, mask: Value, source: Value) -> Value:
    """x with its masked places filled from `source` in order.

    The n-th true place takes element n, and a running sum of the mask counts them.
    """
    mask = b.expand(b.cast(mask, "bool"), input.type.shape)
    flat = resized(b, mask, (-1,))
    place = b.subtract(b.cumulative_sum(b.cast(flat, "int64"), axis=0), 1)
    elements = resized(b, b.cast(source, input.type.dtype), (-1,))
    drawn = b.take(elements, b.clip(place, min=0), axis=0)
    return b.where(mask, resized(b, drawn, input.type.shape), input)


@lowers(aten.gather.default)
def gather(
    b: Builder, input: Value, dim: int, index: Value, sparse_grad: bool = False
) -> Value:
    """Elements along an axis by an index of the same rank."""
    if input.type.rank == 0 or index.type.rank == 0:
        raise GraphError(f"gather from {input.type} by {index.type}: axes are due")
    return b.take_along_axis(input, index, axis=dim)


@lowers(aten.take_along_dim.default)
def take_along_dim(
    b: Builder, input: Value, indices: Value, dim: int | None = None
) -> Value:
    """`gather` whose index broadcasts against x."""
    if dim is None:
        flat, where = resized(b, input, (-1,)), resized(b, indices, (-1,))
        return b.take_along_axis(flat, where, axis=0)
    axis = normalize(dim, input.type.rank)
    sizes = [
        max((x, i), key=lambda s: s != 1)
        for x, i in zip(input.type.shape, indices.type.shape, strict=True)
    ]
    indexed = (*sizes[:axis], indices.type.shape[axis], *sizes[axis + 1 :])
    source = (*sizes[:axis], input.type.shape[axis], *sizes[axis + 1 :])
    x, where = b.expand(input, source), b.expand(indices, indexed)
    return b.take_along_axis(x, where, axis=axis)


@lowers(aten.index_select.default)
def index_select(b: Builder, input: Value, dim: int, index: Value) -> Value:
    """Places of an axis by a vector of indices."""
    if index.type.rank == 0:
        index = b.reshape(index, shape=(1,))
    return b.take(input, index, axis=dim)


@lowers(aten.take.default)
def take(b: Builder, input: Value, index: Value) -> Value:
    """Elements of the flattened tensor."""
    return b.take(resized(b, input, (-1,)), index, axis=0)


def _matched(b: Builder, src: Arg, index: Value, dtype: str) -> Arg:
    """`src` in `dtype`, cut to the shape of the index as torch reads it."""
    values = operand_as(b, src, dtype)
    if not isinstance(values, Value) or values.type.rank == 0:
        return values
    items = tuple(
        slice_of(size, None, wanted)
        for size, wanted in zip(values.type.shape, index.type.shape, strict=True)
    )
    return values if all(i == WHOLE for i in items) else b.getitem(values, index=items)


def scattered(
    b: Builder, x: Value, dim: int, index: Value, src: Arg, mode: str
) -> Value:
    """`scatter` of values cut to the shape of the index."""
    values = _matched(b, src, index, x.type.dtype)
    return b.scatter(x, index, values, axis=dim, mode=mode)


@lowers(aten.scatter.src)
def scatter_src(b: Builder, input: Value, dim: int, index: Value, src: Value) -> Value:
    """x with elements along an axis replaced."""
    return scattered(b, input, dim, index, src, "set")


@lowers(aten.scatter.value)
def scatter_value(
    b: Builder, input: Value, dim: int, index: Value, value: Number
) -> Value:
    """x with elements along an axis set to a number."""
    return scattered(b, input, dim, index, value, "set")


REDUCE = {"add": "add", "multiply": "mul"}


@lowers(aten.scatter.reduce)
def scatter_with(
    b: Builder, input: Value, dim: int, index: Value, src: Value, reduce: str
) -> Value:
    """x with elements along an axis added to or multiplied."""
    return scattered(b, input, dim, index, src, REDUCE[reduce])


@lowers(aten.scatter.value_reduce)
def scatter_value_with(
    b: Builder, input: Value, dim: int, index: Value, value: Number, reduce: str
) -> Value:
    """x with a number added to or multiplied into elements along an axis."""
    return scattered(b, input, dim, index, value, REDUCE[reduce])


@lowers(aten.scatter_add.default)
def scatter_add(b: Builder, input: Value, dim: int, index: Value, src: Value) -> Value:
    """x with elements along an axis added to."""
    return scattered(b, input, dim, index, src, "add")


REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}


@lowers(aten.scatter_reduce.two)
def scatter_reduce(
    b: Builder,
    input: Value,
    dim: int,
    index: Value,
    src: Value,
    reduce: str,
    include_self: bool = True,
) -> Value:
    """x with elements along an axis reduced with those that the index sends there."""
    base, mode = input, REDUCTIONS[reduce]
    if not include_self:
        # What is written to starts from a number that leaves all others as they are.
        start = _neutral(mode, input.type.dtype)
        base = scattered(b, input, dim, index, start, "set")
    result = scattered(b, base, dim, index, src, mode)
    if reduce != "mean":
        return result
    dtype = input.type.dtype
    ones = b.full(shape=input.type.shape, value=number_as(1, dtype), dtype=dtype)
    if not include_self:
        ones = scattered(b, ones, dim, index, 0, "set")
    counts = b.clip(scattered(b, ones, dim, index, 1, "add"), min=number_as(1, dtype))
    floating = dtype.startswith(("float", "bfloat"))
    return (b.divide if floating else b.floor_divide)(result, counts)


def _neutral(mode: str, dtype: str) -> Number:
    """The number that changes no other one by a sum, a product, a maximum or a minimum."""
    if mode in ("add", "mul"):
        return int(mode == "mul")
    if is_float(dtype):
        return -math.inf if mode == "max" else math.inf
    limits = np.iinfo(dtype)
    return int(limits.min if mode == "max" else limits.max)


def _along(dim: int, rank: int, index: Value) -> tuple[Value | None, ...]:
    return (None,) * normalize(dim, rank) + (index,)


@lowers(aten.index_add.default)
def index_add(
    b: Builder, input: Value, dim: int, index: Value, source: Value, alpha: Number = 1
) -> Value:
    """x with slices of an axis added to."""
    values: Any = scaled(b, source, alpha)
    places = _along(dim, input.type.rank, index)
    return b.index_update(input, values, *places, accumulate=True)


@lowers(aten.index_copy.default)
def index_copy(
    b: Builder, input: Value, dim: int, index: Value, source: Value
) -> Value:
    """x with slices of an axis replaced."""
    return b.index_update(input, source, *_along(dim, input.type.rank, index))


@lowers(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(b: Builder, input: Value, dim: int, index: Value, value: Arg) -> Value:
    """x with slices of an axis set to a number."""
    fill = tensor_of(b, value, input.type.dtype)
    return b.index_update(input, fill, *_along(dim, input.type.rank, index))


@lowers(aten.nonzero.default, aten.nonzero_numpy.default, aten.argwhere.default)
@lowers(aten.masked_select.default, aten.item.default, aten._local_scalar_dense.default)
def data_dependent(b: Builder, input: Value, mask: Value | None = None) -> NoReturn:
    """Refused: what comes out depends on the elements, not on the shape."""
    raise GraphError(
        f"of {input.type}, a number or a size is made that depends on the elements"
        " (nonzero, masked_select, item, or a tensor used as a Python number), which a"
        " graph of known shapes cannot hold; use torch.where and keep the shape"
    )
