"""Functions that emitted NumPy files copy for elements that are selected, replaced or ordered."""

from __future__ import annotations

import numpy as np

__all__ = [
    "added_where",
    "along_axis",
    "bincount",
    "combined_at",
    "dynamic_slice",
    "dynamic_update_slice",
    "embedding",
    "index_or_fill",
    "padded",
    "put_inside",
    "sort",
    "stable_topk",
    "starting",
    "topk",
    "with_items",
    "within",
]


def embedding(weight: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Rows of a table; IndexError for an index that is none, a negative one too."""
    rows = weight.shape[0]
    if indices.size and (indices.min() < 0 or indices.max() >= rows):
        span = f"{indices.min()} to {indices.max()}"
        raise IndexError(f"ids are {span}: the table has rows 0 to {rows - 1}")
    return weight[indices]


def along_axis(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """Index that takes `indices` along `axis` and each position of the other axes."""
    where = list(np.indices(indices.shape, sparse=True))
    where[axis] = indices
    return tuple(where)


def with_items(x, index, values):
    """x with ``x[index] = values``, out of place."""
    x = x.copy()
    x[index] = values
    return x


def combined_at(x, index, values, ufunc):
    """x with `values` combined at the index, each time that it occurs, out of place."""
    x = x.copy()
    ufunc.at(x, index, values)
    return x


def added_where(x, mask, values):
    """x with `values` added where the mask is true."""
    return np.where(mask, x + values, x)


def within(x, index):
    """The index moved into bounds, and where it was there before."""
    places, inside = [], np.array(True)
    for item, size in zip(index, x.shape, strict=False):
        if not isinstance(item, slice):
            inside = inside & (item >= -size) & (item < size)
            item = np.clip(item, -size, size - 1)
        places.append(item)
    arrays = [i for i, item in enumerate(index) if not isinstance(item, slice)]
    first = arrays[0] if arrays[-1] - arrays[0] < len(arrays) else 0
    found = x[tuple(places)]
    trailing = found.ndim - first - np.ndim(inside)
    return tuple(places), np.broadcast_to(
        inside[(..., *(None,) * trailing)], found.shape
    )


def index_or_fill(x, index, fill=np.nan):
    """x[index] as JAX has it: `fill` where an index is out of bounds."""
    places, inside = within(x, index)
    return np.where(inside, x[places], fill)


def put_inside(x, index, values, ufunc=None):
    """x with `values` set at the index, or combined there; what is outside goes."""
    places, inside = within(x, index)
    at = np.arange(x.size).reshape(x.shape)[places][inside]
    values = np.broadcast_to(np.asarray(values, x.dtype), inside.shape)[inside]
    flat = x.flatten()
    if ufunc is None:
        flat[at] = values
    else:
        ufunc.at(flat, at, values)
    return flat.reshape(x.shape)


def starting(start: np.ndarray | int, size: int, length: int) -> slice:
    """The slice of `size` that begins at `start`, moved into an axis of `length`."""
    start = int(np.clip(start, 0, length - size))
    return slice(start, start + size)


def dynamic_slice(
    x: np.ndarray, starts: tuple[np.ndarray | int, ...], sizes: tuple[int, ...]
) -> np.ndarray:
    """``x[s0:s0 + n0, ...]``; starts are moved until the slice is inside x."""
    return x[tuple(map(starting, starts, sizes, x.shape))]


def dynamic_update_slice(
    x: np.ndarray, values: np.ndarray, starts: tuple[np.ndarray | int, ...]
) -> np.ndarray:
    """x with `values` written at `starts`, moved like those of `dynamic_slice`."""
    x = x.copy()
    x[tuple(map(starting, starts, values.shape, x.shape))] = values
    return x


def padded(
    x: np.ndarray, padding: tuple[tuple[int, int], ...], value: float = 0
) -> np.ndarray:
    """x padded by (before, after); negative numbers cut off."""
    cuts = [
        slice(max(-lo, 0), n - max(-hi, 0))
        for (lo, hi), n in zip(padding, x.shape, strict=True)
    ]
    pairs = [(max(lo, 0), max(hi, 0)) for lo, hi in padding]
    return np.pad(x[tuple(cuts)], pairs, constant_values=value)


def bincount(x: np.ndarray, length: int) -> np.ndarray:
    """Occurrences of 0 ... length - 1; the result's size does not depend on x."""
    return np.bincount(np.clip(x, 0, length), minlength=length)[:length]


def sort(
    x: np.ndarray, axis: int = -1, descending: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted values and their indices; equal values keep their order, NaN is largest."""
    if descending:  # the order of the axis turned round, so that equal ones keep theirs
        turned = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        indices = x.shape[axis] - 1 - np.flip(turned, axis)
    else:
        indices = np.argsort(x, axis=axis, kind="stable")
    return np.take_along_axis(x, indices, axis=axis), indices


def topk(
    x: np.ndarray, k: int, *, axis: int = -1, largest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The k largest (or smallest) values in their order, and their indices."""
    _, indices = sort(x, axis, descending=largest)
    indices = np.take(indices, np.arange(k), axis=axis)
    return np.take_along_axis(x, indices, axis=axis), indices


def stable_topk(
    x: np.ndarray, k: int, *, axis: int = -1, largest: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """`topk` in which 0.0 is larger than -0.0, as in JAX."""
    order = x
    if x.dtype.kind == "f":
        bits = x.view(f"i{x.dtype.itemsize}")
        order = np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)
    _, indices = topk(order, k, axis=axis, largest=largest)
    return np.take_along_axis(x, indices, axis=axis), indices
