"""Functions that emitted NumPy files copy, for what no single NumPy call does.

Those of `PARTS` are of this module, too.
"""

from __future__ import annotations

import numpy as np

from ivyport.backends import calls, resizing
from ivyport.backends.calls import built_in as built_in
from ivyport.backends.calls import check_sizes as check_sizes
from ivyport.backends.calls import matched as matched
from ivyport.backends.numpy import _rt_index, _rt_special, _rt_windows
from ivyport.backends.numpy._rt_index import *  # noqa: F403 (helpers are looked up here)
from ivyport.backends.numpy._rt_special import *  # noqa: F403
from ivyport.backends.numpy._rt_windows import *  # noqa: F403

PARTS = (calls, resizing, _rt_index, _rt_special, _rt_windows)


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """exp(x) / sum(exp(x)) along an axis."""
    y = np.exp(x - x.max(axis, keepdims=True))
    return y / y.sum(axis, keepdims=True)


def log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The logarithm of `softmax`."""
    y = x - x.max(axis, keepdims=True)
    return y - np.log(np.exp(y).sum(axis, keepdims=True))


def logsumexp(
    x: np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> np.ndarray:
    """log(sum(exp(x))) over the axes."""
    largest = x.max(axis, keepdims=True)
    # Of infinities alone the result is infinite, and their difference is no number.
    largest = np.where(np.isinf(largest), 0.0, largest)
    with np.errstate(divide="ignore"):
        y = np.log(np.exp(x - largest).sum(axis, keepdims=True)) + largest
    return y if keepdims else y.squeeze(axis)


def summed(
    x: np.ndarray, axis: int | tuple[int, ...], keepdims: bool = False
) -> np.ndarray:
    """The sum over axes in front of others, which NumPy adds up one by one: in float64."""
    return x.sum(axis, dtype=np.float64, keepdims=keepdims).astype(x.dtype)


def average(
    x: np.ndarray, axis: int | tuple[int, ...], keepdims: bool = False
) -> np.ndarray:
    """The mean over axes in front of others, which NumPy adds up one by one: in float64."""
    return x.mean(axis, dtype=np.float64, keepdims=keepdims).astype(x.dtype)


def variance(
    x: np.ndarray,
    axis: int | tuple[int, ...],
    keepdims: bool = False,
    ddof: float = 0,
) -> np.ndarray:
    """The variance over axes in front of others, in float64 as `average`."""
    y = x.var(axis, dtype=np.float64, ddof=ddof, keepdims=keepdims)
    return y.astype(x.dtype)


def deviation(
    x: np.ndarray,
    axis: int | tuple[int, ...],
    keepdims: bool = False,
    ddof: float = 0,
) -> np.ndarray:
    """The standard deviation over axes in front of others, in float64 as `average`."""
    y = x.std(axis, dtype=np.float64, ddof=ddof, keepdims=keepdims)
    return y.astype(x.dtype)


def elu(x: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """x where positive, else alpha * (exp(x) - 1)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def leaky_relu(x: np.ndarray, negative_slope: float) -> np.ndarray:
    """x where positive, else negative_slope * x."""
    return np.where(x > 0, x, negative_slope * x)


def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    empty: str = "zero",
) -> np.ndarray:
    """softmax(Q K^T * scale + mask) V; Q is (..., heads, length, size).

    A bool mask says which keys are seen, a float one is added. A query that may see
    nothing gives `empty`: zero, the mean of V, nan, or what the softmax makes.
    """
    wide = np.promote_types(query.dtype, np.float32)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query.astype(wide, copy=False) * scale) @ key.mT.astype(wide, copy=False)
    seen = None
    if mask is not None and mask.dtype == bool:
        seen = mask
    elif mask is not None:
        scores = scores + mask
        seen = None if empty == "softmax" else mask != -np.inf
    if is_causal:
        earlier = np.tri(*scores.shape[-2:]) > 0
        seen = earlier if seen is None else seen & earlier
    if seen is not None:
        closed = -np.inf if empty == "nan" else np.finfo(wide).min
        scores = np.where(seen, scores, closed)
    weights = softmax(scores)
    if mask is not None and seen is not None and empty == "zero":
        weights = np.where(seen, weights, 0.0)
    return weights.astype(value.dtype, copy=False) @ value


def grouped_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    mask: np.ndarray | None = None,
    **options: float | bool | str,
) -> np.ndarray:
    """`attention` in which a head of K and V serves several of Q."""
    key, value = (
        np.repeat(x, query.shape[-3] // x.shape[-3], axis=-3) for x in (key, value)
    )
    return attention(query, key, value, mask, **options)


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    axes: int = 1,
    eps: float,
) -> np.ndarray:
    """(x - mean) / sqrt(var + eps) * weight + bias over the last `axes` axes."""
    last = tuple(range(-axes, 0))
    y = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    y = y - y.mean(last, keepdims=True)
    y = y / np.sqrt(np.square(y).mean(last, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).astype(x.dtype, copy=False)


def rms_norm(
    x: np.ndarray, weight: np.ndarray | None = None, *, axes: int = 1, eps: float
) -> np.ndarray:
    """x / sqrt(mean(x^2) + eps) * weight over the last `axes` axes."""
    last = tuple(range(-axes, 0))
    y = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    y = y / np.sqrt(np.square(y).mean(last, keepdims=True) + eps)
    return (y if weight is None else y * weight).astype(x.dtype, copy=False)


def group_norm(
    x: np.ndarray,
    groups: int,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float,
) -> np.ndarray:
    """Normalise each group of channels, on the last axis, over itself and space."""
    y = x.reshape(*x.shape[:-1], groups, -1)
    y = y.astype(np.promote_types(x.dtype, np.float32), copy=False)
    within = (*range(1, x.ndim - 1), -1)
    y = y - average(y, within, keepdims=True)
    y = y / np.sqrt(average(np.square(y), within, keepdims=True) + eps)
    y = y.reshape(x.shape)
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).astype(x.dtype, copy=False)


def batch_norm(
    x: np.ndarray,
    mean: np.ndarray | None = None,
    var: np.ndarray | None = None,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    *,
    eps: float,
) -> np.ndarray:
    """Normalise channels, on the last axis, by running statistics, or the batch's."""
    y = x.astype(np.promote_types(x.dtype, np.float32), copy=False)
    if mean is None:
        others = tuple(range(x.ndim - 1))
        mean, var = average(y, others), variance(y, others)
    factor = 1.0 / np.sqrt(var + eps)
    y = (y - mean) * (factor if weight is None else factor * weight)
    return (y if bias is None else y + bias).astype(x.dtype, copy=False)


def weight_norm(
    v: np.ndarray, g: np.ndarray, *, axis: int | tuple[int, ...]
) -> np.ndarray:
    """g * v / ||v||, the norm over `axis`."""
    return v * (g / np.linalg.vector_norm(v, axis=axis, keepdims=True))


def one_hot(
    indices: np.ndarray, num_classes: int, *, dtype: type = np.float32
) -> np.ndarray:
    """1 at the index, 0 elsewhere; zeros alone for an index out of range."""
    return (indices[..., None] == np.arange(num_classes)).astype(dtype)


def grouped_matmul(x: np.ndarray, weight: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Rows up to `ends[g]` times `weight[g]`; rows beyond the last group are zero."""
    y = np.zeros((len(x), weight.shape[-1]), x.dtype)
    for start, end, matrix in zip([0, *ends[:-1]], ends, weight, strict=True):
        y[start:end] = x[start:end] @ matrix
    return y


def integer_power(x: np.ndarray | int, y: np.ndarray) -> np.ndarray:
    """x ** y for integers; a negative power is a fraction, and rounded towards zero."""
    whole = x ** np.maximum(y, 0)
    return np.where(y < 0, np.where(np.abs(x) == 1, x ** (y & 1), 0), whole)


def saturated(x: np.ndarray, dtype: type) -> np.ndarray:
    """Floats as the nearest integers of `dtype` towards zero; 0 for NaN."""
    limits = np.iinfo(dtype)
    wide = np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    above, below = wide >= limits.max, wide <= limits.min
    whole = np.where(above | below, 0, wide).astype(dtype)
    # 2**63 is a float, and no int64.
    return np.where(above, limits.max, np.where(below, limits.min, whole)).astype(dtype)


def trunc_divide(x: np.ndarray, y: np.ndarray | int) -> np.ndarray:
    """The quotient of integers, rounded towards zero."""
    return (x - np.fmod(x, y)) // y


def bit_count(x: np.ndarray) -> np.ndarray:
    """How many of the bits of integers are set, in their own dtype."""
    unsigned = x.astype(f"u{x.dtype.itemsize}")  # NumPy counts those of |x|
    return np.bitwise_count(unsigned).astype(x.dtype)


def leading_zeros(x: np.ndarray) -> np.ndarray:
    """How many bits of integers are 0 in front of the first one that is set."""
    rest, bits = x.astype(f"u{x.dtype.itemsize}"), 8 * x.dtype.itemsize
    shift = bits // 2
    while shift:
        rest, shift = rest | (rest >> shift), shift // 2
    # Every bit is set from the first one on; the order of steps does not matter.
    return (bits - np.bitwise_count(rest).astype(np.int64)).astype(x.dtype)


def lu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both triangular factors in one, row exchanges, and the order of rows, from 0 on."""
    factors, size = x.copy().reshape(-1, *x.shape[-2:]), x.shape[-1]
    exchanges = np.zeros(factors.shape[:-1], np.int32)
    order = np.tile(np.arange(size, dtype=np.int32), (len(factors), 1))
    for matrix, swaps, rows in zip(factors, exchanges, order, strict=True):
        for i in range(size):
            best = swaps[i] = i + int(np.abs(matrix[i:, i]).argmax())
            matrix[[i, best]] = matrix[[best, i]]
            rows[[i, best]] = rows[[best, i]]
            if matrix[i, i] != 0:
                matrix[i + 1 :, i] /= matrix[i, i]
                matrix[i + 1 :, i + 1 :] -= np.outer(
                    matrix[i + 1 :, i], matrix[i, i + 1 :]
                )
    shape = x.shape[:-1]
    return factors.reshape(x.shape), exchanges.reshape(shape), order.reshape(shape)


def solve_triangular(
    a: np.ndarray,
    x: np.ndarray,
    *,
    lower: bool,
    left: bool = True,
    transposed: bool = False,
    unit_diagonal: bool = False,
) -> np.ndarray:
    """The y of a y = x, or y a = x, of which one triangle of `a` is read."""
    a = np.tril(a) if lower else np.triu(a)
    if unit_diagonal:
        a = a * (1 - np.eye(a.shape[-1], dtype=a.dtype)) + np.eye(
            a.shape[-1], dtype=a.dtype
        )
    a = a.mT if transposed else a
    return np.linalg.solve(a, x) if left else np.linalg.solve(a.mT, x.mT).mT


def check_shapes(
    **arguments: tuple[np.ndarray, str] | tuple[np.ndarray, str, str],
) -> None:
    """Raise ValueError for an argument whose shape the model was not made for.

    ``x=(x, "B T 4")``: x has three axes, the last of size 4. A letter stands for one
    size in all arguments, 1 or more. ``"int B T"`` is for integers, else TypeError is
    raised. A third item says why a size is due.
    """
    sizes: dict[str, int] = {}
    for name, (array, axes, *why) in arguments.items():
        shape, letters = tuple(getattr(array, "shape", ())), axes.split()
        if letters[:1] == ["int"]:
            letters = letters[1:]
            if array.dtype.kind not in "iu":
                raise TypeError(f"{name} is {array.dtype}: integers are due")
        for letter, size in zip(letters, shape, strict=False):
            sizes.setdefault(letter, int(letter) if letter.isdigit() else max(size, 1))
        wrong = [
            f"axis {axis} is {size}, not {wanted}" if size else f"axis {axis} is empty"
            for axis, (size, wanted) in enumerate(
                zip(shape, map(sizes.get, letters), strict=False)
            )
            if size != wanted
        ]
        if len(shape) != len(letters):
            wrong = [f"it has {len(shape)} axes"]
        if wrong:
            raise ValueError(
                f"{name}: ({', '.join(letters)}) is due, not {shape}: "
                + "; ".join([*wrong, *why])
            )


def as_array(name, given, dtype=None):
    """`given` as an array, of floats if they have a `dtype`; TypeError for what is none."""
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError):
        array = None
    if array is None or array.dtype.kind not in "biufc":
        raise TypeError(
            f"{name} is {given!r:.60}: the model was traced with an array for it"
        )
    if dtype is None or array.dtype.kind == "c":
        return array
    return array.astype(dtype, copy=False)
