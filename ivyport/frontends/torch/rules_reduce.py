"""Reductions, scans, sorting and norms of torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import normalize
from ivyport.frontends.torch.promote import Number, floated, promoted, widened
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import truth
from ivyport.frontends.torch.rules_shape import resized

aten = torch.ops.aten

Axes = int | Sequence[int] | None


def axes_of(x: Value, dim: Axes) -> tuple[int, ...] | None:
    """The `axis` of a reduction: torch reduces everything for None and for []."""
    if dim is None or x.type.rank == 0:
        return None
    if isinstance(dim, int):
        return (dim,)
    return tuple(dim) or None


def _accumulated(name: str) -> Callable[..., Value]:
    """Sum or product in `dtype`; of integers and bools in int64."""

    def rule(
        b: Builder,
        input: Value,
        dim: Axes = None,
        keepdim: bool = False,
        dtype: str | None = None,
    ) -> Value:
        x = b.cast(input, dtype or widened(input))
        attrs = {"axis": axes_of(x, dim), "keepdims": keepdim}
        return b.node(name, (x,), attrs).output

    return rule


lowers(aten.sum.default, aten.sum.dim_IntList)(_accumulated("sum"))
lowers(aten.prod.default, aten.prod.dim_int)(_accumulated("prod"))


@lowers(aten.mean.default, aten.mean.dim)
def mean(
    b: Builder,
    input: Value,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """Mean, computed in `dtype`."""
    x = b.cast(input, dtype or input.type.dtype)
    return b.mean(x, axis=axes_of(x, dim), keepdims=keepdim)


def _truths(name: str) -> Callable[..., Value]:
    def rule(
        b: Builder, input: Value, dim: Axes = None, keepdim: bool = False
    ) -> Value:
        axis = axes_of(input, dim)
        attrs = {"axis": axis, "keepdims": keepdim}
        found = b.node(name, (truth(b, input),), attrs).output
        # torch answers in uint8 for uint8, in bool for everything else.
        return b.cast(found, "uint8") if input.type.dtype == "uint8" else found

    return rule


for _name in ("any", "all"):
    _packet = getattr(aten, _name)
    lowers(_packet.default, _packet.dim, _packet.dims)(_truths(_name))


def _extremum(name: str) -> Callable[..., Value]:
    def rule(
        b: Builder, input: Value, dim: Axes = None, keepdim: bool = False
    ) -> Value:
        attrs = {"axis": axes_of(input, dim), "keepdims": keepdim}
        return b.node(name, (input,), attrs).output

    return rule


def _extremum_dim(name: str) -> Callable[..., tuple[Value, Value]]:
    def rule(
        b: Builder, input: Value, dim: int, keepdim: bool = False
    ) -> tuple[Value, Value]:
        many = axes_of(input, dim)
        one = None if many is None else many[0]
        attrs = {"axis": many, "keepdims": keepdim, "first": many is not None}
        values = b.node(name, (input,), attrs).output
        where = b.node(
            f"arg{name}", (input,), {"axis": one, "keepdims": keepdim}
        ).output
        return values, where

    return rule


def _position(name: str) -> Callable[..., Value]:
    def rule(
        b: Builder, input: Value, dim: int | None = None, keepdim: bool = False
    ) -> Value:
        axis = None if input.type.rank == 0 else dim
        return b.node(name, (input,), {"axis": axis, "keepdims": keepdim}).output

    return rule


for _name in ("max", "min"):
    _packet = getattr(aten, _name)
    lowers(_packet.default, getattr(aten, f"a{_name}").default)(_extremum(_name))
    lowers(_packet.dim)(_extremum_dim(_name))
    lowers(getattr(aten, f"arg{_name}").default)(_position(f"arg{_name}"))


@lowers(aten.logsumexp.default, aten.special_logsumexp.default)
def logsumexp(b: Builder, input: Value, dim: Axes, keepdim: bool = False) -> Value:
    """log(sum(exp(x)))."""
    return b.logsumexp(floated(b, input), axis=axes_of(input, dim), keepdims=keepdim)


def _moment(name: str) -> None:
    packet = getattr(aten, name)

    @lowers(packet.default, packet.dim)
    def unbiased_form(
        b: Builder,
        input: Value,
        dim: Axes = None,
        unbiased: bool = True,
        keepdim: bool = False,
    ) -> Value:
        attrs = {
            "axis": axes_of(input, dim),
            "correction": int(unbiased),
            "keepdims": keepdim,
        }
        return b.node(name, (input,), attrs).output

    @lowers(packet.correction)
    def correction_form(
        b: Builder,
        input: Value,
        dim: Axes = None,
        correction: Number | None = None,
        keepdim: bool = False,
    ) -> Value:
        attrs = {
            "axis": axes_of(input, dim),
            "correction": 1 if correction is None else correction,
            "keepdims": keepdim,
        }
        return b.node(name, (input,), attrs).output

    @lowers(getattr(aten, f"{name}_mean").correction)
    def with_mean(
        b: Builder,
        input: Value,
        dim: Axes = None,
        correction: Number | None = None,
        keepdim: bool = False,
    ) -> tuple[Value, Value]:
        spread = correction_form(b, input, dim, correction, keepdim)
        return spread, mean(b, input, dim, keepdim)


_moment("var")
_moment("std")


@lowers(aten.cumsum.default)
def cumsum(b: Builder, input: Value, dim: int, dtype: str | None = None) -> Value:
    """Running sum in `dtype`; integers and bools are summed as int64."""
    x = b.cast(input, dtype or widened(input))
    return x if x.type.rank == 0 else b.cumulative_sum(x, axis=dim)


@lowers(aten.linalg_vector_norm.default)
def vector_norm(
    b: Builder,
    input: Value,
    ord: float = 2,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """(sum |x|^ord)^(1/ord); an extreme |x| for infinities, a count for 0."""
    x = b.cast(input, dtype or input.type.dtype)
    axis = axes_of(x, dim)
    if ord in (math.inf, -math.inf):
        reduce = b.max if ord > 0 else b.min
        return reduce(b.abs(x), axis=axis, keepdims=keepdim)
    if ord == 0:
        nonzero = b.cast(b.not_equal(x, 0), x.type.dtype)
        return b.sum(nonzero, axis=axis, keepdims=keepdim)
    return b.vector_norm(x, axis=axis, keepdims=keepdim, ord=float(ord))


@lowers(aten.norm.Scalar, aten.norm.ScalarOpt_dim)
@lowers(aten.norm.ScalarOpt_dtype, aten.norm.ScalarOpt_dim_dtype)
def norm(
    b: Builder,
    input: Value,
    p: float | None = 2,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """The vector norm of order p over the axes."""
    return vector_norm(b, input, 2 if p is None else p, dim, keepdim, dtype)


@lowers(aten.linalg_norm.default)
def linalg_norm(
    b: Builder,
    input: Value,
    ord: float | None = None,
    dim: Axes = None,
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """The vector norm; matrix norms other than Frobenius' are not supported."""
    axis = axes_of(input, dim)
    matrix = (len(axis) if axis is not None else input.type.rank) == 2
    if ord is not None and matrix:
        raise GraphError(
            f"linalg.norm with ord={ord} is a norm of matrices, which is not supported;"
            " use linalg.vector_norm or the Frobenius norm (ord=None)"
        )
    return vector_norm(b, input, 2 if ord is None else ord, dim, keepdim, dtype)


@lowers(aten.linalg_matrix_norm.str_ord)
def matrix_norm(
    b: Builder,
    input: Value,
    ord: str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    dtype: str | None = None,
) -> Value:
    """The Frobenius norm of matrices."""
    if ord != "fro":
        raise GraphError(f"linalg.matrix_norm with ord={ord!r} is not supported")
    return vector_norm(b, input, 2, dim, keepdim, dtype)


@lowers(aten.topk.default)
def topk(
    b: Builder,
    input: Value,
    k: DimLike,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
) -> tuple[Value, Value]:
    """The k largest or smallest elements; sorted whether or not that is asked for."""
    return b.topk(input, k=k, axis=dim, largest=largest)


@lowers(aten.sort.default, aten.sort.stable)
def sort(
    b: Builder,
    input: Value,
    dim: int = -1,
    descending: bool = False,
    stable: bool | None = False,
) -> tuple[Value, Value]:
    """Sorted elements and where they were."""
    return b.sort(input, axis=dim, descending=descending, stable=bool(stable))


@lowers(aten.argsort.default, aten.argsort.stable)
def argsort(
    b: Builder,
    input: Value,
    dim: int = -1,
    descending: bool = False,
    stable: bool = False,
) -> Value:
    """Where sorted elements were."""
    return sort(b, input, dim, descending, stable)[1]


@lowers(aten.diff.default)
def diff(
    b: Builder,
    input: Value,
    n: int = 1,
    dim: int = -1,
    prepend: Value | None = None,
    append: Value | None = None,
) -> Value:
    """Differences of neighbours, n times; of bools, whether they differ."""
    parts = [x for x in (prepend, input, append) if x is not None]
    if len(parts) > 1:
        _, joined = promoted(b, *parts)
        x = b.concat(*joined, axis=dim)
    else:
        x = input
    lead = (Slice(),) * normalize(dim, x.type.rank)
    for _ in range(n):
        after = b.getitem(x, index=(*lead, Slice(1)))
        before = b.getitem(x, index=(*lead, Slice(None, -1)))
        boolean = x.type.dtype == "bool"
        x = (b.logical_xor if boolean else b.subtract)(after, before)
    return x


@lowers(aten.histc.default)
def histc(
    b: Builder, input: Value, bins: int = 100, min: float = 0, max: float = 0
) -> Value:
    """Counts of integers in a static range, one bin an integer (mixtures of experts).

    Raises:
        GraphError: the range depends on data, or bins do not hold one integer each.
    """
    source = _integers_of(input)
    if source is None or not isinstance(bins, int) or max - min != bins - 1:
        raise GraphError(
            f"histc of {input.type} with bins={bins}, min={min}, max={max} is not"
            " supported: it must count integers, with a bin for each (bins = max-min+1)"
        )
    source = resized(b, source, (-1,))
    if min == 0:
        counts = b.bincount(source, length=bins)
    else:
        # What lies below the range must not count, and bincount is for 0 and more.
        edges = b.arange(start=int(min), stop=int(max) + 1, dtype=source.type.dtype)
        column = b.getitem(source, index=(Slice(), NewAxis()))
        counts = b.sum(b.cast(b.equal(column, edges), "int64"), axis=(0,))
    return b.cast(counts, input.type.dtype)


def _integers_of(x: Value) -> Value | None:
    """The integers that x holds, perhaps behind casts to float."""
    while not dt.is_int(x.type.dtype):
        producer = x.producer
        if producer is None or producer.op not in ("astype", "reshape"):
            return None
        (operand,) = producer.values()
        if producer.op == "reshape" and operand.type.rank != 1 and x.type.rank != 1:
            return None
        x = operand
    return x


@lowers(aten.bincount.default)
def bincount(
    b: Builder, input: Value, weights: Value | None = None, minlength: int = 0
) -> Any:
    """Not supported: the number of bins depends on data."""
    raise GraphError(
        "bincount makes as many bins as the largest element says, which depends on"
        " data; count with one_hot(x, num_classes).sum(0), whose size is known"
    )
