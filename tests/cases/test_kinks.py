"""A port has its source's derivative at corners, ends of domains and among equal elements."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ivyport
from tests.cases.kinks import JAX, LEFT, LEFT_TORCH, TORCH, Kinks, Row, arrays

Found = dict[str, tuple[np.ndarray, list[np.ndarray]]]


def _weights(y: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 2, tuple(y.shape)).astype(np.float32)


def _torch(call: Any, given: dict[str, list[np.ndarray]]) -> Found:
    """Values and gradients of each row; what autograd does not reach has zeros."""
    tensors = {
        n: [torch.tensor(a, requires_grad=True) for a in v] for n, v in given.items()
    }
    results, found = call(tensors), {}
    for name, leaves in tensors.items():
        y, gradients = results[name], [None] * len(leaves)
        if y.requires_grad:
            w = torch.tensor(_weights(y))
            gradients = torch.autograd.grad(y, leaves, w, allow_unused=True)
        made = [
            np.zeros_like(a) if g is None else g.numpy()
            for g, a in zip(gradients, given[name], strict=True)
        ]
        found[name] = y.detach().numpy(), made
    return found


def _jax(call: Any, given: dict[str, list[np.ndarray]]) -> Found:
    """The same in JAX. Rows share no inputs, so that one sum has the gradients of all."""
    values = {n: [jnp.asarray(a) for a in v] for n, v in given.items()}
    results, back = jax.vjp(lambda x: {n: call(x)[n] for n in given}, values)
    (gradients,) = back({n: jnp.asarray(_weights(y)) for n, y in results.items()})
    return {
        n: (np.asarray(results[n]), [np.asarray(g) for g in gradients[n]])
        for n in given
    }


def _differing(ours: Found, theirs: Found, rows: dict[str, Row]) -> dict[str, str]:
    found = {}
    for name in rows:
        (y, gradients), (expected, due) = ours[name], theirs[name]
        np.testing.assert_allclose(y, expected, atol=1e-6, err_msg=name)
        pairs = zip(gradients, due, strict=True)
        if not all(np.allclose(a, b, equal_nan=True, atol=1e-6) for a, b in pairs):
            found[name] = f"{gradients} where {due} are due"
    return found


@pytest.fixture(scope="module")
def from_torch() -> dict[str, str]:
    given, model = arrays(TORCH), Kinks(TORCH)
    example = {n: [torch.tensor(a) for a in v] for n, v in given.items()}
    port = ivyport.transpile(model, "jax", args=(example,), verify=False, train=False)
    return _differing(_jax(port, given), _torch(model, given), TORCH)


@pytest.fixture(scope="module")
def from_jax() -> dict[str, str]:
    def model(x: dict[str, list[jax.Array]]) -> dict[str, jax.Array]:
        return {name: JAX[name][0](*x[name]) for name in JAX}

    given = arrays(JAX)
    example = {n: [jnp.asarray(a) for a in v] for n, v in given.items()}
    port = ivyport.transpile(model, "torch", args=(example,), verify=False)
    return _differing(_torch(port, given), _jax(model, given), JAX)


def test_gradients_of_torch_in_jax(from_torch: dict[str, str]) -> None:
    assert {n: d for n, d in from_torch.items() if n not in LEFT_TORCH} == {}


def test_gradients_of_jax_in_torch(from_jax: dict[str, str]) -> None:
    assert {n: d for n, d in from_jax.items() if n not in LEFT} == {}


def test_what_is_left_different_is_different(
    from_torch: dict[str, str], from_jax: dict[str, str]
) -> None:
    """A difference that is mended has to leave the list."""
    assert set(from_torch) >= set(LEFT_TORCH)
    assert set(from_jax) >= set(LEFT)
