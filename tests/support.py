"""The one comparison of arrays that the tests use."""

from __future__ import annotations

from typing import Any

import numpy as np

from ivyport.core.dtype import NARROW, to_numpy


def as_numpy(array: Any) -> np.ndarray:
    """A numpy array of a numpy, JAX or torch array; bfloat16 keeps its dtype."""
    if type(array).__module__.partition(".")[0] != "torch":
        return np.asarray(array)
    import torch

    array = array.detach()
    if array.dtype == torch.bfloat16:
        return array.view(torch.int16).numpy().view(to_numpy("bfloat16"))
    return array.numpy()


def as_torch(array: np.ndarray) -> Any:
    """A torch tensor with the elements of a numpy array, bfloat16 too."""
    import torch

    if array.dtype == to_numpy("bfloat16"):
        return torch.as_tensor(array.view(np.int16)).view(torch.bfloat16)
    return torch.as_tensor(array)


def narrowed(dtype: np.dtype) -> np.dtype:
    """The dtype that JAX computes in where the source has 64 bits."""
    return to_numpy(NARROW.get(dtype.name, dtype.name))


def assert_close(
    actual: Any, expected: Any, *, rtol: float = 1e-6, narrow: bool = False
) -> None:
    """Demand equal dtypes, shapes and NaN and infinity places, and values in `rtol`.

    The error is the largest difference over the largest finite magnitude of `expected`
    (over 1 where that is 0), so that small elements need not be exact. Integers and
    booleans must be equal. `narrow` takes a 64-bit `expected` for its 32-bit fellow.

    Raises:
        AssertionError: saying what differs, where, and by how much.
    """
    actual, expected = as_numpy(actual), as_numpy(expected)
    dtype = narrowed(expected.dtype) if narrow else expected.dtype
    if actual.dtype != dtype:
        raise AssertionError(f"dtype is {actual.dtype}, expected {dtype}")
    if actual.shape != expected.shape:
        raise AssertionError(f"shape is {actual.shape}, expected {expected.shape}")
    if dtype.kind in "biu":
        _demand_none(actual != expected, actual, expected, "values differ")
        return
    wide = np.complex128 if dtype.kind == "c" else np.float64
    actual, expected = actual.astype(wide), expected.astype(wide)
    _demand_none(
        np.isnan(actual) != np.isnan(expected), actual, expected, "NaNs differ"
    )
    finite = np.isfinite(expected)
    same = np.isnan(expected) | (actual == expected)
    _demand_none(~finite & ~same, actual, expected, "infinities differ")
    scale = float(np.max(np.abs(expected[finite]), initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(actual - expected), 0.0) / scale
    _demand_none(
        ~(error <= rtol),
        actual,
        expected,
        f"relative error {np.max(error, initial=0.0):.3g} exceeds {rtol:g}",
    )


def _demand_none(
    wrong: np.ndarray, actual: np.ndarray, expected: np.ndarray, message: str
) -> None:
    if not wrong.any():
        return
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise AssertionError(
        f"{message} at {int(wrong.sum())} of {wrong.size} places, "
        f"first {at}: {actual[at]} is not {expected[at]}"
    )
