"""Layers that were written out are recognised, and what only looks like one is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, NewAxis, Slice, Value
from ivyport.core.passes.raising import raise_layers
from tests.graph_run import Draft, ops, preserves

B, S = symbol("B"), symbol("S")


def rms(
    *,
    axis: tuple[int, ...] = (-1,),
    keepdims: bool = True,
    exponent: float = 2,
    eps_inside: bool = True,
    order: int = 0,
    square: str = "pow",
    weight_axis: int = -1,
    other: bool = False,
    dtype: str = "float32",
) -> Graph:
    """x * rsqrt(mean(x ** 2) + eps) * weight over (B, S, 6), with variations."""
    b = Draft()
    x = b.input("x", B, 6, 6, dtype=dtype)
    y = b.input("y", B, 6, 6, dtype=dtype) if other else x
    shape = (6,) if weight_axis == -1 else (6, 1)
    weight = b.param("weight", *shape, dtype=dtype)
    squared = {
        "pow": lambda: b.pow(y, exponent),
        "square": lambda: b.square(y),
        "multiply": lambda: b.multiply(y, y),
    }[square]()
    mean = b.mean(squared, axis=axis, keepdims=keepdims)
    root = b.rsqrt(b.add(mean, 0.1)) if eps_inside else b.add(b.rsqrt(mean), 0.1)
    scaled = b.multiply(x, root) if order % 2 == 0 else b.multiply(root, x)
    out = b.multiply(weight, scaled) if order < 2 else b.multiply(scaled, weight)
    return b.graph(out)


@pytest.mark.parametrize("square", ["pow", "square", "multiply"])
@pytest.mark.parametrize("order", range(4))
def test_rms_norm(square: str, order: int) -> None:
    graph = preserves(rms(square=square, order=order), raise_layers)
    (node,) = graph.nodes
    assert node.op == "rms_norm"
    assert node.attrs == {"axis": (-1,), "eps": 0.1}


@pytest.mark.parametrize(
    "change",
    [
        {"axis": (1,)},
        {"exponent": 3},
        {"exponent": 2.5},
        {"eps_inside": False},
        {"other": True},
    ],
    ids=str,
)
def test_no_rms_norm(change: dict[str, Any]) -> None:
    graph = rms(**change)
    before = ops(graph)
    raise_layers(graph)
    assert ops(graph) == before


@pytest.mark.parametrize("change", [{"axis": (-2, -1)}, {"weight_axis": 1}], ids=str)
def test_a_weight_over_other_axes_stays_outside(change: dict[str, Any]) -> None:
    graph = preserves(rms(**change), raise_layers)
    assert ops(graph) == ["rms_norm", "multiply"]
    assert graph.nodes[0].inputs[1] is None


def test_rms_norm_in_bfloat16_rounds_elsewhere_and_stays() -> None:
    graph = rms(dtype="bfloat16")
    raise_layers(graph)
    assert "rms_norm" not in ops(graph)


def test_rms_norm_whose_mean_is_used_too_keeps_it() -> None:
    b = Draft()
    x, weight = b.input("x", B, 6), b.param("weight", 6)
    mean = b.mean(b.square(x), axis=(-1,), keepdims=True)
    out = b.multiply(weight, b.multiply(x, b.rsqrt(b.add(mean, 1e-6))))
    graph = preserves(b.graph((out, mean)), raise_layers)
    assert sorted(ops(graph)) == ["mean", "rms_norm", "square"]


def gelu(
    *,
    half: float = 0.5,
    one: float = 1.0,
    root: float = math.sqrt(2 / math.pi),
    cubic: float = 0.044715,
    exponent: float = 3.0,
    other: str = "",
    swap: bool = False,
) -> Graph:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))."""
    b = Draft()
    x = b.input("x", B, 6)
    y = b.input("y", B, 6)
    cube = b.pow(y if other == "cube" else x, exponent)
    term = b.multiply(cube, cubic)
    base = y if other == "base" else x
    total = b.add(term, base) if swap else b.add(base, term)
    inner = b.add(b.tanh(b.multiply(total, root)), one)
    halved = b.multiply(y if other == "outer" else x, half)
    return b.graph(b.multiply(inner, halved) if swap else b.multiply(halved, inner))


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("root", [math.sqrt(2 / math.pi), 0.7978845608028654])
def test_gelu(swap: bool, root: float) -> None:
    graph = preserves(gelu(swap=swap, root=root), raise_layers, rtol=1e-6)
    (node,) = graph.nodes
    assert (node.op, node.attrs) == ("gelu", {"approximate": True})


@pytest.mark.parametrize(
    "change",
    [
        {"half": 0.51},
        {"one": 1.001},
        {"root": 0.79},
        {"cubic": 0.0447},
        {"exponent": 2.0},
        {"exponent": 2.5},
        {"other": "cube"},
        {"other": "base"},
        {"other": "outer"},
    ],
    ids=str,
)
def test_no_gelu(change: dict[str, Any]) -> None:
    graph = gelu(**change)
    before = ops(graph)
    raise_layers(graph)
    assert ops(graph) == before


@pytest.mark.parametrize("layout", ["oi", "io"])
def test_linear_between_reshapes(layout: str) -> None:
    b = Draft()
    x = b.input("x", B, S, 4)
    weight = b.param("w", *((3, 4) if layout == "oi" else (4, 3)))
    flat = b.reshape(x, shape=(B * S, 4))
    y = b.linear(flat, weight, b.param("b", 3), weight_layout=layout)
    graph = preserves(b.graph(b.reshape(y, shape=(B, S, 3))), raise_layers)
    assert ops(graph) == ["linear"]


@pytest.mark.parametrize("shape", [(S, B, 3), (B * S, 3, 1), (B, S * 3)], ids=str)
def test_reshapes_that_do_not_undo_each_other(shape: tuple[Any, ...]) -> None:
    b = Draft()
    flat = b.reshape(b.input("x", B, S, 4), shape=(B * S, 4))
    y = b.linear(flat, b.param("w", 3, 4), None)
    graph = preserves(b.graph(b.reshape(y, shape=shape)), raise_layers)
    assert ops(graph) in (
        ["reshape", "linear", "reshape"],
        ["reshape", "linear", "getitem"],  # an axis of size one, as an index
    )


def test_a_reshape_that_cuts_the_features_stays() -> None:
    b = Draft()
    flat = b.reshape(b.input("x", B, 3, 8), shape=(B, 6, 4))
    y = b.linear(flat, b.param("w", 4, 4), None)
    graph = preserves(b.graph(b.reshape(y, shape=(B, 3, 8))), raise_layers)
    assert ops(graph) == ["reshape", "linear", "reshape"]


def attend(scale: float | None, change: Callable[[Draft, Value], Value]) -> Graph:
    """Attention of 4 query heads to what `change` makes of 2 key and value heads."""
    b = Draft()
    q = b.input("q", B, 4, S, 8)
    k, v = (b.input(n, B, 2, S, 8) for n in "kv")
    return b.graph(b.attention(q, change(b, k), change(b, v), None, scale=scale))


def repeated(b: Draft, x: Value) -> Value:
    """Every head twice, side by side."""
    wide = b.getitem(x, index=(Slice(), Slice(), NewAxis()))
    return b.reshape(b.expand(wide, (B, 2, 2, S, 8)), shape=(B, 4, S, 8))


def tiled(b: Draft, x: Value) -> Value:
    """All heads, twice: groups of another order."""
    wide = b.getitem(x, index=(Slice(), NewAxis()))
    return b.reshape(b.expand(wide, (B, 2, 2, S, 8)), shape=(B, 4, S, 8))


def test_grouped_heads() -> None:
    graph = preserves(attend(None, repeated), raise_layers, rtol=1e-5)
    assert ops(graph) == ["attention"]


def test_tiled_heads_are_not_grouped() -> None:
    graph = preserves(attend(None, tiled), raise_layers, rtol=1e-5)
    assert ops(graph).count("broadcast_to") == 2


def test_default_scale_goes_and_another_stays() -> None:
    def identity(b: Draft, x: Value) -> Value:
        return b.concat(x, x, axis=1)

    default = preserves(attend(8**-0.5, identity), raise_layers, rtol=1e-5)
    assert default.nodes[-1].attrs["scale"] is None
    other = preserves(attend(0.3, identity), raise_layers, rtol=1e-5)
    assert other.nodes[-1].attrs["scale"] == 0.3


@pytest.mark.parametrize(
    ("value", "dtype", "stays"),
    [
        (True, "bool", False),
        (0.0, "float32", False),
        (False, "bool", True),
        (1.0, "float32", True),
    ],
)
def test_a_mask_that_says_nothing_goes(
    value: bool | float, dtype: str, stays: bool
) -> None:
    b = Draft()
    x = b.input("x", B, 2, 6, 4)
    mask = b.full(shape=(1, 1, 6, 6), value=value, dtype=dtype)
    graph = b.graph(b.attention(x, x, x, mask))
    raise_layers(graph)
    assert (graph.nodes[-1].inputs[3] is not None) == stays
