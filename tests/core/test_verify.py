"""Each violation of the specification is found; the message says where."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ivyport.core.dims import symbol
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Node, Scalar, TensorType, Value
from ivyport.core.verify import verify
from tests.graph_run import Draft

S = symbol("S")


def good() -> Graph:
    """y = tanh(x @ w.T + b) * 2 of (S, 4)."""
    b = Draft()
    x = b.input("x", S, 4)
    y = b.tanh(b.linear(x, b.param("w", 3, 4), b.param("b", 3)))
    return b.graph({"y": b.multiply(y, 2.0), "none": None})


def test_a_good_graph() -> None:
    verify(good())


def undefined_use(graph: Graph) -> None:
    graph.nodes[1].inputs = (Value(TensorType("float32", (S, 3)), "lost"),)


def use_before_definition(graph: Graph) -> None:
    graph.nodes.reverse()


def undefined_output(graph: Graph) -> None:
    graph.outputs = [Value(TensorType("float32", (2,)), "lost")]


def removed_parameter(graph: Graph) -> None:
    del graph.params["b"]


def wrong_shape(graph: Graph) -> None:
    graph.nodes[1].output.type = TensorType("float32", (S, 4))


def wrong_dtype(graph: Graph) -> None:
    graph.nodes[2].output.type = TensorType("float16", (S, 3))


def wrong_number_of_results(graph: Graph) -> None:
    node = graph.nodes[0]
    extra = Value(TensorType("float32", (S, 3)))
    extra.producer = node
    node.outputs = (*node.outputs, extra)


def unknown_operation(graph: Graph) -> None:
    graph.nodes[1].op = "tangent"


def unknown_attribute(graph: Graph) -> None:
    graph.nodes[1].attrs["approximate"] = True


def missing_attribute(graph: Graph) -> None:
    graph.nodes[1].op = "gelu"


def missing_operand(graph: Graph) -> None:
    graph.nodes[2].inputs = graph.nodes[2].inputs[:1]


def illegal_operand(graph: Graph) -> None:
    graph.inputs[0].type = TensorType("float32", (S, 5))


def mixed_dtypes(graph: Graph) -> None:
    graph.inputs[0].type = TensorType("float16", (S, 4))


def double_definition(graph: Graph) -> None:
    node = graph.nodes[1]
    graph.nodes.append(Node("tanh", node.inputs, {}, node.outputs))


def input_twice(graph: Graph) -> None:
    graph.inputs.append(graph.inputs[0])


def input_that_is_a_parameter(graph: Graph) -> None:
    graph.inputs.append(graph.params["w"].value)


def wrong_producer(graph: Graph) -> None:
    graph.nodes[1].output.producer = graph.nodes[0]


def no_producer(graph: Graph) -> None:
    graph.nodes[1].output.producer = None


def undeclared_symbol(graph: Graph) -> None:
    del graph.dims["S"]


def unreachable_symbol(graph: Graph) -> None:
    graph.dims["T"] = (1, None)
    graph.nodes[2].inputs = (graph.nodes[2].inputs[0], Scalar(symbol("T")))
    size = symbol("T")
    made = Node("full", (), {"shape": (size,), "value": 0.0, "dtype": "float32"})
    made.outputs = (Value(TensorType("float32", (size,))),)
    made.outputs[0].producer = made
    graph.nodes.append(made)


def misfiled_parameter(graph: Graph) -> None:
    graph.params["other"] = graph.params.pop("b")


def parameter_of_another_type(graph: Graph) -> None:
    graph.params["b"].type = TensorType("float32", (4,))


VIOLATIONS: dict[Callable[[Graph], None], str] = {
    undefined_use: r"node 1 \(tanh.*%lost: .* is used before it is defined",
    use_before_definition: r"node 0 \(multiply.*used before it is defined",
    undefined_output: r"output %lost: .* is not defined",
    removed_parameter: r"%b: float32\[3\] is used before it is defined",
    wrong_shape: r"node 1 .*float32\[S, 4\], inferred float32\[S, 3\]",
    wrong_dtype: r"node 2 .*float16\[S, 3\], inferred float32\[S, 3\]",
    wrong_number_of_results: r"node 0 .*has type",
    unknown_operation: r"no operation 'tangent'",
    unknown_attribute: r"node 1 .*approximate",
    missing_attribute: r"node 1 .*approximate",
    missing_operand: r"node 2 .*'y'",
    illegal_operand: r"node 0 .*linear of float32\[S, 5\]",
    mixed_dtypes: r"node 0 .*linear of float16\[S, 4\]",
    double_definition: r"node 3 .*is defined twice",
    input_twice: r"%x: .* is defined twice",
    input_that_is_a_parameter: r"%w: .* is defined twice",
    wrong_producer: r"does not know its producer",
    no_producer: r"does not know its producer",
    undeclared_symbol: r"symbol 'S' has no bounds",
    unreachable_symbol: r"symbol 'T' is no axis of an input",
    misfiled_parameter: r"parameter 'b' is filed under 'other'",
    parameter_of_another_type: r"parameter 'b'",
}


@pytest.mark.parametrize("violate", VIOLATIONS, ids=lambda f: f.__name__)
def test_violation(violate: Callable[[Graph], None]) -> None:
    graph = good()
    violate(graph)
    with pytest.raises(GraphError, match=VIOLATIONS[violate]):
        verify(graph)


def test_a_symbol_in_a_scalar_operand_is_checked() -> None:
    graph = good()
    node = graph.nodes[2]
    node.inputs = (node.inputs[0], Scalar(symbol("T")))
    with pytest.raises(GraphError, match="symbol 'T' has no bounds"):
        verify(graph)


def test_a_symbol_of_an_input_alone_needs_bounds() -> None:
    b = Draft()
    graph = b.graph(b.input("x", S))
    graph.dims.clear()
    with pytest.raises(GraphError, match="symbol 'S' has no bounds"):
        verify(graph)


def test_every_violation_is_listed() -> None:
    graph = good()
    for violate in (undefined_output, wrong_producer, missing_operand, input_twice):
        violate(graph)
    with pytest.raises(GraphError) as caught:
        verify(graph)
    text = str(caught.value)
    assert text.startswith("4 violations")
    for part in ("lost", "producer", "'y'", "twice"):
        assert part in text
