from __future__ import annotations

from ivyport.core.dims import symbol
from ivyport.core.ir import Scope
from ivyport.core.passes.localize import localize
from tests.graph_run import Draft, ops, preserves

B = symbol("B")
ROOT = Scope("", "Net")
FULL = {"shape": (4,), "value": 0.5, "dtype": "float32"}


def test_a_constant_is_made_by_each_module_that_uses_it() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT,)
    half = b.full(**FULL)
    for name in ("a", "b"):
        b.scope = (ROOT, Scope(name, "Block"))
        x = b.add(b.multiply(x, half), half)
    graph = preserves(b.graph(x), localize, rtol=0)
    assert ops(graph) == ["full", "multiply", "add"] * 2
    for node in graph.nodes:
        for value in node.values():
            if value.producer is not None and value.producer.op == "full":
                assert value.producer.scope == node.scope


def test_two_calls_of_one_module_make_their_own() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT,)
    half = b.full(**FULL)
    for call in (0, 1):
        b.scope = (ROOT, Scope("a", "Block", call))
        x = b.add(b.multiply(x, half), 1.0)
    assert ops(preserves(b.graph(x), localize, rtol=0)).count("full") == 2


def test_a_layer_of_one_operation_stays_one() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT, Scope("made", "Maker"))
    half = b.full(**FULL)
    y = b.add(half, 1.0)
    b.scope = (ROOT, Scope("leaf", "Leaf"))
    graph = preserves(b.graph(b.add(b.multiply(x, half), y)), localize, rtol=0)
    assert ops(graph).count("full") == 2
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT, Scope("made", "Maker"))
    half = b.full(**FULL)
    y = b.add(half, 1.0)
    b.scope = (ROOT, Scope("leaf", "Leaf"))
    made = b.multiply(x, half)
    b.scope = (ROOT,)
    graph = preserves(b.graph(b.add(made, y)), localize, rtol=0)
    (leaf,) = [n for n in graph.nodes if n.scope[-1].path == "leaf"]
    maker = leaf.inputs[1].producer
    assert maker is not None
    assert maker.scope == (ROOT,)


def test_a_constant_that_is_an_output_stays() -> None:
    b = Draft()
    b.input("x", B, 4)
    b.scope = (ROOT,)
    half = b.full(**FULL)
    assert ops(preserves(b.graph([half]), localize, rtol=0)) == ["full"]


def test_a_constant_in_its_own_place_is_left_alone() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT,)
    half = b.full(**FULL)
    graph = b.graph(b.add(b.multiply(x, half), half))
    before = list(graph.nodes)
    assert preserves(graph, localize, rtol=0).nodes == before


def test_other_operations_are_not_repeated() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    b.scope = (ROOT,)
    line = b.arange(start=0, stop=4, step=1, dtype="int64")
    b.scope = (ROOT, Scope("a", "Block"))
    out = b.add(x, b.multiply(b.astype(line, dtype="float32"), 2.0))
    assert ops(preserves(b.graph(out), localize, rtol=0)).count("arange") == 1
