"""`scatter`: the functional updates of ``x.at[index]``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from ivyport.core import dtype as dt
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

MODES = {
    "scatter": "set",
    "scatter-add": "add",
    "scatter_add": "add",
    "scatter-sub": "sub",
    "scatter_sub": "sub",
    "scatter-mul": "mul",
    "scatter_mul": "mul",
    "scatter-min": "min",
    "scatter_min": "min",
    "scatter-max": "max",
    "scatter_max": "max",
}


def _scatter(how: str) -> Callable[..., Value]:
    def rule(
        b: JaxBuilder,
        x: Value,
        indices: Value,
        updates: Value,
        *,
        dimension_numbers: Any,
        mode: Any,
        indices_are_sorted: bool,
        unique_indices: bool,
        update_jaxpr: Any,
        update_consts: Any,
    ) -> Value:
        """x with `updates` at `indices`; updates that are out of bounds are dropped or moved."""
        x, indices, updates = (
            b.tensor(v, i) for i, v in enumerate((x, indices, updates))
        )
        if how == "set" and update_jaxpr is not None:
            once = unique_indices or math.prod(indices.type.shape[:-1]) == 1
            applied = _applied(b, x, update_jaxpr, update_consts, once=once)
            chosen = b.full(shape=x.type.shape, value=False, dtype="bool")
            there = b.full(shape=updates.type.shape, value=True, dtype="bool")
            mask = _update(b, how, chosen, indices, there, dimension_numbers, mode)
            return b.where(mask, applied, x)
        _demand_plain(how, update_jaxpr, update_consts)
        if x.type.dtype == "bool" and how != "set":
            x, updates = b.cast(x, "int32"), b.cast(updates, "int32")
            found = _update(b, how, x, indices, updates, dimension_numbers, mode)
            return b.cast(found, "bool")
        if how == "sub":
            updates = b.negative(updates)
        name = "add" if how == "sub" else how
        return _update(b, name, x, indices, updates, dimension_numbers, mode)

    return rule


def _demand_plain(how: str, body: Any, consts: Any) -> None:
    """Refuse a scatter that computes with what is there in some other way.

    Raises:
        GraphError: the computation is not the one that the primitive is named for.
    """
    inner = body.jaxpr if isinstance(body, ClosedJaxpr) else body
    if how == "set" and body is None:
        return
    named = [] if inner is None else [e.primitive.name for e in inner.eqns]
    if how != "set" and not consts and named == [how]:
        return
    raise GraphError("a function of elements and their updates")


def _applied(b: JaxBuilder, x: Value, body: Any, consts: Any, *, once: bool) -> Value:
    """The function of ``x.at[i].apply(function)`` of all elements.

    Raises:
        GraphError: an element may be named twice, for which it is applied twice.
    """
    if not once:
        raise GraphError(
            "x.at[i].apply with indices that may name an element twice: say "
            "unique_indices=True if they do not"
        )
    closed = body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, consts)
    function = jaxpr_as_fun(closed)

    def whole(every: Any) -> Any:
        mapped = function
        for _ in x.type.shape:
            mapped = jax.vmap(mapped, in_axes=(0, None))
        return mapped(every, jnp.zeros((), every.dtype))[0]

    sizes = [str(d) for d in x.type.shape]
    if not all(size.isdecimal() or size.isidentifier() for size in sizes):
        raise GraphError("x.at[i].apply where an axis is as long as several others")
    shape = export.symbolic_shape(", ".join(sizes)) if sizes else ()
    given = jax.ShapeDtypeStruct(shape, dt.to_numpy(x.type.dtype))
    (found,) = b.lowering.inline(jax.make_jaxpr(whole)(given), [x])
    return b.tensor(found)  # type: ignore[arg-type]  # no key


def _update(
    b: JaxBuilder,
    how: str,
    x: Value,
    indices: Value,
    updates: Value,
    numbers: Any,
    mode: Any,
) -> Value:
    windows = _windows(x, updates, numbers)
    starts, drop = _starts(b, x, indices, windows, mode)
    batch = indices.type.shape[:-1]
    windows, starts = _at_zero(b, x, windows, starts, batch)
    fixed = _static(b, how, x, updates, starts, windows, batch)
    if fixed is not None:
        return fixed
    return _general(b, how, x, updates, starts, windows, batch, drop)


def _starts(
    b: JaxBuilder, x: Value, indices: Value, windows: Windows, mode: Any
) -> tuple[dict[int, Value], bool]:
    """Starts by axis; and whether some may be out of bounds, whose updates are dropped."""
    starts: dict[int, Value] = {}
    drop = False
    for position, axis in enumerate(windows.starts):
        start = component(b, indices, position)
        length, size = x.type.shape[axis], windows.sizes[axis]
        if mode.name == "FILL_OR_DROP":
            starts[axis], leaves = counted(b, start, length, size, bool(windows.paired))
            drop |= leaves
            if length == size and size != 1:
                del starts[axis]  # the whole axis, from 0 on
        elif length == size and size != 1:
            continue
        elif mode.name == "CLIP":
            starts[axis] = clamped(b, start, length - size)
        else:
            plain = unwrapped(start, length) if size == 1 else None
            starts[axis] = start if plain is None else plain
    return starts, drop


for _primitive, _mode in MODES.items():
    lowers(_primitive)(_scatter(_mode))


def _windows(x: Value, updates: Value, numbers: Any) -> Windows:
    offsets = tuple(numbers.update_window_dims)
    sizes: list[Any] = [1] * x.type.rank
    gone = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [a for a in range(x.type.rank) if a not in gone]
    for axis, at in zip(kept, offsets, strict=True):
        sizes[axis] = updates.type.shape[at]
    return Windows(
        sizes=tuple(sizes),
        dropped=tuple(numbers.inserted_window_dims),
        starts=tuple(numbers.scatter_dims_to_operand_dims),
        paired=tuple(numbers.operand_batching_dims),
        with_=tuple(numbers.scatter_indices_batching_dims),
        offsets=offsets,
    )


def _at_zero(
    b: JaxBuilder,
    x: Value,
    windows: Windows,
    starts: dict[int, Value],
    batch: tuple[Any, ...],
) -> tuple[Windows, dict[int, Value]]:
    """Explicit starts for axes that are written in part and have none: they begin at 0."""
    fixed = {*windows.starts, *windows.paired}
    cut = [
        axis
        for axis, (size, length) in enumerate(
            zip(windows.sizes, x.type.shape, strict=True)
        )
        if axis not in fixed and size != length
    ]
    if not cut:
        return windows, starts
    zero = b.full(shape=batch, value=0, dtype="int32")
    windows = dataclasses.replace(windows, starts=(*windows.starts, *cut))
    return windows, {**starts, **dict.fromkeys(cut, zero)}


def _static(
    b: JaxBuilder,
    how: str,
    x: Value,
    updates: Value,
    starts: dict[int, Value],
    windows: Windows,
    batch: tuple[Any, ...],
) -> Value | None:
    """One window at a known place."""
    if batch not in ((), (1,)) or windows.paired or how not in ("set", "add"):
        return None
    index: list[Any] = [Slice(0, n) if n != d else Slice() for n, d in zip(
        windows.sizes, x.type.shape, strict=True)]  # fmt: skip
    for axis, start in starts.items():
        known = constant(start)
        length, size = x.type.shape[axis], windows.sizes[axis]
        if not (isinstance(known, int) and isinstance(size, int)):
            return None
        least = length if isinstance(length, int) else 1  # no axis is empty
        if known < 0 or known + size > least:
            return None
        index[axis] = Slice(known, known + size)
    for axis in windows.dropped:
        start = index[axis].start
        index[axis] = 0 if start is None else start
    shape = tuple(windows.sizes[a] for a in windows.kept)
    updates = b.resize(_batch_first(b, updates, windows), shape)
    if how == "add":
        updates = b.add(b.getitem(x, index=tuple(index)), updates)
    return b.slice_update(x, updates, index=tuple(index))


def _batch_first(b: JaxBuilder, updates: Value, windows: Windows) -> Value:
    """Updates with the axes of the indices first, then those of the windows."""
    rest = [i for i in range(updates.type.rank) if i not in windows.offsets]
    return b.transpose(updates, (*rest, *windows.offsets))


def _general(
    b: JaxBuilder,
    how: str,
    x: Value,
    updates: Value,
    starts: dict[int, Value],
    windows: Windows,
    batch: tuple[Any, ...],
    drop: bool,
) -> Value:
    made = plan(b, x.type.shape, starts, batch, windows, every=True)
    indices = made.indices
    if all(i is None for i in indices):
        return _whole(b, how, x, _batch_first(b, updates, windows), batch)
    while indices[-1] is None:
        indices = indices[:-1]
    values = _values(b, x, updates, made, windows, arrays_first(indices))
    values = _without_repeats(b, values, made, arrays_first(indices), how)
    if how in ("set", "add"):
        return b.index_update(x, values, *indices, accumulate=how == "add", drop=drop)
    return b.index_reduce(x, values, *indices, mode=how, drop=drop)


def _whole(
    b: JaxBuilder, how: str, x: Value, updates: Value, batch: tuple[Any, ...]
) -> Value:
    """An update of all of x."""
    if any(size != 1 for size in batch):
        raise GraphError("updates of the whole operand, several times over")
    updates = b.resize(updates, x.type.shape)
    if how == "set":
        return updates
    ops = {"add": "add", "mul": "multiply", "min": "minimum", "max": "maximum"}
    return b.node(ops[how], (x, updates), {}).output


def _values(
    b: JaxBuilder, x: Value, updates: Value, made: Plan, windows: Windows, at: int
) -> Value:
    """Updates laid out as ``x[indices]`` is."""
    updates = _batch_first(b, updates, windows)
    count = len(made.joint) - len(made.wide)
    place = {axis: count + i for i, axis in enumerate(windows.kept)}
    arrays = [*range(count), *(place[a] for a in made.wide)]
    whole = [a for a in range(x.type.rank) if made.indices[a] is None]
    order = [place[a] for a in whole if a in place]
    before = sum(1 for a in whole[:at] if a in place)
    order[before:before] = arrays
    order += [i for i in range(updates.type.rank) if i not in order]
    updates = b.transpose(updates, tuple(order))
    shape: list[Any] = [windows.sizes[a] for a in whole]
    shape[at:at] = made.joint
    return b.resize(updates, tuple(shape))


def _without_repeats(
    b: JaxBuilder, values: Value, made: Plan, at: int, how: str
) -> Value:
    """Index arrays must span all axes of the indices: else one element is updated twice."""
    if joined(made) != made.joint:
        raise GraphError(
            f"{how} of elements of axes that the indices do not tell apart"
        )
    return values
