"""`assert_close` fails on every kind of wrong array."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support import as_numpy, assert_close

X = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)


def _with(value: float) -> np.ndarray:
    changed = X.copy()
    changed[1, 0] = value
    return changed


def test_accepts_equal_arrays_and_rounding() -> None:
    assert_close(X, X.copy())
    assert_close(X * np.float32(1 + 2e-7), X)
    assert_close(_with(np.nan), _with(np.nan))
    assert_close(_with(-np.inf), _with(-np.inf))
    assert_close(np.zeros((0, 3)), np.zeros((0, 3)))


def test_error_is_relative_to_the_largest_magnitude() -> None:
    assert_close(_with(0.5 + 3e-6), X, rtol=1e-6)
    with pytest.raises(AssertionError, match=r"relative error .* \(1, 0\)"):
        assert_close(_with(0.5 + 6e-6), X, rtol=1e-6)


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (_with(0.6), X, "relative error"),
        (-X, X, "relative error"),
        (np.full_like(X, 1e-3), np.zeros_like(X), "relative error"),
        (X.astype(np.float64), X, "dtype is float64"),
        (np.ones(2, np.int64), np.ones(2, np.int32), "dtype is int64"),
        (X[None], X, "shape is"),
        (X[:, :1], X, "shape is"),
        (np.float32(1), np.ones(1, np.float32), "shape is"),
        (_with(np.nan), X, "NaNs differ"),
        (X, _with(np.nan), "NaNs differ"),
        (_with(np.inf), X, "relative error"),
        (X, _with(np.inf), "infinities differ"),
        (_with(-np.inf), _with(np.inf), "infinities differ"),
        (np.array([1, 3]), np.array([1, 2]), "values differ"),
        (np.array([True]), np.array([False]), "values differ"),
    ],
)
def test_refuses(actual: np.ndarray, expected: np.ndarray, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_close(actual, expected)


def test_narrow_takes_32_bits_for_64() -> None:
    wide = np.arange(3)
    assert_close(wide.astype(np.int32), wide, narrow=True)
    with pytest.raises(AssertionError, match="dtype is int64"):
        assert_close(wide, wide, narrow=True)
    with pytest.raises(AssertionError, match="dtype is int32"):
        assert_close(wide.astype(np.int32), wide)


def test_bfloat16_of_torch_and_jax() -> None:
    jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
    ours, theirs = jnp.arange(3, dtype="bfloat16"), torch.arange(3).bfloat16()
    assert as_numpy(theirs).dtype.name == "bfloat16"
    assert_close(ours, theirs)
    with pytest.raises(AssertionError, match="relative error"):
        assert_close(ours + 1, theirs)
