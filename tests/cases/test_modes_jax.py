"""Train flags and states of JAX sources, in torch."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx

import ivyport
from ivyport.api import _known

X = jnp.asarray(np.random.default_rng(0).standard_normal((8, 4)), jnp.float32)
T = torch.as_tensor(np.array(X))


def assert_close(actual: torch.Tensor, expected: Any) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), np.asarray(expected), atol=1e-5)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        h = linen.Dense(4)(x)
        mean = self.variable("stats", "mean", lambda: jnp.zeros(4))
        if train:
            h = h * 2 + 1
            mean.value = mean.value * 0.5 + h.mean(0)
        return linen.Dense(4)(h) + mean.value


def test_train_in_kwargs_is_computed_in_train_mode() -> None:
    model = Linen()
    variables = model.init(jax.random.key(0), X)
    port = ivyport.transpile(model, "torch", (X,), {"train": True}, params=variables)
    (note,) = [n for n in _known(port).notes if n.startswith("train=True")]
    assert ".train()" in note
    assert_close(port(T), model.apply(variables, X))
    port.train()
    for _ in range(3):
        expected, new = model.apply(variables, X, train=True, mutable=["stats"])
        assert_close(port(T), expected)
        variables = {**variables, **new}
    port.eval()
    assert_close(port(T), model.apply(variables, X))


class Counting(nnx.Module):
    """State that it writes in both modes, and another computation in each."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.lin = nnx.Linear(4, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.count = nnx.BatchStat(jnp.zeros(()))
        self.deterministic = False

    def __call__(self, x):
        self.count[...] += 1
        h = self.drop(self.norm(self.lin(x)))
        if not self.deterministic:
            h = jnp.tanh(h) * self.count[...]
        return h + self.count[...]


def test_an_nnx_module_writes_in_both_modes() -> None:
    model = Counting(nnx.Rngs(0))
    model.eval()
    port = ivyport.transpile(model, "torch", (X,))
    for _ in range(2):
        assert_close(port(T), model(X))
    model.train()
    port.train()
    model.drop.deterministic = True
    port.drop.eval()
    for _ in range(3):
        assert_close(port(T), model(X))
    model.eval()
    port.eval()
    assert_close(port(T), model(X))


def test_an_nnx_dropout_left_in_train_mode_draws_in_the_port_as_given() -> None:
    model = Counting(nnx.Rngs(0))
    model.eval()
    model.drop.deterministic = False
    port = ivyport.transpile(model, "torch", (X,))
    assert (port.training, port.drop.training, port.norm.training) == (
        False,
        True,
        False,
    )


def test_haiku_returns_more_in_training_and_norms() -> None:
    def function(x, is_training):
        h = hk.Linear(4)(x)
        h = hk.BatchNorm(True, True, 0.9)(h, is_training)
        return (h * 2, h.mean()) if is_training else h

    source = hk.transform_with_state(function)
    params, state = source.init(jax.random.key(0), X, True)
    port = ivyport.transpile(
        source, "torch", (X,), {"is_training": False}, params=params, state=state
    )
    assert_close(port(T), source.apply(params, state, None, X, False)[0])
    port.train()
    for _ in range(3):
        (expected, total), state = source.apply(params, state, None, X, True)
        actual = port(T)
        assert_close(actual[0], expected)
        assert_close(actual[1], total)
    port.eval()
    assert_close(port(T), source.apply(params, state, None, X, False)[0])
