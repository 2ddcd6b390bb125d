"""Running extremes, order statistics and reductions that leave out what is no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import normalize
from ivyport.frontends.torch.promote import promoted, widened
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_reduce import Axes, axes_of
from ivyport.frontends.torch.rules_shape import resized

aten = torch.ops.aten


@lowers(aten.cumprod.default)
def cumprod(b: Builder, input: Value, dim: int, dtype: str | None = None) -> Value:
    """Running product in `dtype`; integers and bools are multiplied as int64."""
    x = b.cast(input, dtype or widened(input))
    return x if x.type.rank == 0 else b.cumulative_prod(x, axis=dim)


@lowers(aten.logcumsumexp.default)
def logcumsumexp(b: Builder, input: Value, dim: int) -> Value:
    """Running log of the sum of exponentials."""
    return input if input.type.rank == 0 else b.cumulative_logsumexp(input, axis=dim)


def _running(name: str) -> Callable[..., tuple[Value, Value]]:
    def rule(b: Builder, input: Value, dim: int) -> tuple[Value, Value]:
        """The extreme so far and where it is: the last of several places."""
        if input.type.rank == 0:
            return input, b.full(shape=(), value=0, dtype="int64")
        axis = normalize(dim, input.type.rank)
        found = b.node(f"cumulative_{name}", (input,), {"axis": axis}).output
        here = b.equal(input, found)
        if dt.is_float(input.type.dtype):
            here = b.logical_or(here, b.isnan(input))
        line = b.arange(start=0, stop=input.type.shape[axis], step=1, dtype="int64")
        shape = (-1, *(1,) * (input.type.rank - axis - 1))
        places = b.expand(b.resize(line, _sized(line, shape)), input.type.shape)
        return found, b.cumulative_max(b.where(here, places, 0), axis=axis)

    return rule


def _sized(line: Value, shape: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(line.type.shape[0] if size == -1 else size for size in shape)


lowers(aten.cummax.default)(_running("max"))
lowers(aten.cummin.default)(_running("min"))


@lowers(aten.nansum.default)
def nansum(
    b: Builder,
    input: Value,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """Sum of the numbers among the elements."""
    x = input
    if dt.is_float(x.type.dtype):
        x = b.where(b.isnan(x), 0.0, x)
    x = b.cast(x, dtype or widened(x))
    return b.sum(x, axis=axes_of(x, dim), keepdims=keepdim)


@lowers(aten.count_nonzero.default, aten.count_nonzero.dim_IntList)
def count_nonzero(b: Builder, input: Value, dim: Axes = None) -> Value:
    """How many elements differ from zero."""
    x = input if input.type.dtype == "bool" else b.not_equal(input, 0)
    return b.sum(b.cast(x, "int64"), axis=axes_of(input, dim))


# ---- order statistics; what is no number comes last when sorted


def _poisoned(b: Builder, x: Value, found: Value, axis: int, keepdim: bool) -> Value:
    """NaN where a line of x holds one."""
    if not dt.is_float(x.type.dtype):
        return found
    bad = b.any(b.isnan(x), axis=(axis,), keepdims=keepdim)
    return b.where(bad, float("nan"), found)


def _nth(b: Builder, x: Value, position: Any, axis: int, keepdim: bool) -> Value:
    item = Slice(position, position + 1) if keepdim else position
    return b.getitem(x, index=(*(Slice(),) * axis, item))


@lowers(aten.kthvalue.default)
def kthvalue(
    b: Builder, input: Value, k: int, dim: int = -1, keepdim: bool = False
) -> tuple[Value, Value]:
    """The k-th smallest element and where it is."""
    if input.type.rank == 0:
        return input, b.full(shape=(), value=0, dtype="int64")
    axis = normalize(dim, input.type.rank)
    values, places = b.sort(input, axis=axis, stable=True)
    return (
        _nth(b, values, k - 1, axis, keepdim),
        _nth(b, places, k - 1, axis, keepdim),
    )


@lowers(aten.median.dim)
def median(
    b: Builder, input: Value, dim: int = -1, keepdim: bool = False
) -> tuple[Value, Value]:
    """The lower of the middle elements, and where it is; NaN where there is one."""
    if input.type.rank == 0:
        return input, b.full(shape=(), value=0, dtype="int64")
    axis = normalize(dim, input.type.rank)
    middle = (input.type.shape[axis] - 1) // 2
    values, places = b.sort(input, axis=axis, stable=True)
    found = _nth(b, values, middle, axis, keepdim)
    where = _nth(b, places, middle, axis, keepdim)
    if dt.is_float(input.type.dtype):
        first = b.argmax(b.cast(b.isnan(input), "int32"), axis=axis, keepdims=keepdim)
        bad = b.any(b.isnan(input), axis=(axis,), keepdims=keepdim)
        where = b.where(bad, first, where)
    return _poisoned(b, input, found, axis, keepdim), where


@lowers(aten.median.default)
def median_of_all(b: Builder, input: Value) -> Value:
    """The lower of the middle elements; NaN where there is one."""
    return median(b, resized(b, input, (-1,)), 0)[0]


INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(name: str, skips: bool) -> None:
    packet = getattr(aten, name)

    @lowers(packet.scalar, packet.default)
    def rule(
        b: Builder,
        input: Value,
        q: float | Value,
        dim: int | None = None,
        keepdim: bool = False,
        interpolation: str = "linear",
    ) -> Value:
        if interpolation not in INTERPOLATIONS:
            raise GraphError(f"{name} with interpolation={interpolation!r}")
        rank = input.type.rank
        x = resized(b, input, (-1,)) if dim is None or rank == 0 else input
        axis = 0 if dim is None else normalize(dim, x.type.rank)
        size = x.type.shape[axis]
        ordered = b.sort(x, axis=axis, stable=True)[0]
        kept = keepdim and dim is not None
        if isinstance(q, float | int) and isinstance(size, int) and not skips:
            # In the precision of the data, as torch computes it.
            kind = dt.to_numpy(x.type.dtype)
            place = float(np.asarray(q, kind) * np.asarray(size - 1, kind))
            exact = q * (size - 1)
            place = exact if np.floor(exact) == np.floor(place) else place
            found = _at_place(b, ordered, place, axis, kept, interpolation)
        else:
            found = _at_ranks(b, x, ordered, q, axis, kept, interpolation, skips)
        if not skips:
            line = _poisoned_line(b, x, axis, kept)
            found = b.where(line, float("nan"), found)
        if keepdim and dim is None:
            lead = found.type.shape
            found = b.reshape(found, shape=(*lead, *(1,) * rank))
        return found


def _poisoned_line(b: Builder, x: Value, axis: int, keepdim: bool) -> Value:
    return b.any(b.isnan(x), axis=(axis,), keepdims=keepdim)


def _at_place(
    b: Builder, x: Value, place: float, axis: int, keepdim: bool, how: str
) -> Value:
    """An element of sorted lines between two places."""
    low, high = int(np.floor(place)), int(np.ceil(place))
    if how == "nearest":
        low = high = int(np.round(place))
    low, high = (high if how == "higher" else low), (low if how == "lower" else high)
    below = _nth(b, x, low, axis, keepdim)
    if low == high:
        return below
    share = 0.5 if how == "midpoint" else place - low
    above = _nth(b, x, high, axis, keepdim)
    return b.add(below, b.multiply(b.subtract(above, below), share))


def _at_ranks(
    b: Builder,
    x: Value,
    ordered: Value,
    q: float | Value,
    axis: int,
    keepdim: bool,
    how: str,
    skips: bool,
) -> Value:
    """Elements of sorted lines at places that are computed; several q come first."""
    kind, rank = x.type.dtype, x.type.rank
    if isinstance(q, Value):
        _, (_, given) = promoted(b, x, q)
        assert isinstance(given, Value)
        many = given.type.rank == 1
        line = b.reshape(given, shape=(-1,) if many else (1,))
    else:
        many = False
        line = b.full(shape=(1,), value=float(q), dtype=kind)
    # The places along the axis, which is the last one here: (..., number of q).
    moved = b.transpose(ordered, _last(axis, rank))
    if skips:
        numbers = b.cast(b.logical_not(b.isnan(x)), kind)
        count = b.sum(numbers, axis=(axis,), keepdims=True)
        last = b.transpose(b.subtract(count, 1.0), _last(axis, rank))
        last = b.clip(last, min=0.0)
        ranks = b.multiply(line, last)
    else:
        size = b.full(shape=(), value=x.type.shape[axis] - 1, dtype=kind)
        ranks = b.multiply(line, size)
        ranks = b.expand(ranks, (*moved.type.shape[:-1], line.type.shape[0]))
    low, high = b.floor(ranks), b.ceil(ranks)
    if how == "nearest":
        low = high = b.round(ranks)
    low, high = (high if how == "higher" else low), (low if how == "lower" else high)
    below = b.take_along_axis(moved, b.cast(low, "int64"), axis=rank - 1)
    found = below
    if low is not high:
        above = b.take_along_axis(moved, b.cast(high, "int64"), axis=rank - 1)
        share: Any = 0.5 if how == "midpoint" else b.subtract(ranks, low)
        found = b.add(below, b.multiply(b.subtract(above, below), share))
    # (..., q) -> (q, ...), without the axis or with it as one of size 1.
    found = b.transpose(found, (rank - 1, *range(rank - 1)))
    if keepdim:
        index = (*(Slice(),) * (axis + 1), NewAxis())
        found = b.getitem(found, index=index)
    return found if many else b.getitem(found, index=(0,))


def _last(axis: int, rank: int) -> tuple[int, ...]:
    return (*(a for a in range(rank) if a != axis), axis)


_quantile("quantile", skips=False)
_quantile("nanquantile", skips=True)
