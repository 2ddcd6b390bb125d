"""A derivative of its own stays one: autograd.Function, jax.custom_vjp, jax.custom_jvp."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport import api
from ivyport.core.errors import UnsupportedOpsError
from tests.cases.gradients import example, ports, text_of, weights_of


class RoundThrough(torch.autograd.Function):
    """Rounds; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


class Reverse(torch.autograd.Function):
    """Nothing; the gradient is reversed and scaled."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return grad.neg() * ctx.factor, None


class ClampThrough(torch.autograd.Function):
    """Clamps; the gradient passes where it leads back inside. New style, with saved tensors."""

    @staticmethod
    def forward(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return x.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, ctx.low, ctx.high = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        inside = (x >= ctx.low) & (x <= ctx.high)
        return torch.where(inside | (grad * x > 0), grad, 0.0), None, None


class Scale(torch.autograd.Function):
    """Two tensors and two results; what forward made is kept, one gradient is None."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> Any:
        gate = torch.sigmoid(w)
        ctx.save_for_backward(x, gate)
        return x * gate, gate.sum(0)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, other: torch.Tensor) -> Any:
        _, gate = ctx.saved_tensors
        return 3 * grad * gate, None


class Again(torch.autograd.Function):
    """Computes again in backward, as memory-saving layers do."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            ctx.save_for_backward(x)
            return nn.functional.silu(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = nn.functional.silu(x)
        return torch.autograd.grad(y, x, 2 * grad)


class Body(nn.Module):
    """Two layers around a function; `apply` may be bound, as people keep it."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.function(3 * self.a(x)))


reverse = Reverse.apply


def _two(h: torch.Tensor) -> torch.Tensor:
    scaled, total = Scale.apply(h, h.detach() + 1)
    return scaled + total


TORCH = {
    "round": RoundThrough.apply,
    "reversal": lambda h: reverse(h, 0.5),
    "clamp that passes": lambda h: ClampThrough.apply(h, -1.0, 1.0),
    "two tensors, two results": _two,
    "recomputed in backward": Again.apply,
    "one inside the other": lambda h: reverse(RoundThrough.apply(h), 2.0),
    "shared": lambda h: reverse(h, 0.5) + reverse(2 * h, 0.5) + reverse(h, 0.25),
}


@pytest.mark.parametrize("name", TORCH)
def test_autograd_function(name: str) -> None:
    found = ports(Body(TORCH[name]), example(3, 4), train=False)
    assert "@jax.custom_vjp" in text_of(found["jax"])
    assert "(torch.autograd.Function)" in text_of(found["torch"])


def test_train_mode_has_the_same_derivatives() -> None:
    class Dropping(Body):
        def __init__(self) -> None:
            super().__init__(TORCH["clamp that passes"])
            self.drop = nn.Dropout(0.25)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.drop(self.a(x))
            return self.b(self.drop(self.function(h.detach() * self.a(x))))

    for ported in ports(Dropping(), example(3, 4)).values():
        assert "Dropout(0.25" in text_of(ported)
        assert not any("train" in note for note in api._known(ported).notes)


def test_equal_functions_are_one() -> None:
    text = text_of(ports(Body(TORCH["shared"]), example(3, 4), train=False)["jax"])
    assert text.count("@jax.custom_vjp") == 2


def test_emitted_functions_read_well() -> None:
    found = ports(Body(RoundThrough.apply), example(3, 4), train=False)
    text = text_of(found["jax"])
    assert "@jax.custom_vjp\ndef round_through(x):\n    return jnp.round(x)\n" in text
    assert "self.b(round_through(self.a(x) * 3))" in text
    text = text_of(found["torch"])
    assert "class RoundThrough(torch.autograd.Function):" in text
    assert "self.b(RoundThrough.apply(self.a(x) * 3))" in text


class Unknown(torch.autograd.Function):
    """A backward that needs the numbers."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x + 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return grad * float(x.sum())


class Without(torch.autograd.Function):
    """No backward at all."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.parametrize("function", [Unknown, Without])
def test_a_backward_that_cannot_be_captured_is_refused(function: Any) -> None:
    with pytest.raises(UnsupportedOpsError, match=function.__name__) as error:
        ivyport.transpile(Body(function.apply), "jax", (example(3, 4),), train=False)
    assert "backward" in str(error.value)
    assert "test_gradients_custom.py:" in str(error.value)


# ---- JAX


@jax.custom_vjp
def round_through(x: Any) -> Any:
    return jnp.round(x)


round_through.defvjp(lambda x: (round_through(x), None), lambda _, g: (g,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def reversal(x: Any, factor: float) -> Any:
    return x


reversal.defvjp(lambda x, f: (x, None), lambda f, _, g: (-f * g,))


@jax.custom_jvp
def clip_through(x: Any) -> Any:
    return jnp.clip(x, -1, 1)


@clip_through.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return clip_through(*primals), 2 * tangents[0]


@jax.custom_jvp
def power(x: Any, y: Any) -> Any:
    return jnp.tanh(x) * y


@power.defjvp
def _(primals: Any, tangents: Any) -> Any:
    x, y = primals
    out = power(x, y)
    return out, out * tangents[0] + 5 * tangents[1]


@jax.custom_vjp
def rows(x: Any, index: Any) -> Any:
    return x[index]


rows.defvjp(
    lambda x, i: (x[i], (x.shape, i)),
    lambda kept, g: (jnp.zeros(kept[0]).at[kept[1]].add(2 * g), None),
)


class Flax(nnx.Module):
    """Two layers around a function."""

    def __init__(self, function: Any) -> None:
        rngs = nnx.Rngs(0)
        self.a, self.b = nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)
        self.function = function

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.b(self.function(3 * self.a(x)))


JAX = {
    "round": round_through,
    "reversal": lambda h: reversal(reversal(h, 0.5), 3.0),
    "custom_jvp, clip that passes": clip_through,
    "custom_jvp of two": lambda h: power(h, h + 1),
    "an integer argument": lambda h: rows(h, jnp.array([2, 0, 0])),
    "inside a scan": lambda h: jax.lax.scan(
        lambda c, x: (reversal(c, 0.5) + round_through(x), c), h[0], h
    )[1],
    "stop_gradient inside a cond": lambda h: jax.lax.cond(
        h.sum() > 0, lambda x: jax.lax.stop_gradient(x) * x, lambda x: x * 2, h
    ),
    "stop_gradient inside a while": lambda h: jax.lax.fori_loop(
        0, 3, lambda i, x: x + jax.lax.stop_gradient(x) * x, h
    ),
}


@pytest.mark.parametrize("name", JAX)
def test_custom_derivatives_of_jax(name: str) -> None:
    source, x = Flax(JAX[name]), example(3, 4)

    def loss(model: Any, x: Any) -> Any:
        y = model(x)
        return jnp.sum(y * weights_of(y.shape))

    given = jnp.asarray(x.numpy())
    wanted = nnx.grad(loss)(source, given)
    wanted_x = jax.grad(lambda x: loss(source, x))(given)
    # Its backward keeps the shape of x, which is a tuple of numbers only where it is fixed.
    dims = {"x": {0: None}} if name == "an integer argument" else None
    ported = ivyport.transpile(source, "torch", (given,), train=False, dims=dims)
    leaf = x.clone().requires_grad_()
    y = ported(leaf)
    (y * torch.from_numpy(weights_of(y.shape))).sum().backward()
    np.testing.assert_allclose(leaf.grad, wanted_x, rtol=1e-4, atol=1e-5)
    mapped = api._known(ported).weights
    found = {n: p.grad.numpy() for n, p in ported.named_parameters()}
    for path, variable in nnx.to_flat_state(wanted):
        actual = mapped.read_source(".".join(map(str, path)), found)
        np.testing.assert_allclose(actual, variable.get_value(), rtol=1e-4, atol=1e-5)
    if "while" in name:  # JAX does not differentiate a while loop in reverse mode
        return
    again = ivyport.transpile(source, "jax", (given,), train=False, dims=dims)
    back = jax.grad(lambda x: loss(again, x))(given)
    np.testing.assert_allclose(back, wanted_x, rtol=1e-4, atol=1e-5)


def test_a_port_of_a_custom_derivative_ports_back() -> None:
    source = Body(TORCH["reversal"]).eval()
    there = ivyport.transpile(source, "jax", (example(3, 4),), train=False)
    back = ivyport.transpile(there, "torch", (example(3, 4).numpy(),), train=False)
    x, y = (example(3, 4).requires_grad_() for _ in range(2))
    source(x).sum().backward()
    back(y).sum().backward()
    torch.testing.assert_close(y.grad, x.grad)
