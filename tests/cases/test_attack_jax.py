"""Models written in JAX that ports once got wrong, refused or crashed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ivyport
from tests.cases.numerics import check_to_torch

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def as_array(x: Any) -> np.ndarray:
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def given(target: str, x: np.ndarray) -> Any:
    return torch.from_numpy(x) if target == "torch" else x


# ---- sizes


SHORT: dict[str, tuple[Callable[..., Any], int]] = {
    "index": (lambda x: (x[2], x[0]), 3),
    "index_from_the_end": (lambda x: x[-4], 4),
    "take": (lambda x: x.take(3, axis=0), 4),
    "dynamic_index": (lambda x: jax.lax.dynamic_index_in_dim(x, 3, 0), 4),
}


@pytest.mark.parametrize("form", SHORT)
def test_known_index_bounds_a_free_axis(form: str) -> None:
    function, least = SHORT[form]
    port = ivyport.transpile(function, "torch", (X,))
    for size in (least, 5):
        found = jax.tree.leaves(port(torch.from_numpy(X[:size])))
        wanted = jax.tree.leaves(function(jnp.asarray(X[:size])))
        for ours, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=f"B >= {least}"):
        port(torch.from_numpy(X[: least - 1]))


def test_slices_of_a_free_axis_that_lack_an_end() -> None:
    def function(x):
        return x[::2], x[1::3], x[:-1] - x[1:], x.at[1:].add(x[:-1])

    port = check_to_torch(function, X)
    for size in (1, 2, 4):
        found = port(torch.from_numpy(X[:size]))
        for ours, theirs in zip(found, function(jnp.asarray(X[:size])), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_unique_of_a_free_length() -> None:
    def function(x):
        return jnp.unique(x, size=4, fill_value=-1, return_counts=True)

    port = check_to_torch(function, np.int32([3, 1, 3, 2, 1]))
    other = np.int32([5, 2, 3, 1, 9, 9])
    for ours, theirs in zip(
        port(torch.from_numpy(other)), function(other), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


# ---- numbers


def test_order_in_which_nan_is_last() -> None:
    edges = np.float32([0, 1, 1, 2, np.nan])
    values = np.float32([-1, 1, 1.5, 9, np.nan, -0.0])
    check_to_torch(
        lambda a, v: (
            jnp.searchsorted(a, v),
            jnp.searchsorted(a, v, side="right"),
            jnp.digitize(v, a[:4]),
        ),
        edges,
        values,
        gradient=False,
    )
    points = np.float32([0, 1, 2]), np.float32([3, 1, 5])
    check_to_torch(jnp.interp, np.float32([-1, 0.5, 1.2, 9]), *points)


def test_infinite_floats_as_unsigned_integers() -> None:
    far = np.float32([1.5, -0.5, np.nan, np.inf, -np.inf, 3e9, 5e9, 1e20, -129])
    check_to_torch(lambda x: x.astype(jnp.uint32), far, gradient=False)
    check_to_torch(lambda x: x.astype(jnp.uint16), far, gradient=False)


def test_numbers_that_only_uint32_holds() -> None:
    def function(x):
        hashed = (x * jnp.uint32(2654435761)) ^ jnp.uint32(0xDEADBEEF)
        return hashed, x > jnp.uint32(0x80000000)

    x = np.uint32([0, 1, 0xFFFFFFFF, 0x80000001])
    check_to_torch(function, x)
    port = ivyport.transpile(function, "jax", (x,), train=False)
    for run in (port, jax.jit(lambda x: port(x))):
        for ours, theirs in zip(run(x), function(jnp.asarray(x)), strict=True):
            np.testing.assert_array_equal(ours, theirs)


# ---- modes


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_norm_by_the_batch_in_both_modes_keeps_its_averages(target: str) -> None:
    def model(x, is_training=False):
        x = hk.Linear(3)(x)
        return hk.BatchNorm(True, True, 0.9)(x, is_training, test_local_stats=True)

    source = hk.transform_with_state(model)
    params, state = source.init(jax.random.key(0), X, is_training=True)
    params = jax.tree.map(lambda p: p + 0.3, params)
    port = ivyport.transpile(
        source, target, (X,), {"is_training": False}, params=params, state=state
    )
    port.train()
    for _ in range(3):
        wanted, state = source.apply(params, state, None, 2 * X, is_training=True)
        found = port(given(target, 2 * X))
        np.testing.assert_allclose(as_array(found), wanted, rtol=1e-5, atol=1e-5)
    held = port.batch_norm.mean_ema.average
    average = held if target == "torch" else held[...]
    wanted = state["batch_norm/~/mean_ema"]["average"]
    np.testing.assert_allclose(as_array(average), wanted, rtol=1e-5, atol=1e-6)
