"""Sizes and keys that a JAX source uses in ways a capture with free sizes cannot follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import torch
from flax import nnx

import ivyport
from ivyport.api import _PORTS
from ivyport.core.errors import UnsupportedOpsError
from tests.support import assert_close

X = np.linspace(-2, 2, 48, dtype=np.float32).reshape(2, 6, 4)
FREE = {"x": {0: "batch", 1: "t"}}
POSITIONS = np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4)


def to_torch(source: Any, x: np.ndarray = X, **given: Any) -> tuple[Any, str]:
    """The port, checked against the source on `x`, and its notes."""
    port = ivyport.transpile(source, "torch", (x,), **given)
    return port, "\n".join(_PORTS[port].notes)


def call(port: Any, x: np.ndarray) -> Any:
    return port(torch.from_numpy(x))


# ---- what no capture with a free size can say: that axis is fixed, at the source's line

FIXED: dict[str, Callable[[Any], Any]] = {
    "numpy slice": lambda x: x + POSITIONS[: x.shape[1]],
    "int of a fraction": lambda x: x[:, : int(x.shape[1] * 0.5)],
    "split": lambda x: jnp.split(x, 2, axis=1)[0],
    "numpy ones": lambda x: x + np.ones((x.shape[1], 4), np.float32),
    "range": lambda x: sum(x[:, i] for i in range(x.shape[1])),
    "isinstance": lambda x: x * (2 if isinstance(x.shape[1], int) else 3),
    "isinstance of several": lambda x: (
        x * (2 if isinstance(x.shape[1], (str, int)) else 3)
    ),
    "type": lambda x: x * (2 if type(x.shape[1]) is int else 3),
    "type of several": lambda x: (
        x * (2 if type(x.shape[1] * 2) in (str, int) and isinstance(int, type) else 3)
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_length_that_was_asked_to_be_free_is_fixed_and_noted(name: str) -> None:
    port, notes = to_torch(FIXED[name], dims=FREE)
    assert "Fixed to the example's size: 't': " in notes
    assert "test_jaxside_sizes.py" in notes
    one = X[:1]
    assert_close(call(port, one).detach().numpy(), np.asarray(FIXED[name](one)))
    with pytest.raises(ValueError, match="axis 1"):
        call(port, X[:, :4])


def test_axes_that_nobody_asked_for_are_fixed_alone() -> None:
    port, notes = to_torch(lambda x: jnp.squeeze(x), dims=FREE)
    assert "'batch', 't'" in notes
    with pytest.raises(ValueError, match="axis 0"):
        call(port, X[:1])


def test_train_mode_alone_may_need_a_size() -> None:
    def source(x: Any, train: bool = False) -> Any:
        return x + POSITIONS[: x.shape[1]] if train else x

    port, notes = to_torch(source, dims=FREE)
    assert "Fixed to the example's size: 't'" in notes
    assert_close(call(port.train(), X).numpy(), X + POSITIONS[:6])


def test_a_size_is_returned_as_a_number() -> None:
    port, _ = to_torch(lambda x: {"n": x.shape[0], "twice": (x.shape[0] * 2, x * 2)})
    found = call(port, X[:1])
    assert found["n"] == 1
    assert found["twice"][0] == 2
    assert type(found["n"]) is int


def test_a_residual_of_custom_vjp_may_be_a_shape() -> None:
    @jax.custom_vjp
    def spread(x: Any) -> Any:
        return x + x.mean(0, keepdims=True)

    def backward(shape: Any, g: Any) -> Any:
        return (jnp.broadcast_to(g.sum(0) * 3 / shape[0], shape) + g,)

    spread.defvjp(lambda x: (spread(x), x.shape), backward)
    port, notes = to_torch(
        lambda w, x: spread(x * w).sum((0, 1)), params=np.ones(4, np.float32)
    )
    assert "Fixed to the example's size: 'batch': custom_vjp_call" in notes
    (weight,) = port.parameters()
    call(port, X).sum().backward()
    expected = jax.grad(lambda w: spread(X * w).sum())(jnp.ones(4))
    assert_close(weight.grad.numpy().reshape(4), np.asarray(expected))


# ---- keys that the source makes itself

DRAWS: dict[str, Callable[[Any], Any]] = {
    "normal": lambda x: x + jax.random.normal(jax.random.key(0), x.shape[2:]),
    "raw key": lambda x: x + jax.random.normal(jax.random.PRNGKey(3), (4,)),
    "split and folded": lambda x: (
        x
        * jax.random.uniform(
            jax.random.fold_in(jax.random.split(jax.random.key(1))[1], 7)
        )
    ),
    "permutation": lambda x: x[..., jax.random.permutation(jax.random.key(2), 4)],
    "randint": lambda x: x + jax.random.randint(jax.random.key(2), (6, 1), 0, 9),
    "categorical": lambda x: jax.random.categorical(jax.random.key(4), x[0]),
    "truncated": lambda x: (
        x + jax.random.truncated_normal(jax.random.key(4), -1, 1, (4,))
    ),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_key_of_the_source_gives_the_same_numbers(name: str) -> None:
    port, notes = to_torch(DRAWS[name])
    assert "a key of its own at test_jaxside_sizes.py" in notes
    assert_close(call(port, X).numpy(), np.asarray(DRAWS[name](X)))


def test_as_many_draws_as_an_axis_is_long_fix_the_axis() -> None:
    def source(x: Any) -> Any:
        return x + jax.random.normal(jax.random.key(0), x.shape)

    port, notes = to_torch(source)
    assert "Fixed to the example's size: 'batch'" in notes
    assert_close(call(port, X).numpy(), np.asarray(source(X)))


def test_a_key_that_a_loop_carries_is_another_one_each_time() -> None:
    def source(x: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            total, key = carry
            key, used = jax.random.split(key)
            return (total + jax.random.normal(used, (4,)), key), None

        (total, _), _ = jax.lax.scan(step, (jnp.zeros(4), jax.random.key(0)), None, 3)
        return x + total

    # The port would draw others in its loop: that is refused at the line.
    with pytest.raises(
        UnsupportedOpsError, match=r"in a loop(.|\n)*test_jaxside_sizes"
    ):
        to_torch(source)


class Noisy(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.linear(x) + nnx.Rngs(0).noise.normal((4,))


def test_a_key_made_in_the_call_of_a_module() -> None:
    source = Noisy(nnx.Rngs(0))
    port, _ = to_torch(source)
    assert_close(call(port, X).detach().numpy(), np.asarray(source(X)))


# ---- variables of the source's own kinds, and arrays that are none


class Scale(nnx.Variable):
    """A kind that is no parameter."""


class Delta(nnx.Param):
    """A kind of parameter."""


class Adapter(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.normed = nnx.WeightNorm(nnx.Linear(4, 4, rngs=rngs), rngs=rngs)
        self.convolved = nnx.WeightNorm(nnx.Conv(4, 4, 3, rngs=rngs), rngs=rngs)
        self.scale, self.delta = Scale(jnp.full(4, 2.0)), Delta(jnp.ones(4))

    def __call__(self, x: Any) -> Any:
        return self.convolved(self.normed(x)) * self.scale[...] + self.delta[...]


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_weight_norm_and_kinds_of_variables(target: str) -> None:
    port = ivyport.transpile(Adapter(nnx.Rngs(0)), target, (X,))
    notes = "\n".join(_PORTS[port].notes)
    assert "scale: of the kind Scale, which is no nnx.Param" in notes
    assert "Delta" not in notes
    if target == "torch":
        assert "delta" in dict(port.named_parameters())
        assert {"scale", "normed.scales_kernel"} <= dict(port.named_buffers()).keys()


def test_top_k_orders_zeros_and_nan_as_jax() -> None:
    x = np.float32([[0.0, -0.0, 1.0, -0.0, 0.0], [-0.0, 0.0, np.nan, 0.0, -np.inf]])

    def source(x: Any) -> Any:
        values, indices = jax.lax.top_k(x[:1].astype(jnp.bfloat16), 4)
        return *jax.lax.top_k(x, 4), values.astype(jnp.float32), indices

    port, _ = to_torch(source, x)
    for found, right in zip(call(port, x), source(x), strict=True):
        np.testing.assert_array_equal(found.numpy(), np.asarray(right))
