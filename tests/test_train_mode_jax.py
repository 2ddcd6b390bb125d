"""What JAX sources do in train mode alone: dropout inside of loops, and state they write."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx

import ivyport
from ivyport.core.control import all_nodes
from ivyport.core.passes.pipeline import prepare
from ivyport.frontends.jax.frontend import to_graph
from ivyport.targets import TARGETS
from ivyport.verification.jax_dropout import without_dropout
from ivyport.zoo.haiku.catalogue import ENTRIES
from tests.porting import as_jax
from tests.support import as_numpy

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((3, 5, 8)).astype(np.float32)
RATE = 0.5


def drop(x: jax.Array, is_training: bool) -> jax.Array:
    return hk.dropout(hk.next_rng_key(), RATE, x) if is_training else x


# ---- dropout in loops: each returns the state of every step, batch first


def haiku_scan(x: jax.Array, is_training: bool = False) -> jax.Array:
    cell = hk.Linear(8, name="cell")

    def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = drop(jnp.tanh(cell(x_t) + h), is_training)
        return h, h

    first = jnp.zeros((x.shape[0], 8))
    return hk.scan(step, first, x.swapaxes(0, 1))[1].swapaxes(0, 1)


def haiku_for(x: jax.Array, is_training: bool = False) -> jax.Array:
    x, cell = jnp.asarray(x), hk.Linear(8, name="cell")
    cell(x[:, 0])  # makes the parameters outside of the loop

    def step(i: jax.Array, carry: Any) -> Any:
        h, found = carry
        h = drop(jnp.tanh(cell(x[:, i]) + h), is_training)
        return h, found.at[:, i].set(h)

    start = (jnp.zeros((x.shape[0], 8)), jnp.zeros(x.shape))
    return hk.fori_loop(0, 5, step, start)[1]


class Step(linen.Module):
    train: bool

    @linen.compact
    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jnp.tanh(linen.Dense(8)(x) + h)
        h = linen.Dropout(RATE, deterministic=not self.train)(h)
        return h, h


class LinenScan(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        step = linen.scan(
            Step,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        return step(train, name="step")(jnp.zeros((x.shape[0], 8)), x)[1]


class Haiku:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.source: Any = hk.transform(function)
        self.params: Any = self.source.init(KEY, X)

    def port(self, to: str = "torch", **options: Any) -> Any:
        options = {"params": self.params, "rng": KEY, **options}
        return ivyport.transpile(self.source, to, (X,), **options)

    def notes(self) -> list[str]:
        """What is said beside the sizes that the port is made for."""
        found = to_graph(self.source, (X,), params=self.params, rng=KEY).notes
        return [note for note in found if not note.startswith("Sizes of ")]


class Linen(Haiku):
    def __init__(self) -> None:
        self.source = LinenScan()
        self.params = self.source.init(KEY, X)


LOOPS = {
    "hk.scan": lambda: Haiku(haiku_scan),
    "hk.fori_loop": lambda: Haiku(haiku_for),
    "nn.scan": Linen,
}


@pytest.mark.parametrize("name", LOOPS)
def test_dropout_in_a_loop_is_trained_with(name: str) -> None:
    case = LOOPS[name]()
    assert not case.notes()
    model = case.port()
    report = ivyport.verify(case.source, model, args=(X,), params=case.params, rng=KEY)
    assert report.passed
    x = torch.from_numpy(X)
    with torch.no_grad():
        still = model(x)
        model.train()
        found = model(x)
        again = model(x)
        (layer,) = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert layer.p == RATE
        layer.p = 0.0
        torch.testing.assert_close(model(x), still)
        layer.p = 1.0
        assert not model(x).any()  # every step is dropped, not the end alone
    kept = found[:, 0] != 0
    assert 0 < kept.sum() < kept.numel()
    torch.testing.assert_close(found[:, 0], still[:, 0] * 2 * kept)
    assert not torch.equal(found, again)
    assert not torch.equal(found[:, 0] != 0, found[:, 1] != 0)  # drawn anew a step


def test_what_a_loop_reads_of_outside_may_be_dropped() -> None:
    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        bias = drop(jnp.sin(x[:, 0]), is_training)

        def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = drop(h + jnp.cos(x_t) + bias, is_training)
            return h, h

        return hk.scan(step, jnp.zeros((x.shape[0], 8)), x.swapaxes(0, 1))[0]

    case = Haiku(function)
    found = to_graph(case.source, (X,), params={}, rng=KEY)
    assert not [n for n in found.notes if not n.startswith("Sizes of ")]
    outside = [n for n in found.graph.nodes if n.op == "dropout"]
    everywhere = [n for n in all_nodes(found.graph) if n.op == "dropout"]
    assert (len(outside), len(everywhere)) == (1, 2)
    (scan,) = [n for n in found.graph.nodes if n.op == "scan"]
    assert outside[0].output in scan.inputs


def test_a_loop_that_reads_a_tensor_with_and_without_dropout_is_in_both_modes() -> None:
    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        bias = jnp.sin(x[:, 0])
        dropped = drop(bias, is_training)

        def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = drop(h * x_t + dropped, is_training) - bias
            return h, h

        return hk.scan(step, jnp.zeros((x.shape[0], 8)), x.swapaxes(0, 1))[0]

    assert_both_modes(Haiku(function))


def test_another_computation_in_a_loop_is_in_both_modes() -> None:
    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        def step(h: jax.Array, x_t: jax.Array) -> tuple[jax.Array, jax.Array]:
            h = drop(jnp.sin(h) if is_training else h, is_training) + x_t
            return h, h

        return hk.scan(step, jnp.zeros((x.shape[0], 8)), x.swapaxes(0, 1))[0]

    assert_both_modes(Haiku(function))


def assert_both_modes(case: Haiku) -> None:
    """The port computes the source in eval mode, and draws in train mode alone."""
    assert case.notes() == []
    model, x = case.port(), torch.as_tensor(X)
    expected = case.source.apply(case.params, KEY, X)
    np.testing.assert_allclose(model(x).detach(), np.asarray(expected), atol=1e-5)
    model.train()
    assert not torch.equal(model(x), model(x))
    # Without dropout both compute the same in train mode too.
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with without_dropout():
        expected = case.source.apply(case.params, KEY, X, is_training=True)
    np.testing.assert_allclose(model(x).detach(), np.asarray(expected), atol=1e-5)


def test_jax_has_no_dropout_in_loops_and_says_so() -> None:
    case = Haiku(haiku_scan)
    graph = to_graph(case.source, (X,), params=case.params, rng=KEY).graph
    (note,) = prepare(graph, TARGETS["jax"].policy)
    assert note.startswith("Dropout inside of loops and branches is left out")
    model = case.port("jax")
    still = model(jnp.asarray(X))
    model.train()
    np.testing.assert_array_equal(model(jnp.asarray(X)), still)


# ---- state that train mode writes


def averages(zero_debias: bool, warmup: int) -> Callable[..., Any]:
    """A moving average that the outputs do not depend on."""

    def function(x: jax.Array, is_training: bool = False) -> jax.Array:
        y = hk.Linear(4, name="up")(x[:, 0])
        if is_training:
            hk.ExponentialMovingAverage(0.9, zero_debias, warmup, name="average")(
                y.mean(0)
            )
        return y

    return function


def of_what_is_dropped(x: jax.Array, is_training: bool = False) -> jax.Array:
    y = drop(x[:, 0] + 1, is_training)
    total = hk.get_state("total", [8], init=jnp.zeros)
    if is_training:
        hk.set_state("total", total + y.sum(0))
    return y


WRITERS = {
    "debiased": averages(True, 0),
    "biased": averages(False, 0),
    "warmed up": averages(False, 2),
}


def _same_after_training(
    source: Any, params: Any, state: Any, to: str, *batches: np.ndarray
) -> None:
    """The port's buffers are haiku's after each batch in train mode, and stay in eval."""
    args, given = (batches[0],), {"params": params, "state": state, "rng": KEY}
    model = ivyport.transpile(source, to, args, **given)
    assert ivyport.verify(source, model, args=args, **given).passed
    for train in (True, False):
        model.train(train) if to == "torch" else (
            model.train if train else model.eval
        )()
        for batch in batches:
            model(torch.from_numpy(batch) if to == "torch" else as_jax(batch))
            if train:
                _, state = source.apply(params, state, KEY, batch, True)
            found = _buffers(model, to)
            for module, own in state.items():
                for name, array in own.items():
                    path = f"{module}.{name}".replace("/~/", ".").replace("~.", "")
                    np.testing.assert_allclose(
                        found[path], array, rtol=1e-5, atol=1e-6, err_msg=path
                    )


def _buffers(model: Any, to: str) -> dict[str, np.ndarray]:
    if to == "torch":
        return {name: as_numpy(x) for name, x in model.named_buffers()}
    flat = nnx.to_flat_state(nnx.state(model))
    return {
        ".".join(map(str, path)): np.asarray(variable.get_value())
        for path, variable in flat
        if not isinstance(variable, nnx.RngState)
    }


@pytest.mark.parametrize("to", ["torch", "jax"])
@pytest.mark.parametrize("name", WRITERS)
def test_moving_averages(name: str, to: str) -> None:
    source = hk.transform_with_state(WRITERS[name])
    params, state = source.init(KEY, X, True)
    _same_after_training(source, params, state, to, X, X * 2 + 1, X - 3)


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_vector_quantizer(to: str) -> None:
    sizes = {"channels": 4, "num_embeddings": 6, "grid": (2, 3)}
    model = ENTRIES["vqvae"].build("ema", batch=3, sizes=sizes)
    params, state = model.draw(seed=0)
    x = model.inputs["x"]
    _same_after_training(model.transformed, params, state, to, x, x * 0.5 + 1, -x)


def test_what_is_written_may_be_of_what_is_dropped() -> None:
    source = hk.transform_with_state(of_what_is_dropped)
    params, state = source.init(KEY, X, True)
    model = ivyport.transpile(
        source, "torch", (X,), params=params, state=state, rng=KEY
    )
    x, before = torch.from_numpy(X), copy.deepcopy(model.total)
    model(x)
    assert torch.equal(model.total, before)
    model.train()
    y = model(x)
    assert (y == 0).any()
    torch.testing.assert_close(model.total, before + y.sum(0))


class Observed(linen.Module):
    """A variable of a collection of its own, written in training."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        largest = self.variable("seen", "largest", jnp.zeros, (8,))
        seen = largest.value
        if train:
            largest.value = jnp.maximum(seen, jnp.abs(x).max((0, 1)))
        return linen.Dense(4)(x - seen)


def test_a_collection_of_linen_in_torch() -> None:
    source = Observed()
    variables = source.init(KEY, X)
    model = ivyport.transpile(source, "torch", (X,), params=variables)
    model(torch.from_numpy(X))
    assert not model.largest.any()
    model.train()(torch.from_numpy(X))
    np.testing.assert_allclose(as_numpy(model.largest), np.abs(X).max((0, 1)))
