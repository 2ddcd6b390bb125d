from __future__ import annotations

import pytest

from ivyport.core.build import Builder
from ivyport.core.dims import symbol
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Scope, Source, TensorType, Value

S = symbol("S")


def value(*shape: object, dtype: str = "float32") -> Value:
    return Value(TensorType(dtype, shape))


def test_a_node_is_typed_and_knows_its_place() -> None:
    b = Builder()
    b.scope, b.src = (Scope("", "Net"), Scope("a", "A")), Source("net.py", 3, "y")
    x = value(S, 4)
    y = b.mean(x, axis=(-1,), keepdims=True)
    (node,) = b.nodes
    assert (node.op, node.inputs, node.outputs) == ("mean", (x,), (y,))
    assert node.attrs == {"axis": (-1,), "keepdims": True}
    assert (node.scope, node.src) == (b.scope, b.src)
    assert y.type == TensorType("float32", (S, 1))
    assert y.producer is node


def test_numbers_become_scalars() -> None:
    b = Builder()
    x = value(S, dtype="int64")
    b.add(x, 1)
    b.multiply(S, x)
    assert b.nodes[0].inputs == (x, Scalar(1))
    assert b.nodes[1].inputs == (Scalar(S), x)


def test_absent_operands_are_none() -> None:
    b = Builder()
    x, w = value(S, 4), value(3, 4)
    b.linear(x, w, None)
    assert b.nodes[0].inputs == (x, w, None)


def test_several_results() -> None:
    b = Builder()
    left, right = b.split(value(S, 4), sizes=(1, 3), axis=-1)
    assert left.type.shape == (S, 1)
    assert right.type.shape == (S, 3)
    assert left.producer is right.producer is b.nodes[0]


@pytest.mark.parametrize(
    "operand", ["text", [1], {}, 1j, object()], ids=lambda x: type(x).__name__
)
def test_anything_else_is_no_operand(operand: object) -> None:
    b = Builder()
    with pytest.raises(GraphError, match=type(operand).__name__):
        b.add(value(3), operand)
    assert b.nodes == []


def test_an_error_names_the_operation_and_the_line() -> None:
    b = Builder()
    b.src = Source("net.py", 7)
    with pytest.raises(GraphError, match=r"^matmul: .*net\.py:7$"):
        b.matmul(value(2, 3), value(2, 3))


def test_unknown_operations_and_dunders() -> None:
    b = Builder()
    with pytest.raises(GraphError, match="'nothing'"):
        _ = b.nothing
    with pytest.raises(AttributeError):
        _ = b.__wrapped__


def test_conveniences_add_nothing_where_nothing_changes() -> None:
    b = Builder()
    x = value(S, 4)
    assert b.cast(x, "float32") is x
    assert b.transpose(x, (0, 1)) is x
    assert b.resize(x, (S, 4)) is x
    assert b.expand(x, (S, 4)) is x
    assert b.nodes == []
    b.cast(x, "float16")
    b.transpose(x, (1, 0))
    b.resize(x, (4 * S,))
    b.expand(x, (2, S, 4))
    assert [n.op for n in b.nodes] == [
        "astype", "permute_dims", "reshape", "broadcast_to",
    ]  # fmt: skip


def test_nodes_go_to_the_list_that_is_given() -> None:
    nodes: list = []
    Builder(nodes).exp(value(2))
    assert [n.op for n in nodes] == ["exp"]
