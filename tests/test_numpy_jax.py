"""JAX sources become NumPy: NNX and linen modules, and a function with loops and branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("flax")

import jax
import jax.numpy as jnp
from flax import linen, nnx

import ivyport
from ivyport.core.errors import UnsupportedOpsError


def verified(source: Any, *args: Any, **given: Any) -> Any:
    """The port, of which `verify` finds nothing wrong."""
    ported = ivyport.transpile(source, "numpy", args, verify=False, **given)
    report = ivyport.verify(source, ported, **given)
    assert report.passed, [row for row in report.rows if not row.passed]
    return ported


class Block(nnx.Module):
    """Dropout goes, running statistics stay; the convolution has its channels last."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(4, 6, (3,), rngs=rngs)
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return nnx.softmax(self.out(self.drop(nnx.gelu(self.norm(self.conv(x))))))


def test_nnx() -> None:
    model = Block(nnx.Rngs(0))
    model.norm.mean[...] += 0.5
    model.eval()
    verified(model, jnp.linspace(-1, 1, 40).reshape(2, 5, 4))


class Net(linen.Module):
    """Pools and group norm."""

    @linen.compact
    def __call__(self, x):
        y = linen.max_pool(linen.Conv(8, (3, 3), strides=2)(x), (2, 2), (2, 2))
        y = linen.avg_pool(linen.GroupNorm(4)(y), (2, 2))
        return linen.Dense(3)(y.reshape(x.shape[0], -1))


def test_linen() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))
    verified(Net(), x, params=Net().init(jax.random.key(1), x))


def loops(params, x):
    """Scans backwards, loops as long as a number is small, and branches by a sum."""

    def step(h, row):
        h = jnp.tanh(row @ params["w"] + h @ params["u"])
        return h, h

    h, rows = jax.lax.scan(
        step, jnp.zeros((x.shape[0], 3)), x.swapaxes(0, 1), reverse=True
    )
    count, half = jax.lax.while_loop(
        lambda s: s[0] < 5, lambda s: (s[0] + 1, s[1] * 0.5), (0, h)
    )
    branch = jax.lax.cond(h.sum() > 0, lambda a: a * 2, lambda a: a - 1, h)
    best, at = jax.lax.top_k(rows, 2)
    return {
        "rows": rows.at[0].add(1.0),
        "half": (count, half, branch),
        "best": (best, at),
    }


def test_a_function_with_loops_and_branches() -> None:
    params = {"w": jnp.eye(3), "u": jnp.ones((3, 3)) / 4}
    x = jnp.arange(24.0).reshape(2, 4, 3) / 10
    ported = verified(loops, x, params=params)
    found = ported(np.asarray(x))
    assert {y.dtype.name for y in (found["rows"], found["best"][0])} == {"float32"}
    assert found["best"][1].dtype == np.int32
    assert int(found["half"][0]) == 5


class Draws(nnx.Module):
    """Draws in eval mode, from a stream of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.rngs = rngs

    def __call__(self, x):
        return x + jax.random.normal(self.rngs(), x.shape)


def test_draws_of_eval_mode_are_refused_at_their_line() -> None:
    with pytest.raises(
        UnsupportedOpsError, match=r"draws random.*\n.*test_numpy_jax.py"
    ):
        ivyport.transpile(Draws(nnx.Rngs(0)), "numpy", (jnp.ones((2, 3)),))
