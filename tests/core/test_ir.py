from __future__ import annotations

import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import (
    Graph,
    Node,
    Param,
    Record,
    Scalar,
    Source,
    TensorType,
    Value,
    leaves,
    map_leaves,
    map_structure,
    walk,
)

B = symbol("B")
TYPE = TensorType("float32", (B, 3))


def test_tensor_types() -> None:
    assert TYPE.rank == 2
    assert TensorType("float32", (symbol("B"), 3)) == TYPE
    assert hash(TYPE) == hash(TensorType("float32", (symbol("B"), 3)))
    assert TYPE.with_shape((2,)) == TensorType("float32", (2,))
    assert TYPE.with_dtype("bool") == TensorType("bool", (B, 3))
    assert str(TYPE) == "float32[B, 3]"
    assert str(TensorType("int64", ())) == "int64[]"


def test_values_are_equal_to_themselves_alone() -> None:
    x, y = Value(TYPE, "x"), Value(TYPE, "x")
    assert x != y
    assert len({x, y, x}) == 2
    assert repr(x) == "%x: float32[B, 3]"
    assert repr(Value(TYPE)) == "%?: float32[B, 3]"


def test_names_are_not_shared_between_values() -> None:
    x, y = Value(TYPE), Value(TYPE)
    x.names[1] = "hidden"
    assert y.names == {}


def test_operands_that_are_tensors() -> None:
    x, y = Value(TYPE), Value(TYPE)
    node = Node("where", (x, Scalar(1.0), None, y), {})
    assert list(node.values()) == [x, y]


def test_the_only_result() -> None:
    one = Node("exp", (), {}, (Value(TYPE),))
    assert one.output is one.outputs[0]
    with pytest.raises(ValueError, match="unpack"):
        _ = Node("split", (), {}, (Value(TYPE), Value(TYPE))).output


def test_where_a_node_was_written() -> None:
    assert str(Source("model.py", 12, "x")) == "model.py:12"


def test_who_owns_a_parameter() -> None:
    param = Param("a.b.weight", TYPE, "parameter", Value(TYPE), ("c.weight",))
    assert param.owner == "a.b"
    param.place = "c.weight"
    assert param.owner == "c"
    assert Param("scale", TYPE, "parameter", Value(TYPE)).owner == ""


def test_structures() -> None:
    x, y, z = (Value(TYPE) for _ in range(3))
    structure = {
        "a": (x, None),
        "b": [y, 3],
        "c": Record("Out", (("d", z), ("e", None))),
    }
    assert list(leaves(structure)) == [x, y, z]
    mapped = map_structure(lambda v: (v,), structure)
    assert mapped == {
        "a": ((x,), None),
        "b": [(y,), 3],
        "c": Record("Out", (("d", (z,)), ("e", None))),
    }
    assert type(mapped["a"]) is tuple
    assert type(mapped["b"]) is list
    assert list(leaves("text")) == []
    assert list(walk(structure)) == [x, None, y, 3, z, None]
    assert map_leaves(lambda leaf: leaf is None, structure) == {
        "a": (False, True),
        "b": [False, False],
        "c": Record("Out", (("d", False), ("e", True))),
    }


def test_uses() -> None:
    x, y = Value(TYPE), Value(TYPE)
    first = Node("add", (x, x), {}, (y,))
    second = Node("add", (y, x), {}, (Value(TYPE),))
    graph = Graph([x], {}, [first, second], (y, second.output))
    assert graph.uses() == {x: [first, first, second], y: [second]}
    assert graph.output_values() == [y, second.output]
