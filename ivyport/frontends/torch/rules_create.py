"""Creation of tensors: constants and ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Value
from ivyport.core.ops import broadcast
from ivyport.frontends.torch.promote import (
    DEFAULT_FLOAT,
    Arg,
    Number,
    number_as,
    number_dtype,
)
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import binary
from ivyport.frontends.torch.rules_shape import resized

aten = torch.ops.aten

Sizes = Sequence[DimLike]


def constant(b: Builder, size: Sizes, value: Number, dtype: str) -> Value:
    """A tensor filled with a number."""
    return b.full(shape=tuple(size), value=number_as(value, dtype), dtype=dtype)


def _sized(value: Number) -> Callable[..., Value]:
    def rule(b: Builder, size: Sizes, dtype: str | None = None) -> Value:
        return constant(b, size, value, dtype or DEFAULT_FLOAT)

    return rule


def _new(value: Number) -> Callable[..., Value]:
    def rule(b: Builder, input: Value, size: Sizes, dtype: str | None = None) -> Value:
        return constant(b, size, value, dtype or input.type.dtype)

    return rule


def _like(value: Number) -> Callable[..., Value]:
    def rule(b: Builder, input: Value, dtype: str | None = None) -> Value:
        return constant(b, input.type.shape, value, dtype or input.type.dtype)

    return rule


# What `empty` holds is undefined, so zeros serve.
lowers(aten.zeros.default, aten.empty.memory_format)(_sized(0))
lowers(aten.ones.default)(_sized(1))
lowers(aten.new_zeros.default, aten.new_empty.default)(_new(0))
lowers(aten.new_ones.default)(_new(1))
lowers(aten.zeros_like.default, aten.empty_like.default)(_like(0))
lowers(aten.ones_like.default)(_like(1))


@lowers(aten.full.default)
def full(
    b: Builder, size: Sizes, fill_value: Number, dtype: str | None = None
) -> Value:
    """A number everywhere, in the dtype of the number by default."""
    return constant(b, size, fill_value, dtype or number_dtype(fill_value))


@lowers(aten.full_like.default)
def full_like(
    b: Builder, input: Value, fill_value: Number, dtype: str | None = None
) -> Value:
    """A number everywhere, in the shape and by default the dtype of x."""
    return constant(b, input.type.shape, fill_value, dtype or input.type.dtype)


@lowers(aten.new_full.default)
def new_full(
    b: Builder,
    input: Value,
    size: Sizes,
    fill_value: Number,
    dtype: str | None = None,
) -> Value:
    """A number everywhere, by default in the dtype of x."""
    return constant(b, size, fill_value, dtype or input.type.dtype)


@lowers(aten.scalar_tensor.default)
def scalar_tensor(b: Builder, s: Number, dtype: str | None = None) -> Value:
    """A number as a tensor."""
    return constant(b, (), s, dtype or DEFAULT_FLOAT)


@lowers(aten.fill.Scalar, aten.fill.Tensor)
def fill(b: Builder, input: Value, value: Arg) -> Value:
    """`value` everywhere, in the dtype and shape of x."""
    shape, dtype = input.type.shape, input.type.dtype
    if isinstance(value, Value):
        return b.expand(b.cast(value, dtype), shape)
    return constant(b, shape, value, dtype)


@lowers(aten.zero.default)
def zero(b: Builder, input: Value) -> Value:
    """Zeros in the dtype and shape of x."""
    return constant(b, input.type.shape, 0, input.type.dtype)


@lowers(aten.arange.default, aten.arange.start, aten.arange.start_step)
def arange(
    b: Builder,
    end: Number,
    start: Number = 0,
    step: Number = 1,
    dtype: str | None = None,
) -> Value:
    """start, start + step, ... below end; int64 unless a number is a float."""
    if dtype is None:
        fractional = any(isinstance(x, float) for x in (start, end, step))
        dtype = DEFAULT_FLOAT if fractional else "int64"
    return b.arange(start=start, stop=end, step=step, dtype=dtype)


@lowers(aten.linspace.default)
def linspace(
    b: Builder, start: Number, end: Number, steps: int, dtype: str | None = None
) -> Value:
    """Evenly spaced numbers, both ends included."""
    return b.linspace(start=start, stop=end, num=steps, dtype=dtype or DEFAULT_FLOAT)


@lowers(aten.eye.default, aten.eye.m)
def eye(
    b: Builder, n: DimLike, m: DimLike | None = None, dtype: str | None = None
) -> Value:
    """Ones on the diagonal."""
    columns = n if m is None else m
    return b.eye(rows=n, columns=columns, dtype=dtype or DEFAULT_FLOAT)


@lowers(aten.tril.default)
def tril(b: Builder, input: Value, diagonal: int = 0) -> Value:
    """Zero above a diagonal."""
    return b.tril(input, k=diagonal)


@lowers(aten.triu.default)
def triu(b: Builder, input: Value, diagonal: int = 0) -> Value:
    """Zero below a diagonal."""
    return b.triu(input, k=diagonal)


@lowers(aten.meshgrid.default, aten.meshgrid.indexing)
def meshgrid(
    b: Builder, tensors: list[Value], indexing: str = "ij"
) -> tuple[Value, ...]:
    """Coordinates of a grid: each vector along its axis, the same along the others."""
    rank = len(tensors)
    order = list(range(rank))
    if indexing == "xy" and rank >= 2:
        order[:2] = [1, 0]
    vectors = [t if t.type.rank else b.reshape(t, shape=(1,)) for t in tensors]
    placed = []
    for vector, axis in zip(vectors, order, strict=True):
        shape: list[DimLike] = [1] * rank
        shape[axis] = vector.type.shape[0]
        placed.append(b.resize(vector, tuple(shape)))
    joint = broadcast(*(x.type.shape for x in placed))
    return tuple(b.expand(x, joint) for x in placed)


@lowers(aten.one_hot.default)
def one_hot(b: Builder, input: Value, num_classes: DimLike = -1) -> Value:
    """1 at the index, 0 elsewhere, on a new last axis.

    Raises:
        GraphError: the number of classes is left to the data.
    """
    if num_classes == -1:
        raise GraphError(
            "one_hot without num_classes has a size that depends on data: give"
            " num_classes"
        )
    return b.one_hot(input, num_classes=num_classes, dtype="int64")


@lowers(aten.isin.Tensor_Tensor, aten.isin.Tensor_Scalar)
def isin(
    b: Builder,
    elements: Value,
    test_elements: Value | None = None,
    test_element: Number | None = None,
    assume_unique: bool = False,
    invert: bool = False,
) -> Value:
    """Whether each element is among the others."""
    if test_elements is None:
        assert test_element is not None
        name = "not_equal" if invert else "equal"
        return binary(b, name, elements, test_element)
    candidates = resized(b, test_elements, (-1,))
    column = b.reshape(elements, shape=(*elements.type.shape, 1))
    found = b.any(binary(b, "equal", column, candidates), axis=(-1,))
    return b.logical_not(found) if invert else found


@lowers(aten.bucketize.Tensor)
def bucketize(
    b: Builder,
    input: Value,
    boundaries: Value,
    out_int32: bool = False,
    right: bool = False,
) -> Value:
    """How many boundaries are below each element (or not above it, if right)."""
    return _count_below(b, boundaries, input, out_int32, right)


@lowers(aten.searchsorted.Tensor)
def searchsorted(
    b: Builder,
    sorted_sequence: Value,
    input: Value,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
) -> Value:
    """Where elements would be inserted in a sorted vector."""
    if sorted_sequence.type.rank != 1:
        raise GraphError(f"searchsorted in {sorted_sequence.type}: a vector is due")
    return _count_below(b, sorted_sequence, input, out_int32, right or side == "right")


def _count_below(b: Builder, edges: Value, x: Value, int32: bool, right: bool) -> Value:
    column = b.reshape(x, shape=(*x.type.shape, 1))
    below = binary(b, "less_equal" if right else "less", edges, column)
    return b.sum(b.cast(below, "int32" if int32 else "int64"), axis=(-1,))
