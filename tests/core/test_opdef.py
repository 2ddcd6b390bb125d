from __future__ import annotations

import inspect
from typing import Any

import pytest

from ivyport.core import opdef
from ivyport.core.build import Builder
from ivyport.core.dims import symbol
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, TensorType, Value

F = TensorType("float32", (2, 3))


def test_bind_fills_in_defaults() -> None:
    x = Value(F)
    operands, attrs = opdef.get("sum").bind((x,), {"axis": (0,)})
    assert operands == (x,)
    assert attrs == {"axis": (0,), "keepdims": False}


@pytest.mark.parametrize(
    ("op", "count", "attrs"),
    [
        ("add", 1, {}),
        ("add", 3, {}),
        ("softmax", 1, {}),
        ("softmax", 1, {"axis": 0, "dim": 1}),
        ("linear", 2, {"weight_layout": "oi"}),
        ("exp", 1, {"out": None}),
        ("softmax", 2, {"axis": 0}),
    ],
)
def test_bind_refuses(op: str, count: int, attrs: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match=op):
        opdef.get(op).bind(tuple(Value(F) for _ in range(count)), attrs)


def test_attributes_cannot_be_given_by_position() -> None:
    with pytest.raises(GraphError, match="too many positional"):
        opdef.get("gelu").bind((Value(F), Scalar(True)), {})


def test_there_is_no_such_operation() -> None:
    with pytest.raises(GraphError, match="'sum_of'"):
        opdef.get("sum_of")
    with pytest.raises(GraphError, match="'sum_of'"):
        Builder().sum_of(Value(F))


def test_an_operation_is_defined_once() -> None:
    with pytest.raises(GraphError, match="'add' is defined twice"):
        opdef.op("add")(lambda x, y: x)


@pytest.mark.parametrize("name", sorted(opdef.REGISTRY))
def test_every_definition(name: str) -> None:
    """Operands come first and attributes are keywords; what is tunable is an attribute."""
    definition = opdef.get(name)
    parameters = definition.signature.parameters.values()
    kinds = {p.kind for p in parameters}
    assert kinds <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
        inspect.Parameter.KEYWORD_ONLY,
    }
    keywords = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(definition.tunable) <= keywords
    assert definition.variadic == (inspect.Parameter.VAR_POSITIONAL in kinds)


def illegal() -> list[tuple[str, list[Any], dict[str, Any]]]:
    """Nodes whose types do not fit."""
    f, g = Value(F), Value(TensorType("float32", (3, 2)))
    i, t = Value(F.with_dtype("int64")), Value(F.with_dtype("bool"))
    half, s = Value(F.with_dtype("bfloat16")), symbol("S")
    free = Value(TensorType("float32", (s, 3)))
    return [
        ("add", [f, g], {}),
        ("add", [f, half], {}),
        ("add", [i, 0.5], {}),
        ("add", [t, t], {}),
        ("add", [f, free], {}),
        ("exp", [i], {}),
        ("bitwise_and", [f, f], {}),
        ("where", [f, f, f], {}),
        ("where", [t, f, i], {}),
        ("astype", [f], {"dtype": "float8"}),
        ("reshape", [f], {"shape": (4, 2)}),
        ("reshape", [f], {"shape": (-1, -1)}),
        ("reshape", [f], {"shape": (4, -1)}),
        ("reshape", [free], {"shape": (s, 4)}),
        ("permute_dims", [f], {"axes": (0, 0)}),
        ("permute_dims", [f], {"axes": (0,)}),
        ("broadcast_to", [f], {"shape": (2, 4)}),
        ("broadcast_to", [f], {"shape": (1, 3)}),
        ("getitem", [f], {"index": (0, 0, 0)}),
        ("sum", [f], {"axis": (2,)}),
        ("sum", [f], {"axis": (0, -2)}),
        ("concat", [f, g], {"axis": 0}),
        ("concat", [f, i], {"axis": 0}),
        ("concat", [f, f], {"axis": 2}),
        ("stack", [f, g], {"axis": 0}),
        ("split", [f], {"sizes": (1, 1), "axis": 1}),
        ("matmul", [f, f], {}),
        ("matmul", [f, Value(TensorType("int64", (3, 2)))], {}),
        ("linear", [f, g, None], {}),
        ("embedding", [f, g], {}),
        ("layer_norm", [f, None, None], {"axis": (0,), "eps": 1e-5}),
        ("dropout", [f], {"rate": 1.5}),
        ("index", [f, f], {}),
        ("take_along_axis", [f, Value(TensorType("int64", (2,)))], {"axis": 0}),
        ("einsum", [f, f], {"equation": "ij,jk->ik"}),
        ("pad", [f], {"padding": ((0, 0),)}),
        ("pad", [f], {"padding": ((0, 0), (0, 0)), "mode": "mirror"}),
        ("attention", [f, g, g, None], {}),
    ]


@pytest.mark.parametrize(("op", "operands", "attrs"), illegal())
def test_illegal_types(op: str, operands: list[Any], attrs: dict[str, Any]) -> None:
    b = Builder()
    with pytest.raises(GraphError):
        b.node(op, tuple(operands), attrs)
    assert b.nodes == []
