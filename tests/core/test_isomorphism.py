"""The first difference of two graphs, whatever their names and orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, Record, Scope
from ivyport.core.isomorphism import difference
from tests.graph_run import Draft


def model(
    batch: str = "B",
    *,
    prefix: str = "",
    eps: float = 1e-5,
    swap: bool = False,
    late: bool = False,
    twice: bool = False,
    dropout: float | None = None,
    tie: bool = False,
    act: str = "gelu",
    scale: float = 0.5,
    axis: int = -1,
) -> Graph:
    """A block with a residual, with variations."""
    size = symbol(batch)
    b = Draft()
    b.scope = (Scope(prefix, "Model"),)
    x = b.input("x" + prefix, size, 5, 8)
    weight = b.param(prefix + "w", 8, 8)
    other = weight if tie else b.param(prefix + "v", 8, 8)
    gain = b.param(prefix + "g", 8)
    early = None if late else b.multiply(x, scale)
    h = b.layer_norm(x, gain, None, axis=(-1,), eps=eps)
    if dropout is not None:
        h = b.dropout(h, rate=dropout)
    y = b.linear(h, weight, None)
    y = b.gelu(y, approximate=False) if act == "gelu" else b.node(act, (y,), {}).output
    y = b.linear(y, other, None)
    half = b.multiply(x, scale) if early is None else early
    again = b.multiply(x, scale) if twice else half
    total = b.add(half, y) if swap else b.add(y, half)
    out = b.softmax(b.add(total, again), axis=axis)
    return b.graph({"out": out, "flat": b.reshape(out, shape=(size * 5, 8))})


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"batch": "N"},
        {"prefix": "other."},
        {"swap": True},
        {"late": True},
        {"twice": True},
        {"axis": 2},
        {"swap": True, "late": True, "twice": True, "batch": "N", "prefix": "p."},
    ],
    ids=str,
)
def test_the_same_graph_in_other_words(change: dict[str, Any]) -> None:
    assert difference(model(), model(**change)) is None
    assert difference(model(**change), model()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": 1e-6}, "eps of layer_norm"),
        ({"dropout": 0.1}, "dropout"),
        ({"tie": True}, "'w'"),
        ({"act": "relu"}, "relu"),
        ({"scale": 0.25}, "multiply"),
        ({"axis": 1}, "axis of softmax"),
    ],
    ids=str,
)
def test_a_difference_is_named(change: dict[str, Any], words: str) -> None:
    for pair in ((model(), model(**change)), (model(**change), model())):
        found = difference(*pair)
        assert found is not None
        assert words in found


@pytest.mark.parametrize(
    ("dtype", "other", "same"),
    [
        ("float32", 0.10000000149011612, True),
        ("float32", 0.10000001, False),
        ("float64", 0.10000000149011612, False),
    ],
)
def test_numbers_are_those_of_the_tensors_precision(
    dtype: str, other: float, same: bool
) -> None:
    def of(number: float) -> Graph:
        b = Draft()
        return b.graph(b.multiply(b.input("x", 3, dtype=dtype), number))

    assert (difference(of(0.1), of(other)) is None) == same


def test_what_is_ignored() -> None:
    one, other = model(), model(dropout=0.1, eps=1e-6)
    assert difference(one, other, ignore_ops={"dropout"}) is not None
    ignored = {("layer_norm", "eps")}
    assert difference(one, other, ignore_ops={"dropout"}, ignore_attrs=ignored) is None


def test_paths_of_parameters_on_request() -> None:
    found = difference(model(), model(prefix="p."), paths=True)
    assert found is not None
    assert "'p.g'" in found


def single(function: Callable[[Draft, Any], Any], *shape: Any) -> Graph:
    b = Draft()
    return b.graph(function(b, b.input("x", *shape)))


def test_order_matters_where_an_operation_does_not_commute() -> None:
    one = single(lambda b, x: b.subtract(b.exp(x), b.tanh(x)), 3)
    other = single(lambda b, x: b.subtract(b.tanh(x), b.exp(x)), 3)
    assert difference(one, other) is not None
    one = single(lambda b, x: b.add(b.exp(x), b.tanh(x)), 3)
    other = single(lambda b, x: b.add(b.tanh(x), b.exp(x)), 3)
    assert difference(one, other) is None


def test_draws_are_not_shared() -> None:
    def once(b: Draft, x: Any) -> Any:
        y = b.dropout(x, rate=0.1)
        return b.add(y, y)

    def twice(b: Draft, x: Any) -> Any:
        return b.add(b.dropout(x, rate=0.1), b.dropout(x, rate=0.1))

    assert difference(single(once, 3), single(twice, 3)) is not None
    assert difference(single(twice, 3), single(twice, 3)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: (x, x), lambda x: [x, x, x]),
        (lambda x: {"a": x}, lambda x: {"b": x}),
        (lambda x: Record("A", (("a", x),)), lambda x: Record("A", (("b", x),))),
        (lambda x: (x, None), lambda x: (x, 1)),
        (lambda x: (x, None), lambda x: (x, x)),
    ],
)
def test_structures_that_differ(one: Any, other: Any) -> None:
    found = difference(single(lambda b, x: one(x), 3), single(lambda b, x: other(x), 3))
    assert found is not None
    assert "outputs" in found


def test_inputs_that_differ() -> None:
    found = difference(single(lambda b, x: x, 3), single(lambda b, x: x, 4))
    assert found is not None
    assert "input" in found
    assert difference(single(lambda b, x: x, symbol("B")), single(lambda b, x: x, 4))


def test_a_deep_graph_does_not_recurse() -> None:
    def deep(b: Draft, x: Any) -> Any:
        for _ in range(3000):
            x = b.tanh(x)
        return x

    assert difference(single(deep, 2), single(deep, 2)) is None
