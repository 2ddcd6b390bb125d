"""The engine of raising ends, and its debug view says why a rule refused."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.ir import Graph, NewAxis, Node, Slice, Value
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.raising.debug import refusals
from ivyport.core.passes.rewrite import apply_rules
from tests.graph_run import Draft


def softmax_of_columns() -> Graph:
    draft = Draft()
    x, values = draft.input("x", 3, 4, 4), draft.input("v", 3, 4, 4)
    weights = draft.softmax(x, axis=1)
    return draft.graph(draft.matmul(weights, values))


def test_a_refusal_names_the_rule_and_its_condition() -> None:
    graph = softmax_of_columns()
    raise_layers(graph)
    before = [node.op for node in graph.nodes]
    found = list(refusals(graph, "matmul"))
    assert [node.op for node in graph.nodes] == before
    [refused] = [r for r in found if r.rule == "attention"]
    assert refused.where.startswith("attention.py:")
    assert refused.condition
    assert "_weights" in str(refused) or "attention" in str(refused)
    assert {r.node.op for r in found} == {"matmul"}


def test_what_is_raised_has_nothing_left_to_answer() -> None:
    draft = Draft()
    x = draft.input("x", 4, 3)
    cut = draft.getitem(x, index=(Slice(start=1), NewAxis()))
    graph = draft.graph(draft.reshape(cut, shape=(3, 3)))
    raise_layers(graph)
    assert {r.rule for r in refusals(graph, "reshape")} >= {"keepdims", "units"}


def test_an_answer_that_is_the_node_itself_is_a_refusal() -> None:
    draft = Draft()
    graph = draft.graph(draft.negative(draft.input("x", 2)))

    def again(b: Builder, node: Node) -> Value:
        return b.node(node.op, node.inputs, node.attrs).output

    assert not apply_rules(graph, {"negative": [again]})
    assert [node.op for node in graph.nodes] == ["negative"]
