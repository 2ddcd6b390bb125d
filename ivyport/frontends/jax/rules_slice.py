"""Slices with static and with dynamic starts."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from typing import Any

from ivyport.core.dims import Dim, DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Slice, Value
from ivyport.core.passes.match import constant
from ivyport.frontends.jax.registry import Found, JaxBuilder, lowers

FULL = Slice()


@lowers("slice")
def slice_(
    b: JaxBuilder, x: Value, *, start_indices: Any, limit_indices: Any, strides: Any
) -> Value:
    starts, limits = b.sizes(start_indices), b.sizes(limit_indices)
    steps = (1,) * len(starts) if strides is None else tuple(int(s) for s in strides)
    x = b.tensor(x)
    return _cut(b, x, starts, limits, steps)


def _cut(
    b: JaxBuilder,
    x: Value,
    starts: tuple[DimLike, ...],
    limits: tuple[DimLike, ...],
    steps: tuple[int, ...],
) -> Value:
    index = tuple(
        FULL if (start, stop, step) == (0, size, 1) else Slice(start, stop, step)
        for start, stop, step, size in zip(
            starts, limits, steps, x.type.shape, strict=True
        )
    )
    return x if all(i == FULL for i in index) else b.getitem(x, index=index)


def static_starts(
    b: JaxBuilder,
    starts: tuple[Found, ...],
    shape: tuple[DimLike, ...],
    sizes: tuple[DimLike, ...],
) -> tuple[DimLike, ...] | None:
    """Clamped starts, if they do not depend on data.

    Raises:
        GraphError: whether a symbolic start needs clamping is not known.
    """
    found: list[DimLike] = []
    for start, length, size in zip(starts, shape, sizes, strict=True):
        if length == size:
            found.append(0)
            continue
        number = constant(start)
        if number is None:
            return None
        number = int(number) if isinstance(number, bool | float) else number
        found.append(_clamped(b, number, length - size))
    return tuple(found)


def _clamped(b: JaxBuilder, start: DimLike, last: DimLike) -> DimLike:
    if isinstance(start, int) and isinstance(last, int):
        return max(0, min(start, last))
    if start in (0, last):
        return start
    # A start of s - k in an axis of s, or one that is a number and small.
    rest = last - start
    if isinstance(rest, int) and rest >= 0 and isinstance(start, Dim):
        b.takes(start, 0)
        return start
    if isinstance(start, int) and start >= 0 and b.takes(last, start):
        return start
    raise GraphError(f"a slice that starts at {start}, with at most {last} before it")


@lowers("dynamic_slice")
def dynamic_slice(b: JaxBuilder, x: Value, *starts: Found, slice_sizes: Any) -> Value:
    x, sizes = b.tensor(x), b.sizes(slice_sizes)
    indices = starts[: x.type.rank]
    if len(starts) != x.type.rank:
        raise GraphError("a slice whose size depends on data")
    known = static_starts(b, indices, x.type.shape, sizes)
    if known is None:
        return b.dynamic_slice(x, *indices, sizes=sizes)
    parts = [a for a, n in enumerate(sizes) if n != x.type.shape[a]]
    if len(parts) == 1 and sizes[parts[0]] == 1 and isinstance(known[parts[0]], int):
        (axis,) = parts
        part = b.lowering.unrolled.slice(x, axis, known[axis])  # type: ignore[arg-type]  # an int, says the test above
        if part is not None:
            return part
    limits = tuple(s + n for s, n in zip(known, sizes, strict=True))
    return _cut(b, x, known, limits, (1,) * len(sizes))


@lowers("dynamic_update_slice")
def dynamic_update_slice(
    b: JaxBuilder, x: Value, values: Value, *starts: Found
) -> Value:
    x, values = b.tensor(x), b.tensor(values, 1)
    sizes = values.type.shape
    if sizes == x.type.shape:
        return values
    known = static_starts(b, starts, x.type.shape, sizes)
    if known is None:
        return b.dynamic_update_slice(x, values, *starts)
    index = tuple(
        FULL if n == size else Slice(start, start + n)
        for start, n, size in zip(known, sizes, x.type.shape, strict=True)
    )
    return b.slice_update(x, values, index=index)
