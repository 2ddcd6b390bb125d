"""Functions that emitted files of JAX and of NumPy copy: weights that resample an axis."""

from __future__ import annotations

import numpy as np


def resize_weights(
    old: int,
    new: int,
    step: np.float32,
    mode: str,
    align_corners: bool,
    antialias: bool,
) -> np.ndarray:
    """The (new, old) matrix that resamples one axis; rows sum to 1."""

    def kernel(distance: np.ndarray) -> np.ndarray:
        d = np.abs(distance)
        if mode == "linear":
            return np.maximum(1 - d, 0)
        a = -0.5 if antialias else -0.75
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        return np.where(d < 1, near, np.where(d < 2, far, 0))

    half = np.float32(0.5)
    i, at = np.arange(new, dtype=np.float32)[:, None], np.arange(old)
    if antialias:  # the kernel grows with the step, and is cut at the borders
        stretch = np.maximum(step, 1)
        centre, support = step * (i + half), stretch * (1 if mode == "linear" else 2)
        start = np.maximum((centre - support + half).astype(int), 0)
        stop = (centre + support + half).astype(int)
        weights = kernel((at - centre + half) / stretch)
        weights = weights * ((start <= at) & (at < stop))
        return weights / weights.sum(1, keepdims=True)
    source = step * i if align_corners else step * (i + half) - half
    source = np.maximum(source, 0) if mode == "linear" else source
    weights = np.zeros((new, old))
    for tap in (0, 1) if mode == "linear" else (-1, 0, 1, 2):
        place = np.floor(source) + tap
        clamped = np.clip(place, 0, old - 1).astype(int)
        np.add.at(weights, (np.arange(new)[:, None], clamped), kernel(place - source))
    return weights
