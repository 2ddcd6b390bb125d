"""What a JAX source draws in eval mode, the port draws by its own generator."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import ivyport
from ivyport.api import _known

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
KEY = jax.random.key(3)


class Autoencoder(nnx.Module):
    """A key given with the call, a stream of its own, and dropout."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.mean = nnx.Linear(3, 2, rngs=rngs)
        self.logvar = nnx.Linear(3, 2, rngs=rngs)
        self.decode = nnx.Linear(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.3, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x, key):
        mean, logvar = self.mean(x), self.logvar(x)
        z = mean + jnp.exp(logvar / 2) * jax.random.normal(key, mean.shape)
        out = self.decode(self.drop(z))
        jitter = jax.random.uniform(self.rngs.noise(), out.shape)
        return {"out": out, "jittered": out + jitter, "mean": mean}


class Dense(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(x) + jax.random.normal(self.make_rng("noise"), x.shape)


def dense(x: Any, key: Any) -> Any:
    return hk.Linear(3)(x) + jax.random.normal(hk.next_rng_key(), x.shape) * (
        1 + jax.random.bernoulli(key, 0.3, x.shape)
    )


def of_linen() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    variables = Dense().init({"params": KEY, "noise": KEY}, X)
    return Dense(), (X,), {"params": variables, "rng": 0}


def of_haiku() -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    source = hk.transform(dense)
    params = source.init(KEY, X, KEY)
    return source, (X, jax.random.PRNGKey(1)), {"params": params, "rng": 0}


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_the_port_draws_by_itself_and_all_else_is_compared(to: str) -> None:
    source = Autoencoder(nnx.Rngs(0))
    port = ivyport.transpile(source, to, (X, KEY))  # compares the outputs
    if to == "torch":
        report = ivyport.verify(source, port, args=(X, KEY))
        assert report.passed
        assert not report.not_checked
        assert any("every random draw fixed" in row.note for row in report.rows)
    assert any("Argument 'key' is a random key" in n for n in _known(port).notes)
    x = torch.from_numpy(X) if to == "torch" else X
    first, second = (np.asarray(port(x)["jittered"].tolist()) for _ in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("make", [of_linen, of_haiku])
def test_streams_of_linen_and_haiku_in_eval_mode(make: Any) -> None:
    source, args, given = make()
    port = ivyport.transpile(source, "torch", args, **given)  # compares the outputs
    first, second = (port(torch.from_numpy(X)) for _ in range(2))
    assert not torch.equal(first, second)


def test_a_port_that_draws_something_else_is_found() -> None:
    def source(x: Any, key: Any) -> Any:
        return x + jax.random.normal(key, x.shape)

    port = ivyport.transpile(source, "torch", (X, KEY))

    def other(x: Any, key: Any) -> Any:
        return x + 2 * jax.random.normal(key, x.shape)

    assert not ivyport.verify(other, port, args=(X, KEY)).passed
