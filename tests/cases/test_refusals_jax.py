"""JAX sources that were refused without a reason: derivatives inside, functions around modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import flax.linen as fnn
import jax
import jax.numpy as jnp
import torch

import ivyport
from ivyport.core.errors import UnsupportedOpsError
from tests.support import assert_close

X = jnp.linspace(-2, 2, 8).reshape(2, 4)
PARAMS = {"w": jnp.linspace(-1, 1, 16).reshape(4, 4)}

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    name: getattr(jax.nn, name)
    for name in (
        "silu", "softplus", "elu", "leaky_relu", "selu", "mish", "log_softmax",
        "log_sigmoid", "hard_swish", "relu", "gelu", "celu",
    )
}  # fmt: skip
ACTIVATIONS |= {
    "clip": lambda x: jnp.clip(x, -0.5, 1),
    "tril": jnp.tril,
    "remainder": lambda x: jnp.remainder(x, 0.7),
}


def inner_gradient(activation: Callable[[Any], Any]) -> Callable[..., Any]:
    def model(params: Any, x: Any) -> Any:
        return jax.grad(lambda y: (activation(y @ params["w"]) ** 2).sum())(x)

    return model


def flat(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of a plain sum, where the function's own result is not used."""

    def model(params: Any, x: Any) -> Any:
        return jax.grad(lambda y: function(y @ params["w"]).sum())(x)

    return model


CASES: dict[str, Callable[..., Any]] = {
    **{f"grad {n}": inner_gradient(f) for n, f in ACTIVATIONS.items()},
    **{f"grad of a sum, {n}": flat(ACTIVATIONS[n]) for n in ("silu", "clip", "elu")},
    "jacfwd": lambda p, x: jax.jacfwd(lambda y: jnp.tanh(p["w"] @ y))(x[0]),
    "jacrev": lambda p, x: jax.jacrev(lambda y: jnp.tanh(p["w"] @ y))(x[0]),
    "hessian": lambda p, x: jax.hessian(lambda y: ((p["w"] @ y) ** 3).sum())(x[0]),
    "gradients of each sample": lambda p, x: jax.vmap(
        jax.grad(lambda y: jax.nn.silu(p["w"] @ y).sum())
    )(x),
    "jvp": lambda p, x: jax.jvp(lambda y: jax.nn.softplus(y @ p["w"]), (x,), (x,))[1],
}


@pytest.mark.parametrize("case", CASES)
def test_derivatives_inside_of_a_function_port(case: str) -> None:
    port = ivyport.transpile(CASES[case], "torch", (X,), params=PARAMS)
    for x in (X, 0.3 - X):
        found = port(torch.from_numpy(np.array(x)))
        assert_close(found.detach().numpy(), CASES[case](PARAMS, x))


@pytest.mark.parametrize("case", ["grad silu", "grad clip", "hessian"])
def test_derivatives_inside_of_a_function_port_to_nnx(case: str) -> None:
    port = ivyport.transpile(CASES[case], "nnx", (X,), params=PARAMS)
    assert_close(port(0.3 - X), CASES[case](PARAMS, 0.3 - X))


def test_a_named_function_without_a_derivative_is_still_its_operation() -> None:
    from ivyport.api import _PORTS

    port = ivyport.transpile(
        lambda p, x: jax.nn.silu(x @ p["w"]), "torch", (X,), params=PARAMS
    )
    assert "F.silu(" in _PORTS[port].source


# ---- functions that apply linen modules


class Layer(fnn.Module):
    @fnn.compact
    def __call__(self, carry: Any, _: Any) -> Any:
        return jnp.tanh(fnn.Dense(4, name="dense")(carry)), None


class Stack(fnn.Module):
    @fnn.compact
    def __call__(self, x: Any) -> Any:
        scan = fnn.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return fnn.Dense(2, name="head")(scan(name="layers")(x, None)[0])


class Coder(fnn.Module):
    def setup(self) -> None:
        self.encoder, self.decoder = fnn.Dense(4), fnn.Dense(4)

    def __call__(self, x: Any) -> Any:
        return self.decoder(fnn.relu(self.encoder(x)))

    def decode(self, x: Any) -> Any:
        return self.decoder(x)


def test_a_function_that_applies_scanned_layers() -> None:
    module = Stack()
    variables = module.init(jax.random.key(0), X)
    port = ivyport.transpile(
        lambda params, x: module.apply(params, x), "torch", (X,), params=variables
    )
    assert len(port.layers) == 3
    assert isinstance(port.head, torch.nn.Linear)
    found = port(torch.from_numpy(np.array(X))).detach().numpy()
    assert_close(found, module.apply(variables, X))


class Streams(fnn.Module):
    """Two streams, of which one is returned: the last layer of the other has no part in it."""

    @fnn.compact
    def __call__(self, carry: Any, _: Any) -> Any:
        a, b = carry
        one, other = fnn.Dense(4, name="one"), fnn.Dense(4, name="other")
        return (jnp.tanh(one(a)) + b, jnp.tanh(other(b))), None


class TwoStreams(fnn.Module):
    @fnn.compact
    def __call__(self, x: Any) -> Any:
        scan = fnn.scan(
            Streams, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        (a, _), _ = scan(name="layers")((x, x * 2), None)
        return a


def test_a_layer_that_no_output_needs_goes_home(tmp_path: Any) -> None:
    module = TwoStreams()
    variables = module.init(jax.random.key(0), X)
    port = ivyport.transpile(module, "torch", (X,), params=variables)
    found = port(torch.from_numpy(np.array(X))).detach().numpy()
    assert_close(found, module.apply(variables, X))
    held = sum(t.numel() for t in port.state_dict().values())
    assert held == sum(x.size for x in jax.tree.leaves(variables))


def test_a_tensor_of_which_one_row_is_used_stays_whole() -> None:
    port = ivyport.transpile(lambda p, x: x * p["w"][1], "torch", (X,), params=PARAMS)
    found = port(torch.from_numpy(np.array(X))).detach().numpy()
    assert_close(found, X * PARAMS["w"][1])
    assert [tuple(t.shape) for t in port.state_dict().values()] == [(4, 4)]


@pytest.mark.parametrize("method", ["decode", Coder.decode])
def test_a_function_that_applies_another_method(method: Any) -> None:
    module = Coder()
    variables = module.init(jax.random.key(0), X)
    port = ivyport.transpile(
        lambda v, x: module.apply(v, x, method=method), "torch", (X,), params=variables
    )
    assert isinstance(port.decoder, torch.nn.Linear)
    found = port(torch.from_numpy(np.array(X))).detach().numpy()
    assert_close(found, module.apply(variables, X, method=method))


def test_complex_numbers_are_one_list_with_places() -> None:
    def model(params: Any, x: Any) -> Any:
        turned = x * (1 + 2j) * jnp.exp(1j * params["w"][0])
        return jnp.fft.fft(turned).real

    with pytest.raises(UnsupportedOpsError) as caught:
        ivyport.transpile(model, "torch", (X,), params=PARAMS)
    text = str(caught.value)
    assert "complex64" in text
    assert "fft" in text
    assert text.count("test_refusals_jax.py:") >= 2
