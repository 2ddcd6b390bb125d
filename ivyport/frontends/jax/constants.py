"""Closed-over arrays that nodes can say: one number everywhere, a range, the identity."""

from __future__ import annotations

import numpy as np

from ivyport.core.build import Builder
from ivyport.core.ir import Scalar, Scope, Value
from ivyport.frontends.jax.sizes import dtype_name, number


def as_nodes(
    b: Builder, array: np.ndarray, scope: tuple[Scope, ...]
) -> Value | Scalar | None:
    """Nodes that make exactly `array`, a number for a scalar; None where there are none."""
    dtype = dtype_name(array.dtype)
    if dtype.startswith("complex"):
        return None
    if array.ndim == 0:
        return Scalar(number(array, dtype))
    if array.size == 0:
        return b.full(shape=array.shape, value=0, dtype=dtype)
    before = b.scope
    b.scope = scope
    try:
        return _made(b, array, dtype)
    finally:
        b.scope = before


def _made(b: Builder, array: np.ndarray, dtype: str) -> Value | None:
    flat = array.reshape(-1)
    first = flat[0]
    if np.array_equal(flat, np.full_like(flat, first)):
        return b.full(shape=array.shape, value=number(first, dtype), dtype=dtype)
    if array.size == max(array.shape) and dtype in ("int32", "int64", "float32"):
        line = _line(b, flat, dtype)
        return None if line is None else b.resize(line, array.shape)
    if array.ndim == 2 and np.array_equal(
        array, np.eye(*array.shape, dtype=flat.dtype)
    ):
        return b.eye(rows=array.shape[0], columns=array.shape[1], dtype=dtype)
    return None


def _line(b: Builder, flat: np.ndarray, dtype: str) -> Value | None:
    """A range of whole numbers."""
    start = int(flat[0]) if flat[0] == np.trunc(flat[0]) else None
    if start is None or abs(start) + flat.size > 2**24:
        return None
    if not np.array_equal(flat, np.arange(start, start + flat.size).astype(flat.dtype)):
        return None
    return b.arange(start=start, stop=start + flat.size, step=1, dtype=dtype)
