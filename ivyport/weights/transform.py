"""Invertible changes of a tensor's layout, as data.

A weight map is stored in `port.json` and applied backwards to send weights home, so its
transforms are values with an inverse and a JSON form, not functions. Applied, they are
views where numpy can give views.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from ivyport.core.errors import WeightsError
from ivyport.weights.safetensors import Array, Shape


class Transform(ABC):
    """One change of layout. Values never change, so that conversion is bit-exact."""

    @abstractmethod
    def apply(self, array: Array) -> Array:
        """The array in the new layout; WeightsError if its shape does not fit."""

    @abstractmethod
    def shape(self, shape: Shape) -> Shape:
        """The shape that `apply` gives an array of `shape`; WeightsError if none."""

    @abstractmethod
    def inverse(self) -> Transform:
        """The transform that undoes this one; WeightsError if there is none."""

    @abstractmethod
    def to_json(self) -> dict[str, list[object]]:
        """A JSON object whose only key is the transform's name."""


@final
@dataclass(frozen=True)
class Permute(Transform):
    """Axis i of the result is axis `axes[i]` of the array (`numpy.transpose`)."""

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if sorted(self.axes) != list(range(len(self.axes))):
            raise WeightsError(f"{list(self.axes)} is not a permutation of axes")

    def apply(self, array: Array) -> Array:
        self.shape(array.shape)
        return array.transpose(self.axes)

    def shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.axes):
            raise WeightsError(
                f"axes {list(self.axes)} do not permute a tensor of shape {list(shape)}"
            )
        return tuple(shape[axis] for axis in self.axes)

    def inverse(self) -> Permute:
        return Permute(tuple(self.axes.index(i) for i in range(len(self.axes))))

    def to_json(self) -> dict[str, list[object]]:
        return {"permute": list(self.axes)}


@final
@dataclass(frozen=True)
class Reshape(Transform):
    """The same elements in C order in another shape; both are kept, to invert it."""

    source_shape: Shape
    target_shape: Shape

    def __post_init__(self) -> None:
        source, target = self.source_shape, self.target_shape
        if min((*source, *target), default=0) < 0:
            raise WeightsError(f"negative sizes in reshape {source} to {target}")
        if math.prod(source) != math.prod(target):
            raise WeightsError(
                f"{list(source)} has {math.prod(source)} elements and cannot be "
                f"reshaped to {list(target)}, which has {math.prod(target)}"
            )

    def apply(self, array: Array) -> Array:
        return array.reshape(self.shape(array.shape))

    def shape(self, shape: Shape) -> Shape:
        if shape != self.source_shape:
            raise WeightsError(
                f"a reshape of {list(self.source_shape)} to {list(self.target_shape)} "
                f"got shape {list(shape)}"
            )
        return self.target_shape

    def inverse(self) -> Reshape:
        return Reshape(self.target_shape, self.source_shape)

    def to_json(self) -> dict[str, list[object]]:
        return {"reshape": [list(self.source_shape), list(self.target_shape)]}


@final
@dataclass(frozen=True)
class Flip(Transform):
    """Reverse the order along some axes (`numpy.flip`)."""

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.axes, default=0) < 0 or len(set(self.axes)) != len(self.axes):
            raise WeightsError(f"{list(self.axes)} are not axes to flip")

    def apply(self, array: Array) -> Array:
        self.shape(array.shape)
        return np.flip(array, self.axes)

    def shape(self, shape: Shape) -> Shape:
        if max(self.axes, default=-1) >= len(shape):
            raise WeightsError(
                f"axes {list(self.axes)} to flip are outside of shape {list(shape)}"
            )
        return shape

    def inverse(self) -> Flip:
        return self

    def to_json(self) -> dict[str, list[object]]:
        return {"flip": list(self.axes)}


@final
@dataclass(frozen=True)
class Slice(Transform):
    """`start:stop` of one axis. It has no inverse: a map's rows invert it together."""

    axis: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if self.axis < 0 or not 0 <= self.start < self.stop:
            raise WeightsError(f"{self} needs axis >= 0 and 0 <= start < stop")

    def apply(self, array: Array) -> Array:
        self.shape(array.shape)
        index = (slice(None),) * self.axis + (slice(self.start, self.stop),)
        result: Array = array[index]
        return result

    def shape(self, shape: Shape) -> Shape:
        # numpy would clip a slice beyond the end without a word.
        if self.axis >= len(shape) or self.stop > shape[self.axis]:
            raise WeightsError(
                f"slice {self.start}:{self.stop} of axis {self.axis} is outside of "
                f"shape {list(shape)}"
            )
        before, after = shape[: self.axis], shape[self.axis + 1 :]
        return (*before, self.stop - self.start, *after)

    def inverse(self) -> Transform:
        raise WeightsError(f"{self} drops elements and has no inverse of its own")

    def to_json(self) -> dict[str, list[object]]:
        return {"slice": [self.axis, self.start, self.stop]}


def apply(transforms: Sequence[Transform], array: Array) -> Array:
    """Apply transforms from first to last; a view where numpy allows."""
    for transform in transforms:
        array = transform.apply(array)
    return array


def invert(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    """The transforms that undo these; WeightsError if one is a Slice."""
    return tuple(transform.inverse() for transform in reversed(transforms))


def transform_shape(transforms: Sequence[Transform], shape: Sequence[int]) -> Shape:
    """The shape after all transforms; WeightsError where one does not fit."""
    result = tuple(shape)
    for transform in transforms:
        result = transform.shape(result)
    return result


def to_json(transforms: Sequence[Transform]) -> list[dict[str, list[object]]]:
    """The JSON form of transforms, in order."""
    return [transform.to_json() for transform in transforms]


def from_json(value: object) -> tuple[Transform, ...]:
    """Transforms from their JSON form; WeightsError for anything else."""
    if not isinstance(value, list):
        raise WeightsError(f"transforms must be a list, got {value!r}")
    return tuple(_one_from_json(item) for item in value)


def _one_from_json(item: object) -> Transform:
    if isinstance(item, dict) and len(item) == 1:
        ((name, value),) = item.items()
        if name == "permute" and _is_ints(value):
            return Permute(tuple(value))
        if name == "flip" and _is_ints(value):
            return Flip(tuple(value))
        if name == "slice" and _is_ints(value) and len(value) == 3:
            return Slice(*value)
        if name == "reshape" and isinstance(value, list) and len(value) == 2:
            source, target = value
            if _is_ints(source) and _is_ints(target):
                return Reshape(tuple(source), tuple(target))
    raise WeightsError(
        f"not a transform: {item!r}; known are permute, reshape, flip and slice"
    )


def _is_ints(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)
