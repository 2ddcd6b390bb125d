"""Local identities: each keeps values to the last bit, and what is no identity stays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, NewAxis, Scope, Slice, Value
from ivyport.core.passes.simplify import simplify
from tests.graph_run import Draft, ops, preserves

B, S = symbol("B"), symbol("S")
FULL = Slice()
Make = Callable[[Draft, Value], Any]


def case(make: Make, dtype: str = "float32", shape: Any = (B, S, 4)) -> Graph:
    """A graph of one input x."""
    b = Draft()
    x = b.input("x", *shape, dtype=dtype)
    return b.graph(make(b, x))


def simplified(make: Make, dtype: str = "float32", **options: Any) -> list[str]:
    """What is left of a graph, whose values are the same bit for bit."""
    return ops(preserves(case(make, dtype, **options), simplify, rtol=0))


NOTHING: dict[str, Make] = {
    "astype": lambda b, x: b.astype(x, dtype="float32"),
    "reshape": lambda b, x: b.reshape(x, shape=(B, S, 4)),
    "broadcast": lambda b, x: b.broadcast_to(x, shape=(B, S, 4)),
    "permute": lambda b, x: b.permute_dims(x, axes=(0, 1, 2)),
    "index": lambda b, x: b.getitem(x, index=(FULL, FULL)),
    "dropout": lambda b, x: b.dropout(x, rate=0.0),
    "concat": lambda b, x: b.concat(x, axis=0),
    "tile": lambda b, x: b.tile(x, repetitions=(1, 1, 1)),
    "pad": lambda b, x: b.pad(x, padding=((0, 0),) * 3),
    "roll": lambda b, x: b.roll(x, shift=(0,), axis=(1,)),
    "times 1": lambda b, x: b.multiply(x, 1.0),
    "1 times": lambda b, x: b.multiply(1.0, x),
    "over 1": lambda b, x: b.divide(x, 1.0),
    "minus 0": lambda b, x: b.subtract(x, 0.0),
    "permutes": lambda b, x: b.permute_dims(
        b.permute_dims(x, axes=(2, 0, 1)), axes=(1, 2, 0)
    ),
    "reshapes": lambda b, x: b.reshape(b.reshape(x, shape=(B * S, 4)), shape=(B, S, 4)),
    "times a tensor of ones": lambda b, x: b.multiply(
        x, b.full(shape=(S, 4), value=1.0, dtype="float32")
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_goes(name: str) -> None:
    assert simplified(NOTHING[name]) == []


SOMETHING: dict[str, Make] = {
    "plus 0": lambda b, x: b.add(x, 0.0),
    "0 plus": lambda b, x: b.add(0.0, x),
    "0 minus": lambda b, x: b.subtract(0.0, x),
    "1 over": lambda b, x: b.divide(1.0, x),
    "times 0": lambda b, x: b.multiply(x, 0.0),
    "times almost 1": lambda b, x: b.multiply(x, 1.0000001),
    "minus almost 0": lambda b, x: b.subtract(x, 1e-30),
    "dropout": lambda b, x: b.dropout(x, rate=0.1),
    "part": lambda b, x: b.getitem(x, index=(FULL, Slice(0, 1))),
    "permutes that do not cancel": lambda b, x: b.permute_dims(
        b.permute_dims(x, axes=(2, 0, 1)), axes=(2, 0, 1)
    ),
    "minus a negative zero": lambda b, x: b.subtract(x, -0.0),
}


@pytest.mark.parametrize("name", SOMETHING)
def test_what_changes_something_stays(name: str) -> None:
    """Zeros of both signs, infinities and NaN are among the values."""
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 3e38, 1e-30, 0.1]
    x = np.asarray([special, special[::-1]], np.float32).reshape(1, 5, 4)
    graph = case(SOMETHING[name])
    assert (
        len(preserves(graph, simplify, rtol=0, jit=False, arrays=[{"x": x}]).nodes) == 1
    )


@pytest.mark.parametrize("name", ["times 1", "over 1", "minus 0", "1 times"])
def test_identities_hold_for_special_values(name: str) -> None:
    special = np.asarray([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30], np.float32)
    arrays = [{"x": special.reshape(2, 3)}]
    graph = case(NOTHING[name], shape=(2, 3))
    assert ops(preserves(graph, simplify, rtol=0, jit=False, arrays=arrays)) == []


def test_integers_plus_zero_are_themselves() -> None:
    assert simplified(lambda b, x: b.add(x, 0), "int32") == []
    assert simplified(lambda b, x: b.add(0, x), "int32") == []


def test_an_identity_that_broadcasts_stays() -> None:
    def make(b: Draft, x: Value) -> Value:
        return b.multiply(x, b.full(shape=(3, B, S, 4), value=1.0, dtype="float32"))

    graph = preserves(case(make), simplify, rtol=0)
    assert graph.output_values()[0].type.shape == (3, B, S, 4)


def test_booleans() -> None:
    def both(b: Draft, x: Value) -> Any:
        true = b.full(shape=(B, S, 4), value=True, dtype="bool")
        false = b.full(shape=(B, S, 4), value=False, dtype="bool")
        return [
            b.bitwise_and(x, true),
            b.logical_or(false, x),
            b.bitwise_and(false, x),
            b.logical_or(x, true),
        ]

    graph = preserves(case(both, "bool"), simplify, rtol=0)
    assert set(ops(graph)) == {"full"}
    x, y, *_ = graph.output_values()
    assert x is y is graph.inputs[0]


def test_bitwise_and_of_integers_with_one_is_no_identity() -> None:
    assert simplified(lambda b, x: b.bitwise_and(x, 1), "int32") == ["bitwise_and"]


def test_bitwise_operations_of_bools_are_logical_ones() -> None:
    def make(b: Draft, x: Value) -> Value:
        return b.bitwise_xor(b.bitwise_or(x, b.bitwise_invert(x)), x)

    found = simplified(make, "bool")
    assert found == ["logical_not", "logical_or", "logical_xor"]
    assert simplified(make, "int32") == ["bitwise_invert", "bitwise_or", "bitwise_xor"]


@pytest.mark.parametrize("spread", ["mask", "number"])
def test_a_mask_of_attention_is_not_spread_over_the_batch(spread: str) -> None:
    def make(b: Draft, x: Value) -> Value:
        q = b.reshape(x, shape=(B, S, 2, 2))
        bias, open_ = b.input("bias", 1, 2, S, S), b.input("m", S, S, dtype="bool")
        other = -3e38
        if spread == "mask":
            open_ = b.broadcast_to(open_, shape=(B, 1, S, S))
        else:
            other = b.full(shape=(B, 2, S, S), value=-3e38, dtype="float32")
        mask = b.where(open_, bias, other)
        assert mask.type.shape == (B, 2, S, S)
        return b.attention(q, q, q, mask, layout="bshd")

    # Without jit: XLA fuses the softmax of a mask that it has to broadcast otherwise.
    graph = preserves(case(make), simplify, rtol=0, jit=False)
    assert ops(graph) == ["reshape", "where", "attention"]
    assert graph.nodes[1].output.type.shape == (1, 2, S, S)


def test_a_mask_that_ranges_decide() -> None:
    def make(b: Draft, x: Value) -> Value:
        line = b.arange(start=0, stop=S, step=1, dtype="int64")
        column = b.getitem(line, index=(FULL, NewAxis()))
        return b.where(b.greater_equal(column, 0), x, -1.0)

    assert "greater_equal" not in simplified(make)


@pytest.mark.parametrize(("start", "limit"), [(-1, 0), (0, 1)])
def test_a_mask_that_ranges_do_not_decide(start: int, limit: int) -> None:
    def make(b: Draft, x: Value) -> Value:
        line = b.arange(start=start, stop=S + start, step=1, dtype="int64")
        column = b.getitem(line, index=(FULL, NewAxis()))
        return b.where(b.greater_equal(column, limit), x, -1.0)

    assert "greater_equal" in simplified(make)


def test_casts_that_lose_nothing_join() -> None:
    def chain(*dtypes: str) -> Make:
        def make(b: Draft, x: Value) -> Value:
            for dtype in dtypes:
                x = b.astype(x, dtype=dtype)
            return x

        return make

    assert simplified(chain("int32", "bool"), "bool") == []
    assert simplified(chain("int32", "int8"), "int16") == ["astype"]
    assert simplified(chain("int8", "int32"), "int32") == ["astype", "astype"]
    assert simplified(chain("bfloat16", "float32")) == ["astype", "astype"]
    assert simplified(chain("int32", "float32")) == ["astype", "astype"]
    assert simplified(chain("bool", "int32"), "int32") == ["astype", "astype"]


def test_arithmetic_of_constants_rounds_as_the_dtype_does() -> None:
    def make(b: Draft, x: Value) -> Value:
        third = b.divide(b.full(shape=(), value=1.0, dtype="float32"), 3.0)
        root = b.sqrt(b.full(shape=(), value=2.0, dtype="float32"))
        return b.add(b.multiply(x, third), root)

    assert simplified(make) == ["multiply", "add"]


def test_division_by_a_constant_zero_is_left_to_run_time() -> None:
    def make(b: Draft, x: Value) -> Value:
        one = b.full(shape=(), value=1.0, dtype="float32")
        return b.multiply(
            x, b.divide(one, b.full(shape=(), value=0.0, dtype="float32"))
        )

    assert "divide" in simplified(make)


def test_reshapes_of_constants_are_constants() -> None:
    def make(b: Draft, x: Value) -> Value:
        made = b.full(shape=(B * S,), value=2.5, dtype="float32")
        made = b.reshape(made, shape=(B, S, 1))
        made = b.broadcast_to(made, shape=(B, S, 4))
        return b.add(
            x, b.permute_dims(b.permute_dims(made, axes=(1, 0, 2)), axes=(1, 0, 2))
        )

    assert simplified(make) == ["add"]


def test_broadcasts_that_the_operation_makes_itself() -> None:
    def make(b: Draft, x: Value) -> Value:
        row = b.getitem(x, index=(0, 0))
        return b.multiply(x, b.broadcast_to(row, shape=(B, S, 4)))

    assert simplified(make) == ["getitem", "multiply"]


def test_a_broadcast_that_shapes_the_result_stays() -> None:
    def make(b: Draft, x: Value) -> Value:
        row = b.getitem(x, index=(0, 0))
        return b.multiply(row, b.broadcast_to(row, shape=(B, S, 4)))

    graph = preserves(case(make), simplify, rtol=0)
    assert "broadcast_to" in ops(graph)


def test_axes_of_size_one_are_indices() -> None:
    def make(b: Draft, x: Value) -> Value:
        return b.reshape(x, shape=(B, 1, S, 4, 1))

    graph = preserves(case(make), simplify, rtol=0)
    (node,) = graph.nodes
    assert node.attrs["index"] == (FULL, NewAxis(), FULL, FULL, NewAxis())


def test_equal_nodes_of_one_call_become_one() -> None:
    def make(b: Draft, x: Value) -> Value:
        return b.add(b.exp(x), b.multiply(b.exp(x), 2.0))

    assert simplified(make) == ["exp", "multiply", "add"]


def test_equal_nodes_that_must_stay_two() -> None:
    b = Draft()
    x = b.input("x", B, 4)
    first = b.dropout(x, rate=0.5)
    second = b.dropout(x, rate=0.5)
    b.scope = (Scope("", "Model"), Scope("a", "A"))
    third = b.exp(x)
    b.scope = (Scope("", "Model"), Scope("b", "A"))
    graph = b.graph([first, second, third, b.exp(x)])
    assert ops(preserves(graph, simplify, rtol=0)) == ["dropout"] * 2 + ["exp"] * 2


def test_numbers_of_both_types_are_not_mixed_up() -> None:
    """1, 1.0 and True are equal in Python and print apart."""

    def make(b: Draft, x: Value) -> Any:
        shape = {"shape": (2,)}
        return [
            b.full(value=1, dtype="float32", **shape),
            b.full(value=1, dtype="int32", **shape),
            b.full(value=True, dtype="bool", **shape),
        ]

    assert simplified(make) == ["full"] * 3


def test_scalars_of_a_comparison_keep_their_side() -> None:
    def make(b: Draft, x: Value) -> Value:
        zero = b.full(shape=(), value=0.25, dtype="float32")
        return b.where(b.less(zero, x), x, zero)

    graph = preserves(case(make), simplify, rtol=0)
    assert ops(graph) == ["less", "where"]
