"""Rules for the operations of `ivyport.core.ops` that select or replace elements."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, rule_table
from ivyport.backends.spelling import (
    colons,
    fill_value,
    index_item,
    index_items,
    is_hole,
    one_axis,
    over_trailing_axes,
    tidy,
    unless,
)
from ivyport.backends.torch.spell import index_of, long, scalar_of, tensor
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import normalize

RULES, emits = rule_table()

REDUCTIONS = {"add": "sum", "max": "amax", "min": "amin", "mul": "prod"}


@emits("slice_update")
def slice_update(
    e: Exprs, x: ast.expr, values: ast.expr, *, index: tuple[Any, ...]
) -> ast.expr:
    items = tidy(index, e.type(0).shape)
    only = items[-1] if items and all(i == Slice() for i in items[:-1]) else None
    if only is not None and _fits(e, items):
        axis = len(items) - 1
        if not isinstance(only, Slice):
            return e.method(x, "select_scatter", values, axis, only)
        return e.method(
            x,
            "slice_scatter",
            values,
            unless(axis, 0),
            start=unless(only.start, None),
            end=unless(only.stop, None),
            step=unless(only.step, 1),
        )
    where = tuple(index_item(e, i) for i in items) or ast.Constant(...)
    return e.rt("with_items", x, where, values)


def _fits(e: Exprs, items: list[Any]) -> bool:
    """Whether the values have exactly the shape of what they replace."""
    values = e.node.inputs[1]
    axis, last = len(items) - 1, items[-1]
    if not isinstance(values, Value) or isinstance(last, NewAxis):
        return False
    shape = e.type(0).shape
    if isinstance(last, Slice):
        same = values.type.rank == len(shape)
        others = (*values.type.shape[:axis], *values.type.shape[axis + 1 :])
        # The length along the axis is the slice's own, unless it broadcasts.
        same = same and (values.type.shape[axis] != 1 or _length_is_one(last))
    else:
        same, others = True, values.type.shape
    return same and others == (*shape[:axis], *shape[axis + 1 :])


def _length_is_one(item: Slice) -> bool:
    bounds = (item.start or 0, item.stop)
    known = item.step == 1 and not is_hole(bounds) and item.stop is not None
    return known and item.stop - bounds[0] == 1  # type: ignore[operator]  # a number or size, says `known`


@emits("index")
def index(
    e: Exprs, x: ast.expr, *indices: ast.expr | None, fill: float | None
) -> ast.expr:
    where = _indices(e, indices, 1)
    if fill is not None:
        return e.rt("index_or_fill", x, index_items(e, where), fill_value(e, fill))
    return e.index(x, colons(where))


def _indices(
    e: Exprs, indices: tuple[ast.expr | None, ...], first: int
) -> tuple[ast.expr | None, ...]:
    return tuple(
        None if i is None else index_of(e, i, first + k) for k, i in enumerate(indices)
    )


@emits("index_update")
def index_update(
    e: Exprs,
    x: ast.expr,
    values: ast.expr,
    *indices: ast.expr | None,
    accumulate: bool,
    drop: bool,
) -> ast.expr:
    first = e.node.inputs[2]
    if isinstance(first, Value) and first.type.dtype == "bool":
        mask = over_trailing_axes(e, indices, first.type)
        if accumulate:
            # Of two numbers torch would make float32.
            values = tensor(e, values, 1)
            return e.binary("+", x, e.call("torch.where", mask, values, 0))
        if scalar_of(e, 1):
            return e.method(x, "masked_fill", mask, values)
        return e.call("torch.where", mask, values, x)
    where = _indices(e, indices, 2)
    if drop:
        how = "sum" if accumulate else OMIT
        return e.rt("put_inside", x, index_items(e, where), values, reduce=how)
    while where[-1] is None:
        where = where[:-1]
    if None not in where and not scalar_of(e, 1):
        added = unless(accumulate, False)
        return e.method(x, "index_put", where, values, accumulate=added)
    if accumulate:
        return e.rt("with_added", x, list(where), values)
    items = [index_item(e, Slice()) if i is None else i for i in where]
    only = items[0] if len(items) == 1 else tuple(items)
    return e.rt("with_items", x, only, values)


@emits("take")
def take(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    before = (Slice(),) * normalize(axis, e.type(0).rank)
    where = index_of(e, indices, 1)
    if fill is not None:
        items = (*(index_item(e, i) for i in before), where)
        return e.rt("index_or_fill", x, items, fill_value(e, fill))
    return e.index(x, [*before, where])


@emits("take_along_axis")
def take_along_axis(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    along, where = one_axis(axis, e.out.rank), long(e, indices, 1)
    if fill is not None:
        return e.rt("gather_or_fill", x, along, where, fill_value(e, fill))
    return e.method(x, "gather", along, where)


@emits("scatter")
def scatter(
    e: Exprs, x: ast.expr, index: ast.expr, values: ast.expr, *, axis: int, mode: str
) -> ast.expr:
    along, where = one_axis(axis, e.out.rank), long(e, index, 1)
    if mode == "set":
        return e.method(x, "scatter", along, where, values)
    if scalar_of(e, 2):
        return e.rt("scatter_number", x, along, where, values, REDUCTIONS[mode])
    if mode == "add":
        return e.method(x, "scatter_add", along, where, values)
    return e.method(x, "scatter_reduce", along, where, values, REDUCTIONS[mode])
