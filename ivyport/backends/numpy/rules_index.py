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
    one_axis,
    over_trailing_axes,
    rows_agree,
    tidy,
)
from ivyport.core.ir import Slice, Value
from ivyport.core.ops import normalize

RULES, emits = rule_table()

#: What combines a value with what is there.
UFUNCS = {
    "add": "np.add",
    "max": "np.maximum",
    "min": "np.minimum",
    "mul": "np.multiply",
}


@emits("slice_update")
def slice_update(
    e: Exprs, x: ast.expr, values: ast.expr, *, index: tuple[Any, ...]
) -> ast.expr:
    items = [index_item(e, i) for i in tidy(index, e.type(0).shape)]
    where: Any = items[0] if len(items) == 1 else tuple(items)
    return e.rt("with_items", x, where if items else ast.Constant(...), values)


@emits("index")
def index(
    e: Exprs, x: ast.expr, *indices: ast.expr | None, fill: float | None
) -> ast.expr:
    if fill is not None:
        return e.rt("index_or_fill", x, index_items(e, indices), fill_value(e, fill))
    return e.index(x, colons(indices))


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
            return e.rt("added_where", x, mask, values)
        return e.call("np.where", mask, values, x)
    where = index_items(e, indices)
    how = e.name("np.add") if accumulate else OMIT
    if drop:
        return e.rt("put_inside", x, where, values, how)
    only = where[0] if len(where) == 1 else where
    if accumulate:
        return e.rt("combined_at", x, only, values, how)
    return e.rt("with_items", x, only, values)


@emits("index_reduce")
def index_reduce(
    e: Exprs,
    x: ast.expr,
    values: ast.expr,
    *indices: ast.expr | None,
    mode: str,
    drop: bool,
) -> ast.expr:
    function = "put_inside" if drop else "combined_at"
    return e.rt(function, x, index_items(e, indices), values, e.name(UFUNCS[mode]))


@emits("take")
def take(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    before = (Slice(),) * normalize(axis, e.type(0).rank)
    if fill is not None:
        items = (*(index_item(e, i) for i in before), indices)
        return e.rt("index_or_fill", x, items, fill_value(e, fill))
    return e.index(x, [*before, indices])


@emits("take_along_axis")
def take_along_axis(
    e: Exprs, x: ast.expr, indices: ast.expr, *, axis: int, fill: float | None
) -> ast.expr:
    along = one_axis(axis, e.out.rank)
    if fill is not None:
        where = e.rt("along_axis", indices, along)
        return e.rt("index_or_fill", x, where, fill_value(e, fill))
    if rows_agree(e.type(0), e.type(1), axis):
        return e.call("np.take_along_axis", x, indices, axis=along)
    return e.index(x, [e.rt("along_axis", indices, along)])


@emits("scatter")
def scatter(
    e: Exprs, x: ast.expr, index: ast.expr, values: ast.expr, *, axis: int, mode: str
) -> ast.expr:
    source = e.node.inputs[2]
    if isinstance(source, Value):
        sizes = e.type(1).shape
        items = tidy(tuple(Slice(0, n) for n in sizes), source.type.shape)
        values = e.index(values, items) if items else values
    where = e.rt("along_axis", index, one_axis(axis, e.out.rank))
    if mode == "set":
        return e.rt("with_items", x, where, values)
    return e.rt("combined_at", x, where, values, e.name(UFUNCS[mode]))
