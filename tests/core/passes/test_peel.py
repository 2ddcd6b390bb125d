"""Reshapes around a layer's one operation go to its caller; uneven padding too."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.ir import Graph, Param, Scope, TensorType, Value
from ivyport.core.passes.padding import split_padding
from ivyport.core.passes.peel import peel_layers
from ivyport.core.verify import verify

ROOT = Scope("", "pkg.Net")
LAYER = (ROOT, Scope("dense", "pkg.Dense"))


def draft() -> tuple[Builder, dict[str, Param]]:
    builder = Builder()
    builder.scope = LAYER
    return builder, {}


def weight(params: dict[str, Param], name: str, *shape: int) -> Value:
    type_ = TensorType("float32", shape)
    value = Value(type_, name)
    params[name] = Param(name, type_, "parameter", value)
    return value


def dense(extra: bool = False) -> Graph:
    builder, params = draft()
    x = Value(TensorType("float32", (2, 3, 4)), "x")
    flat = builder.reshape(x, shape=(2, 12))
    w = weight(params, "dense.w", 12, 6)
    y = builder.linear(flat, w, None, weight_layout="io")
    y = builder.tanh(y) if extra else y
    out = builder.permute_dims(builder.reshape(y, shape=(2, 3, 2)), axes=(0, 2, 1))
    graph = Graph([x], params, builder.nodes, out)
    verify(graph)
    return graph


def test_reshapes_belong_to_the_caller() -> None:
    graph = dense()
    peel_layers(graph)
    verify(graph)
    inside = [n.op for n in graph.nodes if n.scope == LAYER]
    assert inside == ["linear"]
    outside = [n.op for n in graph.nodes if n.scope == LAYER[:1]]
    assert outside == ["reshape", "reshape", "permute_dims"]


def test_a_layer_of_two_operations_stays_whole() -> None:
    graph = dense(extra=True)
    peel_layers(graph)
    assert {n.scope for n in graph.nodes} == {LAYER}


def test_a_reshaped_weight_stays_inside() -> None:
    builder, params = draft()
    x = Value(TensorType("float32", (2, 12)), "x")
    w = builder.reshape(weight(params, "dense.w", 12, 2, 3), shape=(12, 6))
    out = builder.linear(x, w, None, weight_layout="io")
    graph = Graph([x], params, builder.nodes, out)
    peel_layers(graph)
    assert {n.scope for n in graph.nodes} == {LAYER}


def conv(padding: tuple[tuple[int, int], ...], layout: str) -> Graph:
    builder, params = draft()
    shape = (2, 3, 8, 9) if layout == "channels_first" else (2, 8, 9, 3)
    x = Value(TensorType("float32", shape), "x")
    w = weight(params, "dense.w", 5, 3, 3, 3)
    out = builder.conv(
        x, w, None, stride=(2, 1), padding=padding, dilation=(1, 1), layout=layout
    )
    graph = Graph([x], params, builder.nodes, out)
    verify(graph)
    return graph


def test_uneven_padding_is_an_operation_of_the_caller() -> None:
    for layout, axes in (("channels_first", (2, 3)), ("channels_last", (1, 2))):
        graph = conv(((0, 1), (1, 1)), layout)
        before = graph.output_values()[0].type
        split_padding(graph)
        verify(graph)
        pad, node = graph.nodes
        assert (pad.op, pad.scope) == ("pad", LAYER[:1])
        assert [pad.attrs["padding"][a] for a in axes] == [(0, 1), (1, 1)]
        assert node.attrs["padding"] == ((0, 0), (0, 0))
        assert node.scope == LAYER
        assert graph.output_values()[0].type == before


def test_even_padding_stays() -> None:
    graph = conv(((1, 1), (0, 0)), "channels_first")
    split_padding(graph)
    assert [n.op for n in graph.nodes] == ["conv"]
