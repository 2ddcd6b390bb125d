from __future__ import annotations

from ivyport.core.ir import Record
from ivyport.core.passes.dce import eliminate
from tests.graph_run import Draft, ops, preserves


def test_dead_nodes_and_parameters_go() -> None:
    b = Draft()
    x = b.input("x", 2, 3)
    kept, dead = b.param("kept", 3), b.param("dead", 3)
    used = b.multiply(x, kept)
    b.exp(b.add(x, dead))
    graph = preserves(b.graph(b.tanh(used)), eliminate, rtol=0)
    assert ops(graph) == ["multiply", "tanh"]
    assert list(graph.params) == ["kept"]
    assert graph.inputs == [x]


def test_one_used_result_keeps_a_node_with_several() -> None:
    b = Draft()
    x = b.input("x", 2, 6)
    left, right = b.split(x, sizes=(2, 4), axis=1)
    b.exp(left)
    graph = preserves(b.graph(right), eliminate, rtol=0)
    assert ops(graph) == ["split"]


def test_every_place_of_the_output_structure_is_alive() -> None:
    b = Draft()
    x = b.input("x", 2)
    values = [b.exp(x), b.tanh(x), b.abs(x), b.square(x)]
    structure = {
        "a": [values[0], None],
        "b": Record("Out", (("c", values[1]), ("d", (values[2], 4)))),
        "e": values[3],
    }
    assert ops(preserves(b.graph(structure), eliminate)) == [
        "exp", "tanh", "abs", "square",
    ]  # fmt: skip


def test_order_is_kept_and_a_chain_of_dead_nodes_goes_whole() -> None:
    b = Draft()
    x = b.input("x", 2)
    y = x
    for _ in range(5):
        y = b.exp(y)
    z = b.abs(b.negative(x))
    assert ops(preserves(b.graph(z), eliminate)) == ["negative", "abs"]


def test_an_output_that_is_an_input() -> None:
    b = Draft()
    x = b.input("x", 2)
    b.exp(x)
    assert ops(preserves(b.graph((x, x)), eliminate)) == []
