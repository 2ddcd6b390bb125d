"""Diagonals, distances, bilinear products and some elementwise formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import broadcast, normalize
from ivyport.frontends.torch.promote import Number, promoted
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_reduce import vector_norm

aten = torch.ops.aten


# ---- diagonals


@lowers(aten.diagonal.default, aten.diagonal_copy.default)
def diagonal(
    b: Builder, input: Value, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Value:
    """x[..., i, i + offset], the two axes dropped and the diagonal last."""
    rank = input.type.rank
    rows, columns = normalize(dim1, rank), normalize(dim2, rank)
    others = [a for a in range(rank) if a not in (rows, columns)]
    x = b.transpose(input, (*others, rows, columns))
    height, width = x.type.shape[-2:]
    start = (max(-offset, 0), max(offset, 0))
    length = _diagonal_length(height, width, start)
    line = b.arange(start=0, stop=length, step=1, dtype="int64")
    places = [line if s == 0 else b.add(line, s) for s in start]
    return b.index(x, *(None,) * len(others), *places)


@lowers(aten.linalg_diagonal.default)
def linalg_diagonal(
    b: Builder, A: Value, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> Value:
    """The diagonal of the last two axes."""
    return diagonal(b, A, offset, dim1, dim2)


def _diagonal_length(
    height: DimLike, width: DimLike, start: tuple[int, int]
) -> DimLike:
    lengths = height - start[0], width - start[1]
    if lengths[0] == lengths[1]:
        return lengths[0]
    if all(isinstance(n, int) for n in lengths):
        return max(min(lengths), 0)  # type: ignore[type-var]
    raise GraphError(
        f"the diagonal of {height} by {width}: a square, or sizes that are no symbols"
    )


@lowers(aten.diag_embed.default)
def diag_embed(
    b: Builder, input: Value, offset: int = 0, dim1: int = -2, dim2: int = -1
) -> Value:
    """Matrices with the last axis on a diagonal and zeros elsewhere."""
    rank = input.type.rank + 1
    places = (normalize(dim1, rank), normalize(dim2, rank))
    size = input.type.shape[-1] + abs(offset)
    line = b.arange(start=0, stop=size, step=1, dtype="int64")
    column = b.getitem(line, index=(Slice(), NewAxis()))
    here = b.equal(column if offset == 0 else b.add(column, offset), line)
    x = input
    if offset:
        pads = ((0, 0),) * (rank - 2) + ((max(-offset, 0), max(offset, 0)),)
        x = b.pad(x, padding=pads)
    x = b.getitem(x, index=(*(Slice(),) * (rank - 2), Slice(), NewAxis()))
    zero: Number = 0.0 if _is_float(x) else 0
    x = b.where(here, b.expand(x, (*x.type.shape[:-1], size)), zero)
    others = [a for a in range(rank) if a not in places]
    order = [*others, *places]
    return b.transpose(x, tuple(order.index(a) for a in range(rank)))


def _is_float(x: Value) -> bool:
    return x.type.dtype.startswith(("float", "bfloat"))


@lowers(aten.trace.default)
def trace(b: Builder, input: Value) -> Value:
    """The sum of the diagonal."""
    found = diagonal(b, input)
    return b.sum(found if _is_float(found) else b.cast(found, "int64"))


# ---- distances


@lowers(aten.cdist.default, aten._cdist_forward.default)
def cdist(
    b: Builder,
    x1: Value,
    x2: Value,
    p: float = 2.0,
    compute_mode: int | None = None,
) -> Value:
    """Distances of order p between all pairs of rows; equal rows have no gradient."""
    left = b.getitem(x1, index=(*_all(x1, -1), NewAxis(), Slice()))
    lead = x2.type.rank - 2
    right = b.getitem(x2, index=(*(Slice(),) * lead, NewAxis(), Slice(), Slice()))
    return vector_norm(b, b.subtract(left, right), p, -1)


def _all(x: Value, less: int) -> tuple[Slice, ...]:
    return (Slice(),) * (x.type.rank + less)


@lowers(aten.renorm.default)
def renorm(b: Builder, input: Value, p: float, dim: int, maxnorm: float) -> Value:
    """Slices along `dim` whose norm of order p is above `maxnorm` are scaled down to it."""
    others = [a for a in range(input.type.rank) if a != normalize(dim, input.type.rank)]
    size = vector_norm(b, input, p, others, True)
    scale = b.divide(float(maxnorm), b.add(size, 1e-7))
    factor = b.where(b.greater(size, float(maxnorm)), scale, 1.0)
    return b.multiply(input, factor)


# ---- products


@lowers(aten.bilinear.default)
def bilinear(
    b: Builder, input1: Value, input2: Value, weight: Value, bias: Value | None = None
) -> Value:
    """x1 W x2 + b for each output; W is (out, in1, in2)."""
    lead = "abcdefgh"[: input1.type.rank - 1]
    if len(lead) < input1.type.rank - 1:
        raise GraphError(f"bilinear of {input1.type}: up to nine axes are supported")
    equation = f"{lead}i,oij,{lead}j->{lead}o"
    y = b.einsum(input1, weight, input2, equation=equation)
    return y if bias is None else b.add(y, bias)


@lowers(aten.addr.default)
def addr(
    b: Builder,
    input: Value,
    vec1: Value,
    vec2: Value,
    beta: Number = 1,
    alpha: Number = 1,
) -> Value:
    """beta * input + alpha * outer(vec1, vec2)."""
    _, (x, u, v) = promoted(b, input, vec1, vec2)
    assert isinstance(u, Value)
    outer = b.multiply(b.getitem(u, index=(Slice(), NewAxis())), v)
    outer = outer if alpha == 1 else b.multiply(outer, alpha)
    if beta == 0:
        return outer
    return b.add(x if beta == 1 else b.multiply(x, beta), outer)


@lowers(aten.linalg_cross.default)
def cross(b: Builder, input: Value, other: Value, dim: int = -1) -> Value:
    """The cross product along an axis of size 3."""
    _, (x, y) = promoted(b, input, other)
    assert isinstance(x, Value)
    assert isinstance(y, Value)
    rank = max(x.type.rank, y.type.rank)
    axis = (normalize(dim, rank) - rank,)

    def turned(v: Value, by: int) -> Value:
        places = (axis[0] % v.type.rank,)
        return b.roll(v, shift=(by,), axis=places)

    left = b.multiply(turned(x, -1), turned(y, -2))
    return b.subtract(left, b.multiply(turned(x, -2), turned(y, -1)))


@lowers(aten.logaddexp.default)
def logaddexp(b: Builder, input: Value, other: Value) -> Value:
    """log(exp(x) + exp(y))."""
    _, (x, y) = promoted(b, input, other)
    assert isinstance(x, Value)
    assert isinstance(y, Value)
    shape = broadcast(x.type.shape, y.type.shape)
    both = b.stack(b.expand(x, shape), b.expand(y, shape), axis=0)
    return b.logsumexp(both, axis=(0,))


# ---- elementwise


@lowers(aten.lgamma.default, aten.special_gammaln.default)
def lgamma(b: Builder, input: Value) -> Value:
    """log |Gamma(x)|."""
    return b.lgamma(input if _is_float(input) else b.cast(input, "float32"))


@lowers(aten.digamma.default, aten.special_digamma.default, aten.special_psi.default)
def digamma(b: Builder, input: Value) -> Value:
    """The derivative of `lgamma`."""
    return b.digamma(input if _is_float(input) else b.cast(input, "float32"))


@lowers(aten.sinc.default, aten.special_sinc.default)
def sinc(b: Builder, input: Value) -> Value:
    """sin(pi x) / (pi x); 1 at zero, without a division by it."""
    x = input if _is_float(input) else b.cast(input, "float32")
    zero = b.equal(x, 0.0)
    angle = b.multiply(b.where(zero, 1.0, x), math.pi)
    return b.where(zero, 1.0, b.divide(b.sin(angle), angle))


@lowers(aten.deg2rad.default)
def deg2rad(b: Builder, input: Value) -> Value:
    """Degrees as radians."""
    x = input if _is_float(input) else b.cast(input, "float32")
    return b.multiply(x, math.pi / 180)


@lowers(aten.rad2deg.default)
def rad2deg(b: Builder, input: Value) -> Value:
    """Radians as degrees."""
    x = input if _is_float(input) else b.cast(input, "float32")
    return b.multiply(x, 180 / math.pi)


@lowers(aten.heaviside.default)
def heaviside(b: Builder, input: Value, values: Value) -> Value:
    """0 below zero, 1 above it, and `values` at zero."""
    above = b.cast(b.greater(input, 0), input.type.dtype)
    return b.where(b.equal(input, 0), values, above)


@lowers(aten.rot90.default)
def rot90(b: Builder, input: Value, k: int = 1, dims: Sequence[int] = (0, 1)) -> Value:
    """Quarter turns from the first axis of `dims` towards the second."""
    rank = input.type.rank
    one, two = (normalize(d, rank) for d in dims)
    order = list(range(rank))
    order[one], order[two] = two, one
    turn = k % 4
    if turn == 0:
        return input
    if turn == 2:
        return b.flip(input, axis=(one, two))
    if turn == 1:
        return b.transpose(b.flip(input, axis=(two,)), tuple(order))
    return b.flip(b.transpose(input, tuple(order)), axis=(two,))


@lowers(aten.huber_loss.default)
def huber_loss(
    b: Builder, input: Value, target: Value, reduction: int = 1, delta: float = 1.0
) -> Value:
    """Squared up to `delta`, linear beyond; reduction 0 is none, 1 mean, 2 sum."""
    _, (x, y) = promoted(b, input, target)
    size = b.abs(b.subtract(x, y))
    far = b.multiply(b.subtract(size, 0.5 * delta), float(delta))
    near = b.multiply(b.square(size), 0.5)
    loss = b.where(b.less_equal(size, float(delta)), near, far)
    if reduction == 0:
        return loss
    return b.mean(loss) if reduction == 1 else b.sum(loss)
