"""Parts of a tensor: proving that slices cover it exactly, and putting them together.

A row that splits or stacks tensors names its part by a box. The parts of one tensor
must tile it, without gap or overlap: only then do they determine it, in both
directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from ivyport.core.errors import WeightsError
from ivyport.weights.safetensors import Array, Shape
from ivyport.weights.transform import Slice, Transform, transform_shape

# start and stop of each sliced axis; the other axes are whole.
Box = dict[int, tuple[int, int]]


@dataclass(frozen=True)
class Chain:
    """A row's transforms: invertible ones, slices (one box), invertible ones."""

    before: tuple[Transform, ...]
    box: Box
    after: tuple[Transform, ...]


def split_chain(transforms: Sequence[Transform]) -> Chain:
    """Find the box of a chain; WeightsError if its slices are not adjacent."""
    at = [i for i, transform in enumerate(transforms) if isinstance(transform, Slice)]
    if not at:
        return Chain(tuple(transforms), {}, ())
    slices = [
        item for item in transforms[at[0] : at[-1] + 1] if isinstance(item, Slice)
    ]
    if len(slices) != at[-1] + 1 - at[0]:
        raise WeightsError("the slices of a row must follow each other directly")
    return Chain(
        tuple(transforms[: at[0]]), make_box(slices), tuple(transforms[at[-1] + 1 :])
    )


def make_box(slices: Sequence[Slice]) -> Box:
    """One box of successive slices; of one axis, the later counts in the earlier."""
    box: Box = {}
    for item in slices:
        first, last = box.get(item.axis, (0, item.stop))
        if first + item.stop > last:
            raise WeightsError(f"{item} is outside of the slice of this axis before it")
        box[item.axis] = (first + item.start, first + item.stop)
    return box


def window(array: Array, box: Box) -> Array:
    """The view of a box of an array that contains it."""
    index = tuple(
        slice(*box[a]) if a in box else slice(None) for a in range(array.ndim)
    )
    result: Array = array[index]
    return result


def window_shape(shape: Shape, box: Box) -> Shape:
    """The shape of a box in a tensor; WeightsError if the box reaches outside."""
    slices = [Slice(axis, start, stop) for axis, (start, stop) in sorted(box.items())]
    return transform_shape(slices, shape)


def whole_shape(parts: Sequence[tuple[Box, Shape]]) -> Shape:
    """The shape of the tensor that parts tile; WeightsError unless they tile one."""
    ranks = {len(shape) for _, shape in parts}
    if len(ranks) != 1:
        raise WeightsError(f"its parts have different numbers of axes: {sorted(ranks)}")
    rank = ranks.pop()
    shape = [0] * rank
    for box, part in parts:
        beyond = [axis for axis in box if axis >= rank]
        if beyond:
            raise WeightsError(f"axis {beyond[0]} is sliced in a part of {rank} axes")
        for axis in range(rank):
            stop = box[axis][1] if axis in box else part[axis]
            shape[axis] = max(shape[axis], stop)
    whole = tuple(shape)
    for box, part in parts:
        if window_shape(whole, box) != part:
            raise WeightsError(
                f"a part of shape {list(part)} does not fit {_text(box)} of the whole "
                f"{list(whole)}"
            )
    check_tiling([box for box, _ in parts], whole)
    return whole


def check_tiling(boxes: Sequence[Box], shape: Shape) -> None:
    """Prove that boxes cover a shape without gap or overlap; WeightsError otherwise.

    Boxes inside the shape that are pairwise disjoint, and whose volumes add up to the
    shape's, tile it.
    """
    volume = sum(math.prod(window_shape(shape, box)) for box in boxes)
    for one, two in _candidates(boxes):
        if _overlap(one, two):
            raise WeightsError(f"the parts {_text(one)} and {_text(two)} overlap")
    if volume != math.prod(shape):
        raise WeightsError(
            f"its parts cover {volume} of the {math.prod(shape)} elements of shape "
            f"{list(shape)}: " + "; ".join(_text(box) for box in boxes[:10])
        )


def gather(shape: Shape, parts: Iterable[tuple[Box, Array]], what: str) -> Array:
    """A new array from parts that tile it, taken one at a time, of one dtype."""
    whole: Array | None = None
    for box, part in parts:
        if whole is None:
            whole = np.empty(shape, part.dtype)
        if part.dtype != whole.dtype:
            raise WeightsError(
                f"the parts of {what} have dtypes {whole.dtype.name} and "
                f"{part.dtype.name}; give them one dtype"
            )
        window(whole, box)[...] = part
        del part  # so that its memory is free before the next one is loaded
    if whole is None:
        raise WeightsError(f"{what} has no parts")
    return whole


def _candidates(boxes: Sequence[Box]) -> Sequence[tuple[Box, Box]]:
    """Pairs of boxes that could overlap, at least one pair if any two do."""
    axes = {tuple(sorted(box)) for box in boxes}
    if len(axes) == 1 and len(next(iter(axes))) == 1:
        # The usual case, one axis cut in many: neighbours tell, and sorting is fast.
        (axis,) = next(iter(axes))
        ordered = sorted(boxes, key=lambda box: box[axis])
        return list(pairwise(ordered))
    return list(combinations(boxes, 2))


def _overlap(one: Box, two: Box) -> bool:
    return all(
        one[axis][0] < two[axis][1] and two[axis][0] < one[axis][1]
        for axis in one.keys() & two.keys()
    )


def _text(box: Box) -> str:
    if not box:
        return "all"
    return ", ".join(f"axis {a} {lo}:{hi}" for a, (lo, hi) in sorted(box.items()))
