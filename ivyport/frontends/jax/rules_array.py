"""Shape, creation and joining."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from typing import Any

from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Slice, Value
from ivyport.core.passes.match import constant, made_by
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import dtype_name

Number = Value | Scalar
FULL = Slice()


@lowers("broadcast_in_dim")
def broadcast_in_dim(
    b: JaxBuilder,
    x: Number,
    *dynamic: Any,
    shape: Any,
    broadcast_dimensions: tuple[int, ...],
) -> Value:
    """Operand axes go to the given axes of the result, which repeats them over the others."""
    if dynamic:
        raise GraphError("broadcast to a shape that depends on data")
    sizes = b.sizes(shape)
    if isinstance(x, Scalar):
        return b.full(shape=sizes, value=x.value, dtype=b.out.dtype)
    placed: list[DimLike] = [1] * len(sizes)
    for axis, size in zip(broadcast_dimensions, x.type.shape, strict=True):
        placed[axis] = size
    return b.expand(b.resize(x, tuple(placed)), sizes)


@lowers("reshape")
def reshape(
    b: JaxBuilder, x: Number, *dynamic: Any, new_sizes: Any, dimensions: Any
) -> Value:
    if dynamic:
        raise GraphError("reshape to a shape that depends on data")
    x = b.tensor(x)
    if dimensions is not None:
        x = b.transpose(x, tuple(dimensions))
    return b.resize(x, b.sizes(new_sizes))


@lowers("squeeze")
def squeeze(b: JaxBuilder, x: Number, *, dimensions: tuple[int, ...]) -> Value:
    """Drop axes of size 1; one that a slice has just cut to size 1 is an integer index."""
    x = b.tensor(x)
    cut = x.producer
    if cut is not None and cut.op == "getitem":
        index = list(cut.attrs["index"])
        kept = all(isinstance(i, Slice) for i in index)
        starts = {d: _start(index[d]) for d in dimensions if kept and d < len(index)}
        if len(starts) == len(dimensions) and None not in starts.values():
            for axis, start in starts.items():
                index[axis] = start
            return b.getitem(cut.inputs[0], index=tuple(index))
    shape = tuple(d for i, d in enumerate(x.type.shape) if i not in dimensions)
    return b.resize(x, shape)


def _start(item: Slice) -> int | None:
    start = item.start or 0
    single = isinstance(start, int) and item.stop == start + 1 and item.step == 1
    return start if single else None  # type: ignore[return-value]  # an int, if single


@lowers("transpose")
def transpose(b: JaxBuilder, x: Value, *, permutation: tuple[int, ...]) -> Value:
    x, axes = b.tensor(x), tuple(int(p) for p in permutation)
    moved = made_by(x, "permute_dims")
    if moved is not None:
        inner = moved.inputs[0]
        assert isinstance(inner, Value)
        before = [a % inner.type.rank for a in moved.attrs["axes"]]
        if [before[a] for a in axes] == list(range(inner.type.rank)):
            return inner
    return b.transpose(x, axes)


@lowers("rev")
def rev(b: JaxBuilder, x: Value, *, dimensions: tuple[int, ...]) -> Value:
    axes = tuple(int(d) for d in dimensions)
    return b.flip(x, axis=axes) if axes else x


@lowers("concatenate")
def concatenate(b: JaxBuilder, *xs: Value, dimension: int) -> Value:
    return xs[0] if len(xs) == 1 else b.concat(*xs, axis=int(dimension))


@lowers("stack")
def stack(b: JaxBuilder, *xs: Number, axis: int) -> Value:
    return b.stack(*(b.tensor(x, i) for i, x in enumerate(xs)), axis=int(axis))


@lowers("unstack")
def unstack(b: JaxBuilder, x: Value, *, axis: int) -> tuple[Value, ...]:
    before = (FULL,) * int(axis)
    return tuple(b.getitem(x, index=(*before, i)) for i in range(len(b.outs)))


@lowers("split")
def split(b: JaxBuilder, x: Value, *, sizes: Any, axis: int) -> Any:
    pieces = b.split(x, sizes=b.sizes(sizes), axis=int(axis))
    return pieces if isinstance(pieces, tuple) else (pieces,)


@lowers("tile")
def tile(b: JaxBuilder, x: Value, *, reps: Any) -> Value:
    return b.tile(b.tensor(x), repetitions=b.sizes(reps))


@lowers("iota")
def iota(b: JaxBuilder, *dynamic: Any, dtype: Any, shape: Any, dimension: int) -> Value:
    if dynamic:
        raise GraphError("iota of a shape that depends on data")
    sizes, name = b.sizes(shape), dtype_name(dtype)
    line = b.arange(start=0, stop=sizes[dimension], step=1, dtype=name)
    placed = tuple(d if i == dimension else 1 for i, d in enumerate(sizes))
    return b.expand(b.resize(line, placed), sizes)


@lowers("empty", "empty2")
def empty(b: JaxBuilder, **params: Any) -> Value:
    return b.full(shape=b.out.shape, value=0, dtype=b.out.dtype)


@lowers("pad")
def pad(b: JaxBuilder, x: Value, value: Number, *, padding_config: Any) -> Value:
    """Before, after and between elements; negative amounts crop."""
    x = b.tensor(x)
    config = [tuple(b.size(n) for n in amounts) for amounts in padding_config]
    number = constant(value)
    if not isinstance(number, bool | int | float):
        known = b.full(shape=x.type.shape, value=True, dtype="bool")
        inside = padded(b, known, config, False)
        return b.where(inside, padded(b, x, config, 0), b.tensor(value, 1))
    return padded(b, x, config, number)


def padded(b: JaxBuilder, x: Value, config: list[tuple[Any, ...]], value: Any) -> Value:
    """x with (before, after, between) copies of `value` along each axis."""
    for axis, (_, _, between) in enumerate(config):
        if between != 0:
            x = _spread(b, x, axis, between, value)
    edges = tuple((low, high) for low, high, _ in config)
    if all(edge == (0, 0) for edge in edges):
        return x
    return b.pad(x, padding=edges, mode="constant", value=value)


def _spread(b: JaxBuilder, x: Value, axis: int, between: DimLike, value: Any) -> Value:
    """`between` copies of `value` between the elements of an axis."""
    shape, rank = x.type.shape, x.type.rank
    if shape[axis] == 0:
        return x
    column = b.reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
    edges = tuple((0, between if i == axis + 1 else 0) for i in range(rank + 1))
    column = b.pad(column, padding=edges, mode="constant", value=value)
    total = shape[axis] * (between + 1)
    joined = b.reshape(column, shape=(*shape[:axis], total, *shape[axis + 1 :]))
    kept = Slice(0, total - between)
    return b.getitem(joined, index=(*(FULL,) * axis, kept))
