"""What the rules of all targets share: axes, defaults, indices as people write them."""

from __future__ import annotations

import ast
import math
from typing import Any

from ivyport.backends.pyast import (
    OMIT,
    Exprs,
    HoleFloat,
    HoleInt,
    attribute,
    call,
    name,
)
from ivyport.core import dims
from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, TensorType, Value
from ivyport.core.ops import normalize
from ivyport.core.ops_nn import Pads, spatial_axes
from ivyport.core.passes.stops import STOP, carries


def is_hole(value: Any) -> bool:
    """Whether an attribute, or a part of it, differs between instances of the class."""
    if isinstance(value, tuple | list):
        return any(is_hole(v) for v in value)
    return isinstance(value, HoleInt | HoleFloat | ast.expr)


def unless(value: Any, default: Any) -> Any:
    """`value` as an argument, left out where it is the callee's default."""
    return OMIT if not is_hole(value) and value == default else value


def present(operand: ast.expr | None) -> Any:
    """An optional operand as an argument, left out where it is absent."""
    return OMIT if operand is None else operand


def one_axis(axis: int, rank: int) -> int:
    """An axis as people write it: -1 for the last, else counted from the front."""
    axis = normalize(axis, rank)
    return -1 if axis == rank - 1 and rank > 1 else axis


def axes(axis: tuple[int, ...], rank: int) -> Any:
    """Several axes as people write them; a single one is a number."""
    if len(axis) == 1:
        return one_axis(axis[0], rank)
    return tuple(normalize(a, rank) for a in axis)


def other_axes(axis: int, rank: int) -> Any:
    """All axes but one, as people write them."""
    return axes(tuple(a for a in range(rank) if a != axis % rank), rank)


def softmax_axis(axis: int, rank: int) -> int:
    """Like `one_axis`, and -1 is the only axis of a vector too."""
    return -1 if axis % max(rank, 1) == rank - 1 else one_axis(axis, rank)


def whole(number: float) -> float:
    """A number as people write it: 2 for 2.0."""
    finite = abs(number) != float("inf")
    return int(number) if finite and number == int(number) else number


def range_bounds(start: Any, stop: Any, step: Any) -> list[Any]:
    """The arguments of a range, its defaults left out."""
    bounds = [stop] if start == 0 and step == 1 else [start, stop]
    return bounds if step == 1 else [*bounds, step]


def permuted(
    e: Exprs, x: ast.expr, axes: tuple[int, ...], *, swap: str, permute: str
) -> ast.expr:
    """x with its axes in this order; `swap` and `permute` are the target's methods."""
    rank = len(axes)
    axes = tuple(normalize(a, rank) for a in axes)
    moved = [i for i, a in enumerate(axes) if i != a]
    if not moved:
        return x
    if moved == [rank - 2, rank - 1]:
        return attribute(x, "T" if rank == 2 else "mT")
    if len(moved) == 2:
        return e.method(x, swap, *moved)
    return e.method(x, permute, *axes)


def has_gradient(value: Any) -> bool:
    """Whether a float that is given or trained may lead to a value.

    What is made of integers and masks alone has no gradient, and needs no care at kinks.
    """
    seen, pending = set(), [value]
    while pending:
        current = pending.pop()
        if not isinstance(current, Value) or current in seen or not carries(current):
            continue
        seen.add(current)
        maker = current.producer
        if maker is None:
            return True
        if maker.op != STOP:
            pending += maker.values()
    return False


def demand_bool(e: Exprs) -> None:
    """Logic is written with ``& | ~``, which is logic on booleans alone."""
    for operand in e.node.values():
        if operand.type.dtype != "bool":
            raise GraphError(f"{e.node.op} of {operand.type}: cast it to bool first")


def demand_float(e: Exprs) -> None:
    """Raise `GraphError` where the target would turn integers into floats."""
    if dt.is_int(e.out.dtype) or e.out.dtype == "bool":
        raise GraphError(f"{e.node.op} of {e.out}: cast it to a float first")


def tidy(index: tuple[Any, ...], shape: tuple[DimLike, ...]) -> list[Any]:
    """An index without bounds that are the axis' own and without trailing colons."""
    items: list[Any] = []
    axis = 0
    for item in index:
        if isinstance(item, Slice):
            start = None if not is_hole(item.start) and item.start == 0 else item.start
            ends = not is_hole(item.stop) and item.stop == shape[axis]
            items.append(Slice(start, None if ends else item.stop, item.step))
        else:
            items.append(item)
        axis += not isinstance(item, NewAxis)
    while items and items[-1] == Slice():
        items.pop()
    return items


def colons(indices: tuple[ast.expr | None, ...]) -> list[Any]:
    """Operands of `index` as items between brackets; trailing colons go."""
    items: list[Any] = [Slice() if i is None else i for i in indices]
    while items[-1] == Slice():
        items.pop()
    return items


def over_trailing_axes(
    e: Exprs, indices: tuple[ast.expr | None, ...], mask: TensorType
) -> ast.expr:
    """A mask of leading axes, ready to broadcast; no value depends on its size."""
    rest = e.out.rank - mask.rank
    values = e.node.inputs[1]
    if isinstance(values, Value) and values.type.rank > rest:
        selected = values.type.shape[values.type.rank - rest - 1]
        if values.type.rank > rest + 1 or selected != 1:
            raise GraphError(f"{values.type} under a mask: its size depends on data")
    if len(indices) != 1 or indices[0] is None:
        raise GraphError("a boolean mask must be the only index")
    if rest == 0:
        return indices[0]
    return e.index(indices[0], [*(Slice(),) * mask.rank, *(NewAxis(),) * rest])


def in_rows(row: ast.expr, shape: list[ast.expr] | None) -> ast.expr | None:
    """A row as the only one of a tensor of that shape: ``row[None]``; None where it has more."""
    if shape is None:
        return None
    ahead = shape[:-1]
    if not all(isinstance(size, ast.Constant) and size.value == 1 for size in ahead):
        return None
    axes: list[ast.expr] = [ast.Constant(None) for _ in ahead]
    if not axes:
        return row
    index = axes[0] if len(axes) == 1 else ast.Tuple(axes, ast.Load())
    return ast.Subscript(row, index, ast.Load())


def index_item(e: Exprs, item: Any) -> Any:
    """One item of an index as a value: ``slice(1, None)``."""
    if isinstance(item, NewAxis):
        return ast.Constant(None)
    if not isinstance(item, Slice):
        return item
    bounds = [item.stop] if item.start is None else [item.start, item.stop]
    if item.step != 1:
        bounds = [item.start, item.stop, item.step]
    return call(name("slice"), [e.const(b) for b in bounds])


def index_items(e: Exprs, indices: tuple[ast.expr | None, ...]) -> tuple[Any, ...]:
    """An index as a tuple of values; trailing axes need no item."""
    while indices[-1] is None:
        indices = indices[:-1]
    return tuple(index_item(e, Slice()) if i is None else i for i in indices)


def rows_agree(x: TensorType, indices: TensorType, axis: int) -> bool:
    """Whether indices along an axis have the tensor's sizes along all others."""
    along = normalize(axis, x.rank)
    sizes = zip(x.shape, indices.shape, strict=True)
    return all(i == along or a == b for i, (a, b) in enumerate(sizes))


def last_windows(
    e: Exprs,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    layout: str,
) -> list[Any]:
    """What `ceil_mode` pads after each axis, beyond `padding`."""
    if is_hole((kernel, stride, padding, dilation)):
        raise GraphError(f"{e.node.op} with ceil_mode differs between instances")
    x, extra = e.type(0), []
    for i, axis in enumerate(spatial_axes(layout, x.rank)):
        reach = (e.out.shape[axis] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
        extra.append(dims.maximum(reach - x.shape[axis] - sum(padding[i]), 0))
    return extra


def fill_value(e: Exprs, fill: float) -> Any:
    """What an element out of bounds becomes, left out for NaN."""
    return OMIT if dt.is_float(e.out.dtype) and math.isnan(fill) else fill
