"""What `gather` and `scatter` index: integer-array indexing as numpy has it.

Both take windows of an operand at starts that an array gives. Any of them is indexing by arrays
that broadcast to the windows' shape; axes that are taken whole need none.
https://openxla.org/xla/operation_semantics#gather
"""

from __future__ import annotations

import dataclasses

from ivyport.core.dims import Dim, DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Slice, Value
from ivyport.core.ops import broadcast
from ivyport.core.passes.match import constant
from ivyport.core.ranges import at_most
from ivyport.frontends.jax.registry import JaxBuilder

Axes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Windows:
    """Dimension numbers of both primitives by one set of names.

    Attributes:
        sizes: of the window along each axis of the operand.
        dropped: axes of the operand (windows of size 1) that the windows do not have.
        starts: axes of the operand that the last axis of the indices gives starts for.
        paired: axes of the operand that run in step with the axes `with_` of the indices.
        offsets: axes of the result (of the updates) that are those of the window.
    """

    sizes: tuple[DimLike, ...]
    dropped: Axes
    starts: Axes
    paired: Axes
    with_: Axes
    offsets: Axes

    @property
    def kept(self) -> Axes:
        """Axes of the operand that the windows have, in order."""
        gone = {*self.dropped, *self.paired}
        return tuple(a for a in range(len(self.sizes)) if a not in gone)


def component(b: JaxBuilder, indices: Value, position: int) -> Value:
    """``indices[..., position]``, from before they were joined where that is known."""
    last = indices.type.rank - 1
    node = indices.producer
    if node is not None and node.op == "concat" and node.attrs["axis"] in (last, -1):
        for part in node.inputs:
            assert isinstance(part, Value)
            width = part.type.shape[last]
            if not isinstance(width, int):
                break
            if position < width:
                return component(b, part, position)
            position -= width
    if indices.type.shape[last] == 1:
        return _without_last(b, indices)
    return b.getitem(indices, index=(*(Slice(),) * last, position))


def _without_last(b: JaxBuilder, x: Value) -> Value:
    """x without its last axis, of size 1; undoes the reshape that added it."""
    shape = x.type.shape[:-1]
    node = x.producer
    while node is not None and node.op in ("reshape", "broadcast_to"):
        source = node.inputs[0]
        assert isinstance(source, Value)
        if source.type.shape == shape:
            return source
        node = source.producer
    return b.resize(x, shape)


def unwrapped(index: Value, size: DimLike) -> Value | None:
    """The index before ``where(i < 0, i + size, i)``, which counts from the end; else None."""
    node = index.producer
    while (
        node is not None and node.op == "reshape"
    ):  # of a scalar, or with axes of size one
        inner = node.inputs[0]
        if not isinstance(inner, Value) or inner.type.shape != index.type.shape:
            return None
        index, node = inner, inner.producer
    if node is None or node.op != "where":
        return None
    condition, added, plain = node.inputs
    if not isinstance(plain, Value) or plain.type != index.type:
        return None
    test = condition.producer if isinstance(condition, Value) else None
    total = added.producer if isinstance(added, Value) else None
    if test is None or total is None or test.op != "less" or total.op != "add":
        return None
    if test.inputs[0] is not plain or constant(test.inputs[1]) != 0:
        return None
    for one, other in (total.inputs, total.inputs[::-1]):
        if one is plain and constant(other) == size:
            return plain
    return None


def within(b: JaxBuilder, index: Value, last: DimLike) -> bool:
    """Whether the index is proved to be in 0 ... last."""
    found = b.interval(index)
    return at_most(0, found.low) and at_most(found.high, last)


def counted(
    b: JaxBuilder, start: Value, length: DimLike, size: DimLike, paired: bool
) -> tuple[Value, bool]:
    """The start of a window of `size` along an axis of `length`; whether it may be outside.

    What is returned counts from the end where it is negative, and a window that would begin
    before the axis or end behind it has moved behind it, with all of its elements. A `paired`
    start that is never outside is not negative: `take_along_axis` takes no such index.

    Raises:
        GraphError: the window is the whole axis, and may begin elsewhere than at 0.
    """
    plain = unwrapped(start, length) if size == 1 else None
    if within(b, start, length - size):
        natural = plain is not None and at_most(0, b.interval(plain).low)
        return (start if plain is None or (paired and not natural) else plain), False
    if plain is not None:
        return plain, True
    if length == size and size != 1:
        raise GraphError(f"a window of a whole axis (of {size}) at a computed place")
    outside = b.less(start, Scalar(0))
    if size != 1:
        outside = b.logical_or(outside, b.greater(start, Scalar(length - size)))
    elif at_most(0, b.interval(start).low):
        return start, True
    return b.where(outside, Scalar(length), start), True


def clamped(b: JaxBuilder, index: Value, last: DimLike) -> Value:
    """The index within 0 ... last."""
    known = constant(index)
    if isinstance(known, int) and isinstance(last, int) and 0 <= known <= last:
        return index
    if isinstance(last, Dim):
        return b.minimum(b.maximum(index, Scalar(0)), Scalar(last))
    return b.clip(index, min=0, max=last)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Indices an axis (None: taken whole), and how their result is laid out.

    `joint` is the shape that the index arrays broadcast to: the axes of `indices` but the last,
    then the windows' axes that are not taken whole (`wide`).
    """

    indices: tuple[Value | None, ...]
    joint: tuple[DimLike, ...]
    wide: Axes


def plan(
    b: JaxBuilder,
    shape: tuple[DimLike, ...],
    starts: dict[int, Value],
    batch: tuple[DimLike, ...],
    windows: Windows,
    *,
    every: bool = False,
) -> Plan:
    """Index arrays for an operand of `shape`; `starts` by axis, each of the shape `batch`.

    With `every`, axes of size 1 are indexed too: without, they are taken whole.
    """
    wide = tuple(
        a for a in windows.kept if a in windows.starts and windows.sizes[a] != shape[a]
        and windows.sizes[a] != 1
    )  # fmt: skip
    joint = (*batch, *(windows.sizes[a] for a in wide))
    rank = len(joint)
    found: list[Value | None] = []
    for axis in range(len(shape)):
        if axis in windows.paired:
            at = windows.with_[windows.paired.index(axis)]
            found.append(_count(b, shape[axis], at, rank))
        elif axis in starts and (
            windows.sizes[axis] != shape[axis] or (every and shape[axis] == 1)
        ):
            start = _padded_rank(b, starts[axis], rank)
            if axis in wide:
                at = len(batch) + wide.index(axis)
                start = b.add(start, _count(b, windows.sizes[axis], at, rank))
            found.append(start)
        else:
            found.append(None)
    return Plan(tuple(found), joint, wide)


def _padded_rank(b: JaxBuilder, x: Value, rank: int) -> Value:
    return b.resize(x, (*x.type.shape, *(1,) * (rank - x.type.rank)))


def _count(b: JaxBuilder, size: DimLike, at: int, rank: int) -> Value:
    line = b.arange(start=0, stop=size, step=1, dtype="int32")
    return b.resize(line, tuple(size if i == at else 1 for i in range(rank)))


def arrays_first(indices: tuple[Value | None, ...]) -> int:
    """The axis of the result of `index` at which the broadcast index arrays stand."""
    positions = [i for i, x in enumerate(indices) if x is not None]
    adjacent = positions == list(range(positions[0], positions[-1] + 1))
    return positions[0] if adjacent else 0


def joined(plan_: Plan) -> tuple[DimLike, ...]:
    """The shape that the index arrays broadcast to by themselves."""
    return broadcast(*(i.type.shape for i in plan_.indices if i is not None))
