"""`gather`: take, take_along_axis, embedding, slices at computed places, array indexing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Slice, Value
from ivyport.core.passes.match import constant
from ivyport.frontends.jax.indexing import (
    Plan,
    Windows,
    arrays_first,
    clamped,
    component,
    counted,
    joined,
    plan,
    unwrapped,
)
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import number


@lowers("gather")
def gather(
    b: JaxBuilder,
    x: Value,
    indices: Value,
    *,
    dimension_numbers: Any,
    slice_sizes: Any,
    mode: Any,
    fill_value: Any,
    indices_are_sorted: bool,
    unique_indices: bool,
) -> Value:
    """Windows of x at `indices`.

    An index out of bounds is clamped in mode CLIP and gives `fill_value` in mode FILL: if none
    was asked for, what JAX fills in by itself (NaN, the limit of an integer dtype). Rows of a
    table that the model holds are an embedding, which is not filled: an id that is out of bounds
    is an error of the model, and the target treats it as its own embeddings do (torch raises).
    """
    x, indices = b.tensor(x), b.tensor(indices, 1)
    numbers = dimension_numbers
    windows = Windows(
        sizes=b.sizes(slice_sizes),
        dropped=tuple(numbers.collapsed_slice_dims),
        starts=tuple(numbers.start_index_map),
        paired=tuple(numbers.operand_batching_dims),
        with_=tuple(numbers.start_indices_batching_dims),
        offsets=tuple(numbers.offset_dims),
    )
    x = _cut_at_zero(b, x, windows)
    starts, fill = _starts(b, x, indices, windows, mode, fill_value)
    batch = indices.type.shape[:-1]
    return (
        _static(b, x, starts, windows, batch)
        or _along_axis(b, x, starts, windows, fill)
        or _general(b, x, starts, windows, batch, fill)
    )


def _cut_at_zero(b: JaxBuilder, x: Value, windows: Windows) -> Value:
    """The part of x that windows can reach: axes without starts begin at 0."""
    fixed = {*windows.starts, *windows.paired}
    index = tuple(
        Slice() if axis in fixed or size == length else Slice(0, size)
        for axis, (size, length) in enumerate(
            zip(windows.sizes, x.type.shape, strict=True)
        )
    )
    return x if all(i == Slice() for i in index) else b.getitem(x, index=index)


def _starts(
    b: JaxBuilder,
    x: Value,
    indices: Value,
    windows: Windows,
    mode: Any,
    fill_value: Any,
) -> tuple[dict[int, Value], float | None]:
    """Starts by axis; and what is due where one is out of bounds, None if none can be."""
    starts: dict[int, Value] = {}
    outside = False
    for position, axis in enumerate(windows.starts):
        start = component(b, indices, position)
        length, size = x.type.shape[axis], windows.sizes[axis]
        if mode.name == "FILL_OR_DROP":
            starts[axis], leaves = counted(b, start, length, size, bool(windows.paired))
            outside |= leaves
            continue
        if length == size and size != 1:
            continue
        if mode.name == "CLIP":
            start = clamped(b, start, length - size)
        elif size == 1 and not windows.paired:
            # `take_along_axis` takes no negative indices.
            plain = unwrapped(start, length)
            start = start if plain is None else plain
        starts[axis] = start
    return starts, _filler(fill_value, x.type.dtype) if outside else None


def _filler(fill_value: Any, dtype: str) -> float:
    """What fills elements of a dtype; JAX's own choice for None."""
    if fill_value is not None:
        return number(fill_value, dtype)
    if dt.is_float(dtype):
        return math.nan
    if dtype == "bool":
        return True
    limits = np.iinfo(dtype)
    return int(limits.max if limits.min == 0 else limits.min)


def _static(
    b: JaxBuilder,
    x: Value,
    starts: dict[int, Value],
    windows: Windows,
    batch: tuple[Any, ...],
) -> Value | None:
    """One window at a known place: a slice."""
    if batch not in ((), (1,)) or windows.paired:
        return None
    index: list[Any] = [Slice()] * x.type.rank
    for axis, start in starts.items():
        known = constant(start)
        if not isinstance(known, int):
            return None
        length = x.type.shape[axis]
        begin: DimLike = known + length if known < 0 else known
        end = begin + windows.sizes[axis]
        if not (b.takes(begin, 0) and b.takes(length, end)):
            return None
        index[axis] = Slice(begin, end)
        if axis in windows.dropped:
            index[axis] = begin
    for axis in windows.dropped:
        if isinstance(index[axis], Slice):
            index[axis] = 0
    return b.resize(b.getitem(x, index=tuple(index)), b.outs[0].shape)


def _along_axis(
    b: JaxBuilder,
    x: Value,
    starts: dict[int, Value],
    windows: Windows,
    fill: float | None,
) -> Value | None:
    """Elements at one index array an axis, all other axes in step with it."""
    rank = x.type.rank
    if len(starts) != 1 or windows.offsets or len(windows.paired) != rank - 1:
        return None
    if rank == 1:
        return None
    ((axis, index),) = starts.items()
    others = tuple(i for i in range(rank) if i != axis)
    if windows.paired != others or windows.with_ != others or index.type.rank != rank:
        return None
    return b.take_along_axis(x, index, axis=axis, fill=fill)


def _general(
    b: JaxBuilder,
    x: Value,
    starts: dict[int, Value],
    windows: Windows,
    batch: tuple[Any, ...],
    fill: float | None,
) -> Value:
    made = plan(b, x.type.shape, starts, batch, windows, every=fill is not None)
    used = [(axis, i) for axis, i in enumerate(made.indices) if i is not None]
    if not used:
        found = b.resize(x, (*(1 for _ in batch), *x.type.shape))
        found = b.expand(found, (*batch, *x.type.shape))
        return _arranged(b, found, made, windows, 0, list(range(x.type.rank)))
    whole = [a for a in range(x.type.rank) if made.indices[a] is None]
    if len(used) == 1 and not made.wide and not windows.paired:
        ((axis, index),) = used
        low = b.interval(index).low
        negative = isinstance(low, int) and low < 0  # which embeddings do not take
        asked = fill is not None and not math.isnan(fill)
        if _is_table(b, x) and axis == 0 and not negative and not asked:
            found = b.embedding(index, x)
        else:
            found = b.take(x, index, axis=axis, fill=fill)
        return _arranged(b, found, made, windows, axis, whole)
    indices = made.indices
    while indices[-1] is None:
        indices = indices[:-1]
    found = b.index(x, *indices, fill=fill)
    at = arrays_first(indices)
    if joined(made) != made.joint:
        shape = found.type.shape
        end = at + len(joined(made))
        found = b.expand(found, (*shape[:at], *made.joint, *shape[end:]))
    return _arranged(b, found, made, windows, at, whole)


def _is_table(b: JaxBuilder, x: Value) -> bool:
    """Whether x is a matrix that the model holds: rows of it are embeddings."""
    while x.producer is not None and x.producer.op == "astype":
        (source,) = x.producer.inputs
        assert isinstance(source, Value)
        x = source
    kept = b.lowering.params.get(x)
    return kept is not None and kept.kind == "parameter" and x.type.rank == 2


def _arranged(
    b: JaxBuilder,
    found: Value,
    made: Plan,
    windows: Windows,
    at: int,
    whole: list[int],
) -> Value:
    """Axes of what was indexed, in the order of the result; dropped ones of size 1 go."""
    rank, batch = len(made.joint), len(made.joint) - len(made.wide)
    names: list[tuple[str, int]] = [("whole", a) for a in whole]
    arrays = [("batch", i) for i in range(batch)] + [("axis", a) for a in made.wide]
    names[at:at] = arrays
    if len(names) != found.type.rank:
        raise GraphError(f"gather of rank {rank}: lost an axis")
    wanted: list[tuple[str, int]] = []
    batches = iter(range(batch))
    window = iter(windows.kept)
    for i in range(len(windows.offsets) + batch):
        if i not in windows.offsets:
            wanted.append(("batch", next(batches)))
            continue
        axis = next(window)
        wanted.append(("axis", axis) if axis in made.wide else ("whole", axis))
    order = [names.index(n) for n in wanted if n in names]
    order += [i for i in range(len(names)) if i not in order]
    found = b.transpose(found, tuple(order))
    return b.resize(found, b.outs[0].shape)
