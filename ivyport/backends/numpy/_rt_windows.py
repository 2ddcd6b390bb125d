"""Convolutions, pools and resampling of images, which emitted NumPy files copy.

Images are (batch, *space, channels): a window is a row of a matrix.
"""

from __future__ import annotations

import numpy as np

from ivyport.backends.resizing import resize_weights

__all__ = [
    "adaptive_avg_pool",
    "avg_pool",
    "conv",
    "conv_transpose",
    "grid_sample",
    "in_windows",
    "max_pool",
    "resize",
    "resize_nearest",
    "spread",
    "sum_pool",
    "unfold",
]


def in_windows(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...] | None = None,
) -> list[np.ndarray]:
    """For each point of a window what it meets in (..., *space, channels), as views."""
    dilation = dilation or (1,) * len(kernel)
    space = x.shape[-1 - len(kernel) : -1]
    sizes = list(zip(space, kernel, stride, dilation, strict=True))

    def met(point: tuple[int, ...]) -> np.ndarray:
        cut = [
            slice(i * d, n - (k - 1 - i) * d, s)
            for i, (n, k, s, d) in zip(point, sizes, strict=True)
        ]
        return x[(..., *cut, slice(None))]

    return [met(point) for point in np.ndindex(*kernel)]


def spread(
    x: np.ndarray, padding: tuple[tuple[int, int], ...] | None, value: float = 0.0
) -> np.ndarray:
    """(batch, *space, channels) with the space padded."""
    if padding is None:
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: tuple[int, ...] | None = None,
    padding: tuple[tuple[int, int], ...] | None = None,
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
) -> np.ndarray:
    """Cross-correlation of (batch, *space, in) with (out, *kernel, in / groups).

    The windows of one image are the rows of a matrix at a time.
    """
    out, inner, kernel = weight.shape[0], weight.shape[-1], weight.shape[1:-1]
    stride = stride or (1,) * len(kernel)
    x = spread(x, padding)
    if inner == 1 and out == groups:  # channel by channel
        points = weight.reshape(out, -1).T
        views = in_windows(x, kernel, stride, dilation)
        return sum(view * point for view, point in zip(views, points, strict=True))
    matrices = weight.reshape(groups, out // groups, -1).swapaxes(1, 2)

    def of_group(image: np.ndarray, group: int) -> np.ndarray:
        image = image[..., group * inner : (group + 1) * inner]
        rows = np.concatenate(in_windows(image, kernel, stride, dilation), axis=-1)
        return rows @ matrices[group]

    return np.stack(
        [
            np.concatenate([of_group(image, g) for g in range(groups)], axis=-1)
            for image in x
        ]
    )


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int = 1,
) -> np.ndarray:
    """Gradient of a convolution, whose `padding` this is, with respect to its input.

    x is (batch, *space, in), `weight` (in, out / groups, *kernel).
    """
    kernel = weight.shape[2:]
    space = tuple(range(2, weight.ndim))
    weight = np.flip(weight, space).reshape(groups, -1, *weight.shape[1:])
    weight = np.moveaxis(weight, 1, -1).reshape(-1, *kernel, x.shape[-1] // groups)
    sizes = zip(dilation, kernel, padding, output_padding, strict=True)
    edges = [(d * (k - 1) - p, d * (k - 1) - p + more) for d, k, p, more in sizes]
    inner = [(n - 1) * s + 1 for n, s in zip(x.shape[1:-1], stride, strict=True)]
    # Where there is more padding than the kernel reaches over, the ends are cut off.
    cuts = [
        slice(max(-lo, 0), n - max(-hi, 0))
        for (lo, hi), n in zip(edges, inner, strict=True)
    ]
    apart = np.zeros((x.shape[0], *inner, x.shape[-1]), x.dtype)
    apart[:, *(slice(None, None, s) for s in stride)] = x
    rest = tuple((max(lo, 0), max(hi, 0)) for lo, hi in edges)
    return conv(apart[:, *cuts], weight, padding=rest, dilation=dilation, groups=groups)


def unfold(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> np.ndarray:
    """Windows of (batch, channels, height, width) as columns."""
    x = spread(np.moveaxis(x, 1, -1), tuple((p, p) for p in padding))
    rows = np.stack(in_windows(x, kernel, stride, dilation), axis=-1)
    return rows.reshape(x.shape[0], -1, x.shape[-1] * rows.shape[-1]).swapaxes(1, 2)


def max_pool(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...] | None = None,
    *,
    dilation: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Maximum over windows; the padding is minus infinity."""
    first, *others = in_windows(spread(x, padding, -np.inf), kernel, stride, dilation)
    for view in others:
        first = np.maximum(first, view)
    return first


def sum_pool(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...] | None = None,
) -> np.ndarray:
    """Sum over windows."""
    first, *others = in_windows(spread(x, padding), kernel, stride)
    for view in others:
        first = first + view
    return first


def avg_pool(
    x: np.ndarray,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...] | None = None,
    *,
    beyond: tuple[tuple[int, int], ...] | None = None,
    count_include_pad: bool = True,
) -> np.ndarray:
    """Mean over windows; the padding counts as zeros or not, and what lies `beyond` does not."""
    ones = np.ones((1, *x.shape[1:-1], 1), x.dtype)
    counted = spread(spread(ones, padding, float(count_include_pad)), beyond)
    total = sum_pool(spread(spread(x, padding), beyond), kernel, stride)
    return total / sum_pool(counted, kernel, stride)


def adaptive_avg_pool(
    x: np.ndarray, output_size: tuple[int, ...], axes: tuple[int, ...]
) -> np.ndarray:
    """Mean over windows from floor(i * in / out) to ceil((i + 1) * in / out)."""
    for axis, length in zip(axes, output_size, strict=True):
        i, at = np.arange(length)[:, None], np.arange(x.shape[axis])
        start, stop = i * at.size // length, -(-(i + 1) * at.size // length)
        weights = ((start <= at) & (at < stop)) / (stop - start)
        weights = weights.T.astype(x.dtype)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights, -1, axis)
    return x


def resize_nearest(
    x: np.ndarray,
    size: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    offset: float = 0.0,
    scales: tuple[float, ...] | None = None,
) -> np.ndarray:
    """Element floor((i + offset) * in / out) of each axis: torch's nearest modes."""
    for k, (axis, length) in enumerate(zip(axes, size, strict=True)):
        old = x.shape[axis]
        step = np.float32(1 / scales[k] if scales else old / length)
        at = np.floor((np.arange(length, dtype=np.float32) + np.float32(offset)) * step)
        x = np.take(x, np.minimum(at.astype(int), old - 1), axis=axis)
    return x


def resize(
    x: np.ndarray,
    size: tuple[int, ...],
    axes: tuple[int, ...],
    *,
    mode: str,
    align_corners: bool = False,
    antialias: bool = False,
    scales: tuple[float, ...] | None = None,
) -> np.ndarray:
    """Resample axes by linear or cubic interpolation in torch's coordinates."""
    for k, (axis, length) in enumerate(zip(axes, size, strict=True)):
        old = x.shape[axis]
        if align_corners:
            step = (old - 1) / max(length - 1, 1)
        else:
            step = 1 / scales[k] if scales else old / length
        weights = resize_weights(
            old, length, np.float32(step), mode, align_corners, antialias
        )
        weights = weights.T.astype(x.dtype)
        x = np.moveaxis(np.moveaxis(x, axis, -1) @ weights, -1, axis)
    return x


def grid_sample(
    x: np.ndarray,
    grid: np.ndarray,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    align_corners: bool = False,
) -> np.ndarray:
    """Images (B, C, H, W) at places (B, h, w, 2), whose (x, y) are -1 ... 1."""
    size = np.array(x.shape[:1:-1], grid.dtype)
    at = (grid + 1) * (size - 1) / 2 if align_corners else ((grid + 1) * size - 1) / 2
    if padding == "reflection":
        low, span = (0, np.maximum(size - 1, 1)) if align_corners else (-0.5, size)
        at = low + span - np.abs(np.abs(at - low) % (2 * span) - span)
    if padding != "zeros":
        at = np.clip(at, 0, size - 1)
    batch = np.arange(x.shape[0])[:, None, None]
    images = np.moveaxis(x, 1, -1)

    def pick(at: np.ndarray) -> np.ndarray:
        seen = ((at >= 0) & (at < size)).all(-1, keepdims=True)
        inside = np.where(seen, at, 0).astype(int)
        found = images[batch, inside[..., 1], inside[..., 0]]
        return np.where(seen, found, 0)

    if mode == "nearest":
        return np.moveaxis(pick(np.round(at)), -1, 1)
    first = np.floor(at)
    r, d = np.moveaxis(at - first, -1, 0)[..., None]
    a, b, c, e = (
        pick(first + np.array([j, i], at.dtype)) for i in (0, 1) for j in (0, 1)
    )
    y = (a * (1 - r) + b * r) * (1 - d) + (c * (1 - r) + e * r) * d
    return np.moveaxis(y, -1, 1)
