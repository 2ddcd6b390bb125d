"""Method bodies: whatever the values are called, none is overwritten while it is needed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, Scope, Value
from tests.graph_fuzz import Fuzz
from tests.graph_run import SIZES, Draft, draw, run
from tests.modules.emission import classes, emit_graph, live, method
from tests.support import assert_close

B = symbol("B")
ROOT = Scope("", "pkg.Net")


def flat(structure: Any) -> list[Any]:
    if isinstance(structure, dict):
        return [x for v in structure.values() for x in flat(v)]
    if isinstance(structure, list | tuple):
        return [x for v in structure for x in flat(v)]
    return [structure]


def check(graph: Graph, rtol: float = 1e-5) -> str:
    """What is emitted computes what the graph does; the emitted source."""
    import jax.numpy as jnp

    given = [draw(graph, sizes, seed) for seed, sizes in enumerate(SIZES)]
    for arrays in given[1:]:
        arrays |= {name: given[0][name] for name in graph.params}
    expected = [run(graph, arrays) for arrays in given]
    emitted = emit_graph(graph)
    model = live(emitted, given[0])
    for arrays, values in zip(given, expected, strict=True):
        found = model(*(jnp.asarray(arrays[str(v.name)]) for v in graph.inputs))
        for ours, theirs in zip(flat(found), values, strict=True):
            assert_close(ours, theirs, rtol=rtol)
    return emitted.source


def name_all(graph: Graph, pool: list[str], seed: int) -> None:
    """Give every value names of the source's variables out of a small pool."""
    rng = random.Random(seed)
    for node in graph.nodes:
        for value in node.outputs:
            for depth in range(len(node.scope) or 1):
                if rng.random() < 0.8:
                    value.names[depth] = rng.choice(pool)


@pytest.mark.parametrize("seed", range(12))
def test_random_bodies_with_colliding_names(seed: int) -> None:
    graph = Fuzz(300 + seed).graph(12)
    name_all(graph, ["x", "y", "hidden_states"][: 1 + seed % 3], seed)
    check(graph, rtol=1e-3)


class Blocks:
    """A chain of random blocks of one class, whose constants and wiring differ."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.b = Draft()

    def block(self, index: int, values: list[Value], kind: int) -> list[Value]:
        """Two values to two values; each kind has other statements."""
        b, rng = self.b, self.rng
        path = f"blocks.{index}"
        b.scope = (ROOT, Scope(path, "pkg.Block"))
        x, y = values
        weight = b.param(f"{path}.weight", 4)
        scale = rng.choice([0.5, 2.0, 0.25])
        x = b.add(b.multiply(x, weight), rng.choice([1.0, 3.0]))
        b.scope = (*b.scope, Scope(f"{path}.linear", "torch.nn.Linear"))
        linear = b.linear(y, b.param(f"{path}.linear.weight", 4, 4), None)
        b.scope = b.scope[:-1]
        if kind == 0:
            y = b.tanh(b.multiply(linear, scale))
            return [y, x]
        if kind == 1:
            y = b.add(b.tanh(linear), b.multiply(x, scale))
            return [x, y]
        old = x
        x = b.sin(b.multiply(linear, scale))
        return [b.subtract(x, old), b.multiply(b.minimum(old, x), y)]

    def graph(self, length: int) -> Graph:
        b = self.b
        values = [b.input("x", B, 4), b.input("y", B, 4)]
        for index in range(length):
            kind = self.rng.choice([0, 1, 2]) if self.rng.random() < 0.6 else 0
            values = self.block(index, values, kind)
            b.scope = (ROOT,)
            if self.rng.random() < 0.3:
                values[0] = b.multiply(values[0], 0.5)
            if self.rng.random() < 0.3:
                values.reverse()
        return b.graph(values)


@pytest.mark.parametrize("seed", range(12))
def test_random_blocks_of_one_class(seed: int) -> None:
    graph = Blocks(seed).graph(7)
    name_all(graph, ["x", "y", "linear", "blocks"], seed)
    check(graph, rtol=1e-4)


def named(value: Value, name: str) -> Value:
    value.names[0] = name
    return value


def test_a_value_that_is_overwritten_while_it_is_needed() -> None:
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("x", B, 4)
    first = named(b.tanh(x), "x")
    second = named(b.add(b.sin(first), x), "x")
    third = named(b.add(b.multiply(second, first), x), "x")
    check(b.graph([b.add(third, first), b.subtract(second, x)]))


def test_a_pending_expression_that_reads_a_reassigned_name() -> None:
    """`late` is inlined at the end, and must read `x` as it was."""
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("x", B, 4)
    late = b.multiply(x, 3.0)
    y = named(b.tanh(x), "x")
    y = named(b.add(b.multiply(y, y), 1.0), "x")
    y = named(b.add(b.sin(y), b.multiply(y, y)), "x")
    check(b.graph(b.subtract(b.multiply(y, y), late)))


def test_two_values_that_swap_names() -> None:
    b = Draft()
    b.scope = (ROOT,)
    x, y = b.input("x", B, 4), b.input("y", B, 4)
    for _ in range(3):
        x, y = (
            named(b.tanh(b.add(b.multiply(y, y), x)), "x"),
            named(b.sin(b.add(b.multiply(x, x), y)), "y"),
        )
    check(b.graph([b.add(x, y), b.add(x, x), b.multiply(y, y)]))


def loop(count: int, *, extra: bool = False, between: bool = False) -> Graph:
    """Equal blocks in a row, whose first input is used again after them if `extra`."""
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("x", B, 4)
    mask = b.input("mask", B, 4)
    start = named(b.tanh(x), "x")
    value = start
    for index in range(count):
        b.scope = (ROOT, Scope(f"layers.{index}", "pkg.Layer"))
        weight = b.param(f"layers.{index}.weight", 4)
        value = b.add(b.multiply(b.sin(value), weight), mask)
        value.names[0] = "x"
        b.scope = (ROOT,)
        if between and index == 1:
            value = named(b.multiply(value, 0.5), "x")
    return b.graph(b.add(value, start) if extra else value)


def test_equal_layers_in_a_row_are_a_loop() -> None:
    source = check(loop(4))
    body = method(classes(source)["Net"])
    assert "for layer in self.layers:" in body
    assert body.count("layer(x, mask)") == 1


def test_a_loop_keeps_what_is_needed_behind_it() -> None:
    source = check(loop(4, extra=True))
    assert "for layer in self.layers:" in method(classes(source)["Net"])


def test_an_interrupted_loop_is_two() -> None:
    source = check(loop(5, between=True))
    body = method(classes(source)["Net"])
    assert "self.layers[:2]" in body
    assert "self.layers[2:]" in body


def test_one_module_called_again_and_again_is_a_loop() -> None:
    b = Draft()
    b.scope = (ROOT,)
    value = b.tanh(b.input("x", B, 4))
    weight = b.param("layer.weight", 4)
    for call in range(5):
        b.scope = (ROOT, Scope("layer", "pkg.Layer", call))
        value = b.add(b.multiply(value, weight), 0.5)
    body = method(classes(check(b.graph(value)))["Net"])
    assert "for _ in range(" in body
    assert body.count("self.layer(") == 1


@pytest.mark.parametrize(
    "word", ["self", "jnp", "class", "lambda", "rngs", "nnx", "2x"]
)
def test_words_that_are_taken_are_no_variables(word: str) -> None:
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("x", B, 4)
    y = named(b.multiply(x, x), word)
    check(b.graph(b.add(b.multiply(y, y), b.sqrt(b.abs(y)))))


def test_sizes_are_read_from_an_input_once() -> None:
    b = Draft()
    b.scope = (ROOT,)
    s = symbol("S")
    x = b.input("x", B, s, 4)
    flat = b.reshape(x, shape=(B * s, 4))
    y = b.reshape(b.matmul(flat, b.param("w", 4, 4)), shape=(B, s, 2, 2))
    z = b.add(b.mean(y, axis=(3,), keepdims=False), 1.0)
    source = check(b.graph([z, b.arange(start=0, stop=s, step=1, dtype="int64")]))
    assert method(classes(source)["Net"]).count(".shape") == 1


def test_values_used_once_are_inlined() -> None:
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("x", B, 4)
    source = check(b.graph(b.add(b.tanh(b.multiply(x, 2.0)), 1.0)))
    assert "return jnp.tanh(x * 2.0) + 1.0" in source or "* 2.0) + 1.0" in source


def test_long_expressions_are_cut() -> None:
    b = Draft()
    b.scope = (ROOT,)
    x = b.input("hidden_states", B, 4)
    for i in range(24):
        x = b.add(b.tanh(b.multiply(x, float(i + 2))), b.sin(x))
    source = check(b.graph(x), rtol=1e-4)
    assert all(len(line) <= 88 for line in source.split("\n"))
    assert np.max([line.count("(") for line in source.split("\n")]) < 12
