"""Loops and branches from JAX to PyTorch and Flax NNX: values, gradients, other sizes, text."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax import lax

import ivyport
from ivyport.core import control
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Node
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.pipeline import prepare
from ivyport.core.passes.simplify import simplify
from ivyport.core.text import render
from ivyport.core.verify import verify
from ivyport.frontends.jax.lower import lower_function
from ivyport.targets import TARGETS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 3)).astype("float32")  # batch, time, features
WEIGHTS = {n: RNG.normal(size=(3, 3)).astype("float32") * 0.4 for n in ("w", "v")}


def ported(
    source: Any, to: str, *args: Any, params: Any = None, **options: Any
) -> tuple[str, ivyport.Report, Any]:
    """The port's classes as text, how it was verified, and the port."""
    kwargs = {} if params is None else {"params": params}
    model = ivyport.transpile(source, to, args, **kwargs, **options)
    report = ivyport.verify(source, model, args=args, **kwargs)
    text = inspect.getsource(sys.modules[type(model).__module__])
    return text[text.index("class ") :], report, model


def demand(report: ivyport.Report, *kinds: str) -> None:
    """All rows pass, and there are rows of these kinds and of second inputs."""
    assert report.passed, [row for row in report.rows if not row.passed]
    assert set(kinds) <= {row.kind for row in report.rows}
    assert {row.inputs for row in report.rows} == {"traced", "second"}


def unrolled(core: Callable[[], hk.RNNCore], unroll: Any) -> hk.Transformed:
    """A recurrent network with a linear on top."""

    def function(x: jax.Array) -> Any:
        cell = core()
        y, state = unroll(cell, x, cell.initial_state(x.shape[0]), time_major=False)
        return hk.Linear(2)(y), state

    return hk.transform(function)


class Recurrent(linen.Module):
    """A linen RNN, from the end to the start."""

    cell: Callable[[int], linen.RNNCellBase]

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rnn = linen.RNN(self.cell(5), reverse=True, keep_order=True)
        return linen.Dense(2)(rnn(x))


class Layers(linen.Module):
    """A scan over layers, each one rematerialised."""

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        class Layer(linen.Module):
            @linen.compact
            def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
                return x + linen.remat(linen.Dense)(3)(jnp.tanh(x)), None

        scan = linen.scan(
            Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        return scan(name="layers")(x, None)[0]


class NNXRecurrent(nnx.Module):
    """An NNX RNN."""

    def __init__(self, cell: type, rngs: nnx.Rngs) -> None:
        self.rnn = nnx.RNN(cell(3, 5, rngs=rngs))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.rnn(x)


@pytest.mark.parametrize("core", [hk.LSTM, hk.GRU, hk.VanillaRNN])
def test_haiku_recurrent_networks(core: Callable[[int], hk.RNNCore]) -> None:
    source = unrolled(functools.partial(core, 5), hk.dynamic_unroll)
    params = source.init(jax.random.key(0), X)
    text, report, _ = ported(source, "torch", X, params=params)
    demand(report, "output", "gradient", "train_step")
    assert "for x_t in x.transpose(0, 1):" in text
    assert "nn.Linear(" in text
    assert text.count("nn.Linear(") == text.count(" = nn.Linear(")


def test_a_static_unroll() -> None:
    source = unrolled(lambda: hk.VanillaRNN(5), hk.static_unroll)
    params = source.init(jax.random.key(0), X)
    demand(ported(source, "torch", X, params=params)[1], "gradient")


@pytest.mark.parametrize("cell", [linen.LSTMCell, linen.GRUCell])
def test_linen_recurrent_networks(cell: Any) -> None:
    source = Recurrent(cell)
    params = source.init(jax.random.key(0), X)
    text, report, _ = ported(source, "torch", X, params=params)
    demand(report, "output", "gradient", "train_step")
    assert f"self.{cell.__name__}_0(" in text


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.GRUCell])
def test_nnx_recurrent_networks(cell: type) -> None:
    _, report, _ = ported(NNXRecurrent(cell, nnx.Rngs(0)), "torch", X)
    demand(report, "output", "gradient", "train_step")


def test_a_length_that_stays_free() -> None:
    source = Recurrent(linen.SimpleCell)
    params = source.init(jax.random.key(0), X)
    dims = {"x": {0: "batch", 1: "time"}}
    for target in ("torch", "jax"):
        text, report, _ = ported(source, target, X, params=params, dims=dims)
        demand(report, "gradient")
        assert set(report.dims) == {"batch", "time"}
        assert ("jax.lax.scan(step, " in text) == (target == "jax")


def test_layers_that_are_scanned() -> None:
    source = Layers()
    params = source.init(jax.random.key(0), X)
    text, report, _ = ported(source, "torch", X, params=params)
    demand(report, "gradient")
    assert "nn.ModuleList(" in text


# ---- loops and branches of plain functions


def crossed(p: Any, x: jax.Array) -> Any:
    """Carried values that change places, one of them never read, from the end."""

    def step(carry: Any, t: jax.Array) -> Any:
        a, b, n, _ = carry
        return (b, a + t @ p["w"], n * 2, t), (a, n)

    start = (x[:, 0], x[:, 1], 1.0, x[:, 0])
    return lax.scan(step, start, jnp.swapaxes(x, 0, 1), reverse=True)


def nested(p: Any, x: jax.Array) -> Any:
    """A while loop and a branch in a loop, which read values of outside."""
    y = x @ p["w"]

    def step(carry: jax.Array, t: jax.Array) -> Any:
        _, count = lax.while_loop(
            lambda s: s[0].sum() < 5.0,
            lambda s: (jnp.abs(s[0]) + 0.5, s[1] + 1),
            (lax.stop_gradient(t), 0),
        )
        carry = lax.cond(
            carry.sum() > 0, lambda c: c - t @ p["v"], lambda c: c + y[:, 0], carry
        )
        return carry, (carry, count)

    return lax.scan(step, y[:, 1], jnp.swapaxes(x, 0, 1)), y


def chosen(p: Any, x: jax.Array, i: jax.Array) -> Any:
    """One of three branches, by number, and a loop of three rounds."""
    y = lax.switch(i, [lambda: x @ p["w"], lambda: x @ p["v"], lambda: x * 2])
    return lax.fori_loop(0, 3, lambda k, c: jnp.tanh(c) * (k + 1), y)


def mapped(p: Any, x: jax.Array) -> Any:
    """A loop that carries nothing, and one that stacks nothing."""
    rows = lax.map(lambda row: jnp.tanh(row @ p["w"]), x)
    total, _ = lax.scan(lambda c, t: (c + t @ p["v"], None), x[:, 0], rows[:, None, 0])
    return rows, total


CASES = [
    (crossed, (X,), "reversed("),
    (nested, (X,), "while "),
    (chosen, (X, np.int32(1)), "elif "),
    (mapped, (X,), "torch.stack("),
]


@pytest.mark.parametrize(("function", "args", "shown"), CASES)
def test_loops_and_branches(function: Any, args: Any, shown: str) -> None:
    text, report, _ = ported(function, "torch", *args, params=WEIGHTS)
    demand(report, "output", "gradient")
    assert shown in text


@pytest.mark.parametrize(("function", "args"), [(c[0], c[1]) for c in CASES[:3]])
def test_the_same_in_jax(function: Any, args: Any) -> None:
    _, report, _ = ported(function, "jax", *args, params=WEIGHTS)
    demand(report, "output", "gradient")


def test_a_loop_whose_length_depends_on_data() -> None:
    def function(p: Any, x: jax.Array) -> Any:
        def test(carry: Any) -> jax.Array:
            y = carry[0] @ p["w"]
            return (jnp.sum(y * y) + jnp.sum(jnp.abs(y)) < 50.0) & (carry[2] < 7)

        count = jnp.sum(x > 0).astype(jnp.int32) // 8
        x = lax.fori_loop(0, count, lambda i, c: c + jnp.tanh(c @ p["v"]), x)
        step = lambda c: (c[1], c[0] * 1.3 + c[1], c[2] + 1)  # noqa: E731
        return lax.while_loop(test, step, (x, x * 0.5, 0))

    text, report, _ = ported(function, "torch", X, params=WEIGHTS)
    demand(report, "output")
    assert "break" in text
    assert any(
        "gradients: they are not available" in what for what in report.not_checked
    )


def test_gradients_that_the_source_defines() -> None:
    @jax.custom_jvp
    def softplus(x: jax.Array) -> jax.Array:
        return jnp.log1p(jnp.exp(x))

    softplus.defjvp(
        lambda p, t: (softplus(p[0]), jax.nn.sigmoid(p[0]) * t[0]),
    )

    @jax.custom_vjp
    def wave(x: jax.Array) -> jax.Array:
        return jnp.sin(x) * x

    wave.defvjp(
        lambda x: (wave(x), x),
        lambda x, g: (g * (jnp.cos(x) * x + jnp.sin(x)),),
    )

    def function(p: Any, x: jax.Array) -> Any:
        return jax.checkpoint(lambda y: wave(softplus(y @ p["w"])))(x)

    demand(ported(function, "torch", X, params=WEIGHTS)[1], "gradient")


# ---- the graph


def scan_of(graph: Graph) -> Node:
    """The only loop of a graph."""
    (node,) = (n for n in graph.nodes if n.op == "scan")
    return node


def looped(x: jax.Array, w: jax.Array) -> jax.Array:
    """A loop with a counter and results that nobody reads, and weights it turns."""

    def step(carry: Any, t: jax.Array) -> Any:
        h, i, odd = carry
        h = jnp.tanh(t @ w.T + h)
        return (h, i + 1, odd * i), (h, h * 2)

    start = (jnp.zeros(3), 0, 1)
    return lax.scan(step, start, x)[1][0]


def test_what_nobody_reads_goes() -> None:
    graph = lower_function(looped, X[0], WEIGHTS["w"])
    verify(graph)
    assert len(scan_of(graph).outputs) == 5
    eliminate(graph)
    verify(graph)
    node = scan_of(graph)
    assert node.attrs["num_carry"] == 1
    assert [str(v.type) for v in node.outputs] == ["float32[3]", "float32[4, 3]"]
    assert len(node.attrs["body"].nodes) == 4


def test_bodies_are_closed_and_verified() -> None:
    graph = lower_function(looped, X[0], WEIGHTS["w"])
    simplify(graph)
    body = scan_of(graph).attrs["body"]
    captured = control.captured(scan_of(graph), body)
    assert [outer.name for outer, _ in captured] == ["x1"]
    assert "permute_dims" in render(graph)
    body.outputs[0] = graph.inputs[0]
    with pytest.raises(GraphError, match="is not defined"):
        verify(graph)


def test_passes_keep_bodies_verified() -> None:
    for target in ("torch", "jax"):
        graph = lower_function(lambda x: nested(WEIGHTS, x), X)
        notes = prepare(graph, TARGETS[target].policy)
        verify(graph)
        assert any("torch.compile" in note for note in notes) == (target == "torch")
