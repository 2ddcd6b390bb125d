"""Random models are emitted, run, and compared with their graphs evaluated node by node."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import torch

from ivyport import targets
from ivyport.backends import pyast
from ivyport.core.ir import Graph, Scope, TensorType, Value
from ivyport.modules.variables import Variables
from tests.emission_fuzz import ROW, B, Model
from tests.graph_eval import evaluate_graph
from tests.graph_run import Draft, draw
from tests.modules.emission import emit_graph, live
from tests.support import as_numpy

TARGETS = ("torch", "jax", "numpy")
TAKE = {"torch": torch.from_numpy, "jax": jnp.asarray, "numpy": np.asarray}
ROOT = (Scope("", "pkg.Net"),)


@pytest.fixture(autouse=True)
def unformatted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Formatting is most of the time, and changes nothing here."""
    monkeypatch.setattr(pyast, "format_source", lambda text: text)


#: Seeds of graphs with an output that float32 does not settle.
unsettled: set[int] = set()


def check(graph: Graph, target: str, seed: int = 0) -> str:
    """Demand of the emitted model what the graph gives, call after call; its source.

    Where sorting or a branch follows what differs by rounding alone, float32 settles nothing:
    an output is not compared where the graph itself gives another one in float64 (`unsettled`).
    """
    arrays = draw(graph, {"batch": 3}, seed)
    names = [str(v.name) for v in graph.inputs]
    emitted = emit_graph(copy.deepcopy(graph), target=target)
    model = live(emitted, arrays, target)
    given = [TAKE[target](arrays[name].copy()) for name in names]

    def call() -> None:
        expected, updates = evaluate_graph(graph, arrays)
        with torch.no_grad(), np.errstate(all="ignore"):
            found = model(*given)
        exact = jax.tree.leaves(evaluate_graph(graph, arrays, wide=True)[0])
        theirs = jax.tree.leaves(expected)
        for mine, right, wide in zip(
            jax.tree.leaves(found), theirs, exact, strict=True
        ):
            if np.allclose(right, wide, rtol=1e-4, atol=1e-4):
                np.testing.assert_allclose(as_numpy(mine), right, rtol=2e-3, atol=2e-3)
            else:
                unsettled.add(seed)
        arrays.update(updates if model_trains else {})

    model_trains = not graph.trained
    # Loops as Python's own: compiling them is what takes the time.
    with jax.disable_jit():
        call()
        if graph.trained and targets.TARGETS[target].policy.trains:
            model.train()
            model_trains = True
        for _ in range(2 if graph.updates else 0):
            call()
    return emitted.source


def check_many(seeds: range, target: str) -> None:
    """Check one graph a seed; all but a few have outputs that float32 settles."""
    for seed in seeds:
        check(Model(seed).graph(), target, seed)
    assert len(unsettled & set(seeds)) <= len(seeds) // 10


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [1291, 2250, 2280])
def test_graphs_that_are_hardly_settled(seed: int, target: str) -> None:
    """A rank decides about them: of 2280 the reference is off by 0.01 from float64."""
    check(Model(seed).graph(), target, seed)
    assert (seed in unsettled) == (seed == 2280)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("start", range(0, 200, 20))
def test_random_models(start: int, target: str) -> None:
    check_many(range(start, start + 20), target)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("start", range(1000, 3000, 50))
def test_many_random_models(start: int, target: str) -> None:
    check_many(range(start, start + 50), target)


# ---- the fuzz finds the faults that it is for


def unpinned(self: Variables, values: Any, reads: Any = None) -> list[str]:
    """Names for several results that spare nothing of what the statement reads."""
    taken: list[str] = []
    for value in values:
        needed = len(values) == 1 or self.needed(value)
        own = () if len(values) > 1 else frozenset(_read(reads))
        taken.append(self._take(value, own, taken) if needed else "_")
    return taken


def _read(expr: Any) -> Iterator[str]:
    return (
        (n.id for n in ast.walk(expr) if isinstance(n, ast.Name)) if expr else iter(())
    )


def unbound(self: Variables, name: str, reads: Any) -> bool:
    """Nothing is bound before a name that it reads is assigned."""
    return False


def unwritten(self: Variables, buffers: Any) -> None:
    """Buffers are written before everything has read them."""


FAULTS = {
    "several results overwrite what they are made of": ("take", unpinned),
    "pending expressions are not bound": ("_bind_readers", unbound),
    "buffers are written too early": ("before_write", unwritten),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Variables, *FAULTS[fault])
    with pytest.raises((AssertionError, RuntimeError, UnboundLocalError)):
        check_many(range(400), "torch")


# ---- what it found


def draft() -> Draft:
    b = Draft()
    b.scope = ROOT
    return b


def state(graph: Graph, path: str, value: Any, *, training: bool = False) -> Graph:
    graph.updates[path] = value
    graph.trained = set(graph.updates) if training else set()
    return graph


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_a_buffer_that_is_returned_and_written(target: str, training: bool) -> None:
    b = draft()
    x = b.input("x", B, ROW)
    count = b.param("count", ROW, kind="buffer")
    new = b.add(b.multiply(count, 0.5), b.mean(x, axis=(0,), keepdims=False))
    graph = b.graph([count, b.subtract(x, count), count])
    check(state(graph, "count", new, training=training), target)


@pytest.mark.parametrize("target", TARGETS)
def test_buffers_that_swap(target: str) -> None:
    b = draft()
    x = b.input("x", B, ROW)
    one = b.param("one", ROW, kind="buffer")
    two = b.param("two", ROW, kind="buffer")
    graph = b.graph(b.add(x, one))
    graph.updates |= {"one": two, "two": one}
    check(graph, target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_call_that_writes_is_made_once_though_returned_twice(target: str) -> None:
    b = draft()
    x = b.input("x", B, ROW)
    b.scope = (*ROOT, Scope("memory", "pkg.Memory"))
    count = b.param("memory.count", ROW, kind="buffer")
    made = b.add(x, count)
    new = b.add(count, b.mean(x, axis=(0,), keepdims=False))
    b.scope = ROOT
    graph = b.graph({"a": made, "b": made, "c": b.subtract(x, count)})
    check(state(graph, "memory.count", new), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["_", "zip", "reversed", "B", "self", "outputs"])
def test_arguments_named_like_what_a_loop_needs(name: str, target: str) -> None:
    """A loop that collects results needs a device, a size, and variables of its own."""
    model = Model(0)
    model.b, model.live = draft(), []
    b = model.b
    x = b.input(name, B, ROW)
    entries = b.stack(x, b.tanh(x), axis=0)
    row = TensorType("float32", (B, ROW))
    inputs = [Value(row), Value(row)]

    def step(own: list[Value]) -> list[Value]:
        line = b.arange(start=0, stop=B, step=1, dtype="float32")
        wide = b.broadcast_to(b.mean(line, axis=(0,), keepdims=False), shape=(B, ROW))
        return [b.add(own[0], own[1]), b.add(own[1], wide)]

    body = model.region(inputs, step)
    attrs = {"body": body, "num_carry": 1, "num_xs": 1, "length": 2, "reverse": True}
    made = b.node("scan", (x, entries), attrs).outputs
    for value in made:
        value.names[0] = name
    check(b.graph([made[1], b.sort(made[0], axis=-1)[0]]), target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_parameter_below_a_list_is_returned(target: str) -> None:
    """The module that holds it is never called."""
    b = draft()
    x = b.input("x", B, ROW)
    for index in range(2):
        b.scope = (*ROOT, Scope(f"layers.{index}", "pkg.Layer"))
        x = b.add(b.tanh(x), b.param(f"layers.{index}.weight", ROW))
    b.scope = ROOT
    check(b.graph([x, b.param("layers.1.inner.weight", ROW)]), target)
