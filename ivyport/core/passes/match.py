"""What patterns are made of: numbers, products, and tensors seen through changes of shape.

A `View` says that every axis of a tensor is an axis of another tensor or constant along it. With
it a pattern need not care whether the source wrote ``keepdims=True``, ``[..., None]``, a reshape,
a transpose or an explicit broadcast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from ivyport.core import opdef
from ivyport.core.dims import Dim, DimLike, product
from ivyport.core.ir import NewAxis, Node, Scalar, Slice, Value

Axes = tuple[int | None, ...]
VIEWS = ("getitem", "reshape", "broadcast_to", "permute_dims")
STOPS = ("stop_gradient",)
"""Operations whose value is their operand's, but not their gradient."""


def made_by(value: Any, *ops: str) -> Node | None:
    """The node that made `value`, if it is one of `ops`."""
    producer = value.producer if isinstance(value, Value) else None
    return producer if producer is not None and producer.op in ops else None


def constant(operand: Any) -> bool | int | float | Dim | None:
    """The one number (or size) that an operand holds everywhere; None if it is not known.

    A constant that was cast is none: its value depends on both dtypes.
    """
    while True:
        if isinstance(operand, Scalar):
            return operand.value
        node = made_by(operand, "full", *VIEWS)
        if node is None:
            return None
        if node.op == "full":
            return node.attrs["value"]
        operand = node.inputs[0]


def constant_or_cast_size(operand: Any) -> bool | int | float | Dim | None:
    """`constant`, and symbolic sizes that were cast, as a mean casts what it divides by."""
    node = made_by(operand, "astype", *VIEWS)
    if node is None:
        return constant(operand)
    value = constant_or_cast_size(node.inputs[0])
    return None if node.op == "astype" and not isinstance(value, Dim) else value


def number(operand: Any) -> float | None:
    """`constant` where it is a number."""
    value = constant(operand)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def same32(a: float, b: float) -> bool:
    """Equal as float32 numbers."""
    return bool(np.float32(a) == np.float32(b))


def close32(a: float, b: float) -> bool:
    """Equal up to the rounding of two float32 operations: 1 / sqrt(2) is not sqrt(1 / 2)."""
    return abs(a - b) <= 2 * float(np.finfo(np.float32).eps) * abs(b)


def decimal(value: float) -> float:
    """The shortest decimal that is this float32: sources write 1e-05, graphs round it.

    >>> decimal(9.999999747378752e-06)
    1e-05
    """
    return float(str(np.float32(value)))


def split(node: Node | None) -> tuple[Value, float] | None:
    """The tensor and the number of a commutative node with one constant operand."""
    if node is None:
        return None
    x, y = node.inputs
    for one, other in ((x, y), (y, x)):
        value = number(other)
        if value is not None and isinstance(one, Value) and number(one) is None:
            return one, value
    return None


def pairs(node: Node | None) -> Iterator[tuple[Any, Any]]:
    """Operands of a commutative node in both orders."""
    if node is not None:
        x, y = node.inputs
        yield x, y
        yield y, x


def alike(a: Any, b: Any, depth: int = 6) -> bool:
    """Whether two operands are one value, or made alike of the same values."""
    if a is b:
        return True
    if isinstance(a, Scalar) and isinstance(b, Scalar):
        return repr(a.value) == repr(b.value)
    if not isinstance(a, Value) or not isinstance(b, Value) or a.type != b.type:
        return False
    one, other = a.producer, b.producer
    if one is None or other is None or depth == 0 or one.op != other.op:
        return False
    if opdef.get(one.op).random:
        return False
    return (
        one.outputs.index(a) == other.outputs.index(b)
        and len(one.inputs) == len(other.inputs)
        and repr(one.attrs) == repr(other.attrs)
        and all(
            alike(x, y, depth - 1)
            for x, y in zip(one.inputs, other.inputs, strict=True)
        )
    )


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor as another one: axis i is `base`'s axis ``axes[i]``, or constant where None."""

    base: Value
    axes: Axes

    def then(self, value: Any, through: tuple[str, ...] = ()) -> View | None:
        """This view of `base`, carried on to a tensor that `base` is computed from elementwise.

        `value` has the shape of `base`, up to broadcasting.
        """
        if not isinstance(value, Value):
            return None
        inner = view(value, through=through)
        missing = self.base.type.rank - value.type.rank
        if missing < 0:
            return None
        axes = [
            None if a is None or a < missing else inner.axes[a - missing]
            for a in self.axes
        ]
        return View(inner.base, tuple(axes))

    @property
    def whole(self) -> bool:
        """Whether every axis of the base that is longer than one is seen."""
        return all(
            size == 1 or axis in self.axes
            for axis, size in enumerate(self.base.type.shape)
        )


def view(value: Value, *, through: tuple[str, ...] = ()) -> View:
    """Look through reshapes that only add or drop axes of size one, broadcasts, transposes."""
    axes: Axes = tuple(range(value.type.rank))
    base = value
    while True:
        step = _step(base, through)
        if step is None:
            return View(base, axes)
        base, inner = step
        axes = tuple(None if a is None else inner[a] for a in axes)


def _step(value: Value, through: tuple[str, ...]) -> tuple[Value, Axes] | None:
    node = value.producer
    if node is None or not node.inputs:
        return None
    x = node.inputs[0]
    if not isinstance(x, Value):
        return None
    if node.op in through:
        return x, tuple(range(x.type.rank))
    if node.op == "broadcast_to":
        return x, _broadcast(x.type.shape, value.type.shape)
    if node.op == "permute_dims":
        return x, tuple(a % x.type.rank for a in node.attrs["axes"])
    axes = None
    if node.op == "reshape":
        axes = _units(x.type.shape, value.type.shape)
    elif node.op == "getitem":
        axes = _indexed(x, node.attrs["index"])
    return None if axes is None else (x, axes)


def _broadcast(old: tuple[DimLike, ...], new: tuple[DimLike, ...]) -> Axes:
    missing = len(new) - len(old)
    return tuple(
        None if i < missing or old[i - missing] != size else i - missing
        for i, size in enumerate(new)
    )


def _units(old: tuple[DimLike, ...], new: tuple[DimLike, ...]) -> Axes | None:
    """Axes of a reshape that only adds or drops axes of size one."""
    kept = [i for i, size in enumerate(old) if size != 1]
    if [old[i] for i in kept] != [size for size in new if size != 1]:
        return None
    rest = iter(kept)
    return tuple(None if size == 1 else next(rest) for size in new)


def _indexed(x: Value, index: tuple[Any, ...]) -> Axes | None:
    """Axes of an index that only adds axes, or drops axes of size one."""
    axes: list[int | None] = []
    axis = 0
    for item in index:
        if isinstance(item, NewAxis):
            axes.append(None)
            continue
        if item == Slice():
            axes.append(axis)
        elif x.type.shape[axis] != 1 or not isinstance(item, int):
            return None
        axis += 1
    return (*axes, *range(axis, x.type.rank))


def correspondence(a: Value, b: Value) -> dict[int, int] | None:
    """Axes of `a` to axes of `b`, if both hold the same elements up to order and unit axes."""
    if alike(a, b):
        return {i: i for i in range(a.type.rank)}
    one, other = view(a), view(b)
    if not alike(one.base, other.base) or not (one.whole and other.whole):
        return None
    for seen in (one, other):
        kept = [x for x in seen.axes if x is not None]
        if len(set(kept)) != len(kept):
            return None
    for value, seen in ((a, one), (b, other)):
        sizes = zip(value.type.shape, seen.axes, strict=True)
        if any(axis is None and size != 1 for size, axis in sizes):
            return None
    places = {axis: i for i, axis in enumerate(other.axes) if axis is not None}
    return {
        i: places[axis]
        for i, axis in enumerate(one.axes)
        if axis is not None and axis in places
    }


def reduced(
    seen: View | None, x: Value, *ops: str
) -> tuple[Node, tuple[int, ...]] | None:
    """The reduction of `x` that a view (of a tensor that broadcasts against x) shows.

    Returns its node and the axes of `x` that it reduces over, sorted. Every other axis of x is
    the same axis of the view, so that ``x - view`` subtracts from each element its own row's.
    """
    node = made_by(seen.base, *ops) if seen is not None else None
    if node is None or seen is None or not isinstance(node.inputs[0], Value):
        return None
    source = node.inputs[0]
    axes = axes_of(node)
    where = correspondence(source, x)
    if where is None:
        return None
    result = {a: a for a in range(source.type.rank)}
    if not node.attrs["keepdims"]:
        kept = [a for a in range(source.type.rank) if a not in axes]
        result = {a: kept.index(a) for a in kept}
    back = {i: a for a, i in where.items()}
    missing = x.type.rank - len(seen.axes)
    if missing < 0:
        return None
    for i, size in enumerate(x.type.shape):
        shown = seen.axes[i - missing] if i >= missing else None
        axis = back.get(i)
        if shown is None:
            if size != 1 and axis not in axes:
                return None
        elif axis is None or result.get(axis) != shown:
            return None
    return node, tuple(sorted(where[a] for a in axes if a in where))


def axes_of(node: Node) -> tuple[int, ...]:
    """Axes that a reduction runs over, not negative."""
    x = node.inputs[0]
    assert isinstance(x, Value)
    axis = node.attrs["axis"]
    if axis is None:
        return tuple(range(x.type.rank))
    return tuple(sorted(a % x.type.rank for a in axis))


def extent(x: Value, axes: tuple[int, ...]) -> DimLike:
    """How many elements a reduction over `axes` takes together."""
    return product(x.type.shape[a] for a in axes)


def equals_size(operand: Any, size: DimLike) -> bool:
    """Whether an operand is that size, a number or symbolic."""
    value = constant_or_cast_size(operand)
    if isinstance(value, Dim) or isinstance(size, Dim):
        return value == size
    return value is not None and not isinstance(value, bool) and value == size


def squared(value: Any) -> Value | None:
    """x of ``x ** 2``, however it is written."""
    node = made_by(value, "square")
    if node is not None and isinstance(node.inputs[0], Value):
        return node.inputs[0]
    node = made_by(value, "pow")
    if node is not None and number(node.inputs[1]) == 2:
        return node.inputs[0] if isinstance(node.inputs[0], Value) else None
    node = made_by(value, "multiply")
    if node is not None and isinstance(node.inputs[0], Value):
        return node.inputs[0] if alike(node.inputs[0], node.inputs[1]) else None
    return None


def factors(value: Any, stop: tuple[Any, ...] = (), depth: int = 4) -> list[Any]:
    """Operands of a product of any association; what is in `stop` is not taken apart."""
    node = made_by(value, "multiply")
    if node is None or depth == 0 or any(alike(value, s) for s in stop):
        return [value]
    return [f for x in node.inputs for f in factors(x, stop, depth - 1)]


def without(items: list[Any], *removed: Any) -> list[Any] | None:
    """The list without one of each of `removed`; None if one is not in it."""
    rest = list(items)
    for item in removed:
        found = next((i for i, x in enumerate(rest) if alike(x, item)), None)
        if found is None:
            return None
        del rest[found]
    return rest


def floating(value: Any) -> bool:
    """Whether `value` is of a precision in which reordering sums is harmless."""
    return isinstance(value, Value) and value.type.dtype in ("float32", "float64")
