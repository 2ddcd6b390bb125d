"""What a call of an NNX module writes: its parameters, and its plain attributes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import ivyport
from ivyport.api import _known
from ivyport.core.errors import TraceError
from ivyport.frontends.jax import source_nnx

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def port_calls(port: Any, to: str) -> np.ndarray:
    out = port(torch.from_numpy(X) if to == "torch" else X)
    return out.detach().numpy() if to == "torch" else np.asarray(out)


class Weighted(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.lin = nnx.Linear(3, 3, rngs=rngs)
        self.w = nnx.Param(jnp.ones(3))
        self.deterministic = False

    def __call__(self, x):
        return self.lin(x) * self.w


class Value(Weighted):
    def __call__(self, x):
        self.w.set_value(self.w.get_value() * 0.9)  # written here
        return self.lin(x) * self.w


class Item(Weighted):
    def __call__(self, x):
        y = self.lin(x) * self.w
        self.w[...] = self.w * 0.9  # written here
        return y


class Remat(Weighted):
    @nnx.remat
    def __call__(self, x):
        y = self.lin(x) * self.w
        self.w[...] *= 0.9  # written here
        return y


class InTraining(Weighted):
    def __call__(self, x):
        if not self.deterministic:
            self.w[...] = self.w * 0.9  # written here
        return self.lin(x) * self.w


def stacked(cls: type, rngs: nnx.Rngs) -> Any:
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs):
        return cls(rngs)

    return make(rngs)


class Scanned(nnx.Module):
    """Layers of one class; a scan returns all that they hold."""

    layer: type = Weighted

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = stacked(self.layer, rngs)

    def __call__(self, x):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def run(x, layer):
            return layer(x)

        return run(x, self.layers)


class ScannedItem(Scanned):
    layer = Item


@pytest.mark.parametrize("cls", [Value, Item, Remat, InTraining, ScannedItem])
def test_a_parameter_that_is_trained_and_written_is_refused(cls: type) -> None:
    with pytest.raises(TraceError, match="gradient by that parameter") as error:
        ivyport.transpile(cls(nnx.Rngs(0)), "torch", (X,))
    assert "# written here" in str(error.value)
    assert "test_jaxside_state.py:" in str(error.value)


def test_a_write_of_train_mode_is_no_part_of_a_port_for_inference() -> None:
    source = InTraining(nnx.Rngs(0))
    port = ivyport.transpile(source, "torch", (X,), train=False)
    source.eval()
    np.testing.assert_allclose(port_calls(port, "torch"), source(X), rtol=1e-5)


class Momentum(nnx.Module):
    """An encoder that follows another one, in both modes."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.online = nnx.Linear(3, 3, rngs=rngs)
        self.target = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        moved = 0.9 * self.target.kernel + 0.1 * self.online.kernel
        self.target.kernel[...] = jax.lax.stop_gradient(moved)
        return self.online(x) + jax.lax.stop_gradient(self.target(x))


class Decayed(Weighted):
    """A layer that a scan runs over, with a scale that forgets."""

    def __call__(self, x):
        self.w[...] = self.w * 0.9
        return self.lin(x) * jax.lax.stop_gradient(self.w[...])


class ScannedDecayed(Scanned):
    layer = Decayed


@pytest.mark.parametrize("to", ["torch", "jax"])
@pytest.mark.parametrize(
    ("cls", "name"), [(Momentum, "target.kernel"), (ScannedDecayed, "layers.w")]
)
def test_a_parameter_that_is_written_and_not_trained_is_state(
    to: str, cls: type, name: str
) -> None:
    source = cls(nnx.Rngs(0))
    source.eval()
    port = ivyport.transpile(source, to, (X,))
    assert any(f"'{name}' is written" in note for note in _known(port).notes)
    source_nnx._STATE.clear()  # as in a process that verifies a port of another one
    report = ivyport.verify(source, port, args=(X,))
    assert report.passed
    assert not report.not_checked
    for _ in range(3):
        np.testing.assert_allclose(
            port_calls(port, to), source(X), rtol=1e-5, atol=1e-6
        )


class Handed(nnx.Module):
    """Transforms hand parameters through their bodies: nothing writes them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scanned = Scanned(rngs)
        self.block = Weighted(rngs)

    def __call__(self, x):
        x = self.scanned(x)
        x = nnx.remat(lambda block, x: block(x))(self.block, x)
        x = nnx.jit(lambda block, x: block(x))(self.block, x)
        x = nnx.cond(
            x.sum() > 0, lambda b, x: b(x), lambda b, x: b.lin(x), self.block, x
        )

        def body(i, carried):
            block, x = carried
            return block, jnp.tanh(block(x))

        return nnx.fori_loop(0, 2, body, (self.block, x))[1]


def test_transforms_write_nothing() -> None:
    source = Handed(nnx.Rngs(0))
    port = ivyport.transpile(source, "torch", (X,))
    assert not any("is written" in note for note in _known(port).notes)
    trained = {name for name, p in port.named_parameters() if p.requires_grad}
    assert any(name.startswith("block.lin") for name in trained)
    np.testing.assert_allclose(port_calls(port, "torch"), source(X), rtol=1e-5)


class Counts(Weighted):
    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return super().__call__(x) * self.calls


class Notes(Weighted):
    """What nothing reads changes nothing."""

    def __call__(self, x):
        self.seen = tuple(x.shape[1:])
        return super().__call__(x)


def test_a_module_that_counts_its_calls_is_refused() -> None:
    with pytest.raises(TraceError, match=r"remembers earlier calls.*'calls'"):
        ivyport.transpile(Counts(nnx.Rngs(0)), "jax", (X,))
    ivyport.transpile(Notes(nnx.Rngs(0)), "jax", (X,))


class Cached(linen.Module):
    """A collection of the module's own, which each call writes."""

    @linen.compact
    def __call__(self, x):
        past = self.variable("memory", "past", lambda: jnp.zeros((4, 3)))
        before = past.value
        past.value = jnp.tanh(before + linen.Dense(3)(x))
        return past.value + before


def test_each_call_writes_a_collection_of_linen() -> None:
    model = Cached()
    variables = model.init(jax.random.key(0), X)
    port = ivyport.transpile(
        model, "torch", (X,), params=variables, dims={"x": {0: None}}
    )
    for _ in range(3):
        out, new = model.apply(variables, X, mutable=["memory"])
        np.testing.assert_allclose(port_calls(port, "torch"), out, rtol=1e-5, atol=1e-6)
        variables = {**variables, **new}
