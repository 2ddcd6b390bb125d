"""Arguments of JAX sources, and weights that a source holds or closes over."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ivyport
from ivyport.core.errors import InputError


class Pair(NamedTuple):
    left: Any
    right: Any = None


@flax.struct.dataclass
class Stepped:
    h: Any
    count: int = flax.struct.field(pytree_node=False, default=2)


@jax.tree_util.register_pytree_with_keys_class
class Edges:
    """A pytree of its own class."""

    def __init__(self, sender: Any, receiver: Any) -> None:
        self.sender, self.receiver = sender, receiver

    def tree_flatten_with_keys(self) -> Any:
        key = jax.tree_util.GetAttrKey
        return (
            (key("sender"), self.sender),
            (key("receiver"), self.receiver),
        ), None

    @classmethod
    def tree_unflatten(cls, _: Any, parts: Any) -> Edges:
        return cls(*parts)


@jax.tree_util.register_pytree_node_class
class Nameless:
    def __init__(self, x: Any) -> None:
        self.x = x

    def tree_flatten(self) -> Any:
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, _: Any, parts: Any) -> Nameless:
        return cls(*parts)


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *shape])
    return rng.standard_normal(shape).astype(np.float32)


def to_torch(value: Any) -> Any:
    return jax.tree.map(torch.from_numpy, value)


def step(params, x, state, batch, *rest, mode="sum", edges=None):
    h, c = state
    new = jnp.tanh(x @ params["w"] + h) + batch["x"] * batch["pair"].left
    new = new + batch["step"].h * batch["step"].count
    for other in rest:
        new = new - 2 * other
    if edges is not None:
        new = new + edges.sender - 2 * edges.receiver
    return (new.mean() if mode == "mean" else new), (new, c)


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_pytrees_are_arguments_of_the_port(target: str) -> None:
    params = {"w": drawn(4, 4)}
    parts = [drawn(3, 4, seed=i) for i in range(8)]
    batch = {"x": parts[0], "pair": Pair(parts[1]), "step": Stepped(parts[2])}
    args = (parts[3], (parts[4], parts[5]), batch, parts[6], parts[7])
    edges = Edges(parts[1], parts[2])
    options = {"mode": "mean", "edges": edges}
    port = ivyport.transpile(step, target, args, options, params=params)
    convert = to_torch if target == "torch" else (lambda x: x)
    given = convert(args)
    found, state = port(*given, edges=convert(edges))
    wanted, kept = step(params, *args, **options)
    found, _ = port(given[0], state, *given[2:], mode="mean", edges=convert(edges))
    wanted, _ = step(params, args[0], kept, *args[2:], **options)
    found = found.detach() if target == "torch" else found
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="mode is 'sum'; 'mean' alone"):
        port(*given, mode="sum", edges=convert(edges))
    with pytest.raises(TypeError, match="rest has 1 items; 2 are due"):
        port(*given[:4], edges=convert(edges))
    assert ivyport.verify(step, port, params=params).passed


def test_a_pytree_without_names_is_refused() -> None:
    with pytest.raises(InputError, match=r"argument 'g' of .* holds a Nameless"):
        ivyport.transpile(lambda g: g.x * 2, "torch", (Nameless(drawn(2, 3)),))


# ---- weights that a source holds


@jax.tree_util.register_pytree_with_keys_class
class Module:
    """What equinox's modules are: pytrees with named parts that can be called."""

    parts: tuple[str, ...] = ()

    def __init__(self, *parts: Any) -> None:
        for name, part in zip(self.parts, parts, strict=True):
            setattr(self, name, part)

    def tree_flatten_with_keys(self) -> Any:
        key = jax.tree_util.GetAttrKey
        return [(key(name), getattr(self, name)) for name in self.parts], None

    @classmethod
    def tree_unflatten(cls, _: Any, parts: Any) -> Any:
        return cls(*parts)

    def __init_subclass__(cls) -> None:
        jax.tree_util.register_pytree_with_keys_class(cls)


class Dense(Module):
    parts = ("weight", "bias")

    def __call__(self, x: Any) -> Any:
        return self.weight @ x + self.bias


class Net(Module):
    parts = ("layers", "scale", "activation")

    def __call__(self, x: Any) -> Any:
        def one(row: Any) -> Any:
            for layer in self.layers:
                row = self.activation(layer(row))
            return row * self.scale

        return jax.vmap(one)(x)


def net() -> Net:
    layers = [Dense(drawn(5, 4), drawn(5)), Dense(drawn(3, 5), drawn(3))]
    return Net(layers, drawn(3, seed=1), jnp.tanh)


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_a_callable_pytree_is_ported_as_a_module_with_parameters(target: str) -> None:
    source, x = net(), drawn(6, 4)
    port = ivyport.transpile(source, target, (x,))
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert {row.kind for row in report.rows} >= {"output", "gradient"}
    if target == "torch":
        names = {name: tuple(p.shape) for name, p in port.named_parameters()}
        assert names["layers.0.weight"] == (5, 4)
        assert names["layers.1.bias"] == (3,)
        assert isinstance(port.layers[0], torch.nn.Linear)
        assert len(names) == 5


def test_modules_inside_of_params_are_modules_too() -> None:
    params = {"tower": net(), "shift": drawn(3)}
    port = ivyport.transpile(
        lambda p, x: p["tower"](x) + p["shift"], "torch", (drawn(6, 4),), params=params
    )
    assert isinstance(port.tower.layers[1], torch.nn.Linear)


def test_closed_over_weights_are_named_in_a_note() -> None:
    held, table = net(), drawn(3)
    port = ivyport.transpile(lambda x: held(x) + table, "torch", (drawn(6, 4),))
    (note,) = [n for n in ported_notes(port) if "closes over" in n]
    assert "held.layers[0].weight" in note
    assert "params=" in note
    assert not list(port.parameters())


def ported_notes(port: Any) -> list[str]:
    from ivyport.api import _PORTS

    return _PORTS[port].notes
