"""Loops and branches on data, as operations that hold the graphs of their bodies.

PRNG keys are no part of a graph: loops do not carry them. What a loop hands on unchanged (the
bound of `lax.fori_loop`, the parameters that `nnx.scan` carries) is captured instead of carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr

from ivyport.core import control
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Scalar, TensorType, Value
from ivyport.frontends.jax.registry import Found, JaxBuilder, Key
from ivyport.frontends.jax.sizes import type_of


def scan(
    b: JaxBuilder,
    body: ClosedJaxpr,
    consts: Sequence[Found],
    carry: Sequence[Found],
    xs: Sequence[Found],
    length: DimLike,
    reverse: bool,
) -> list[Found]:
    """The final carry and the stacked results of `lax.scan`."""
    outs = b.outs
    state = _Carry(b, body, carry, len(consts))
    items: list[Found] = []
    sequences: list[Value] = []
    entries: list[Value] = []
    for position, x in enumerate(xs):
        var = body.jaxpr.invars[len(consts) + len(carry) + position]
        if isinstance(x, Key):
            items.append(x.derived(x.shape[1:]))
            continue
        entry = Value(type_of(var.aval, b.lowering.dims))
        items.append(entry)
        entries.append(entry)
        sequences.append(_tensor(b, x, _sequence(entry.type, length)))
    region, results = b.lowering.apart(body, [*consts, *state.given, *items])
    region.inputs = [*state.values, *entries]
    stacked = results[len(carry) :]
    kept = [i for i, y in enumerate(stacked) if not isinstance(y, Key)]
    types = [outs[len(carry) + i] for i in kept]
    ends = [
        _inside(b, region, stacked[i], t.with_shape(t.shape[1:]))
        for i, t in zip(kept, types, strict=True)
    ]
    region.outputs = [*state.results(region, results[: len(carry)]), *ends]
    outside = control.close([region])
    made = b.node(
        "scan",
        (*state.initial, *sequences, *outside),
        {
            "body": region,
            "num_carry": len(state.initial),
            "num_xs": len(sequences),
            "length": length,
            "reverse": reverse,
        },
    ).outputs
    final = state.final(made[: len(state.initial)])
    values = iter(made[len(state.initial) :])
    ys: list[Found] = [
        y.derived(t.shape) if isinstance(y, Key) else next(values)
        for y, t in zip(stacked, outs[len(carry) :], strict=True)
    ]
    return [*final, *ys]


def while_loop(
    b: JaxBuilder,
    test: ClosedJaxpr,
    test_consts: Sequence[Found],
    body: ClosedJaxpr,
    body_consts: Sequence[Found],
    carry: Sequence[Found],
) -> list[Found]:
    """The final carry of `lax.while_loop`."""
    state = _Carry(b, body, carry, len(body_consts))
    again: dict[Found, Value] = {v: Value(v.type) for v in state.values}
    asked = [again.get(x, x) for x in state.given]
    first, answer = b.lowering.apart(test, [*test_consts, *asked])
    first.inputs = list(again.values())
    first.outputs = [_inside(b, first, answer[0], TensorType("bool", ()))]
    region, results = b.lowering.apart(body, [*body_consts, *state.given])
    region.inputs = list(state.values)
    region.outputs = state.results(region, results)
    outside = control.close([first, region])
    attrs = {"test": first, "body": region, "num_carry": len(state.initial)}
    made = b.node("while_loop", (*state.initial, *outside), attrs).outputs
    return state.final(made)


def choose(
    b: JaxBuilder,
    which: Value,
    operands: Sequence[Found],
    branches: Sequence[ClosedJaxpr],
) -> list[Found]:
    """The results of `lax.cond` and `lax.switch`."""
    outs = b.outs
    regions = []
    keys: list[Found] = []
    for branch in branches:
        region, results = b.lowering.apart(branch, operands)
        keys = [_either(x, y) for x, y in zip(results, keys or results, strict=True)]
        region.outputs = [
            _inside(b, region, x, t)
            for x, t in zip(results, outs, strict=True)
            if not isinstance(x, Key)
        ]
        regions.append(region)
    outside = control.close(regions)
    attrs = {"branches": tuple(regions)}
    made = iter(b.node("cond", (which, *outside), attrs).outputs)
    return [
        x.derived(t.shape) if isinstance(x, Key) else next(made)
        for x, t in zip(keys, outs, strict=True)
    ]


def _either(one: Found, other: Found) -> Found:
    """Of keys of two branches those that are the source's own, if any are."""
    if isinstance(one, Key) and isinstance(other, Key):
        return one if one.own or one.value is not None else other
    return one


class _Carry:
    """What a loop carries: `given` to its body, and as operands (`initial`) and `values`."""

    def __init__(
        self, b: JaxBuilder, body: ClosedJaxpr, carry: Sequence[Found], first: int
    ) -> None:
        self.b = b
        self.carry = list(carry)
        self.given: list[Found] = []
        self.initial: list[Value] = []
        self.values: list[Value] = []
        self.where: list[int] = []  # positions of what is really carried
        jaxpr = body.jaxpr
        for position, x in enumerate(carry):
            var = jaxpr.invars[first + position]
            if isinstance(x, Key) and jaxpr.outvars[position] is not var:
                x = self.carry[position] = x.derived(
                    x.shape
                )  # another one in each iteration
            if isinstance(x, Key) or jaxpr.outvars[position] is var:
                self.given.append(x)
                continue
            type_ = type_of(var.aval, b.lowering.dims)
            self.initial.append(_tensor(b, x, type_))
            self.values.append(Value(type_))
            self.given.append(self.values[-1])
            self.where.append(position)

    def results(self, region: Graph, found: Sequence[Found]) -> list[Value]:
        """What the body hands on, as values of its graph."""
        return [
            _inside(self.b, region, found[position], value.type)
            for position, value in zip(self.where, self.values, strict=True)
        ]

    def final(self, made: Sequence[Value]) -> list[Found]:
        """The whole carry after the loop."""
        result = list(self.carry)
        for position, value in zip(self.where, made, strict=True):
            result[position] = value
        return result


def _sequence(item: TensorType, length: DimLike) -> TensorType:
    """The type of a sequence of items."""
    return item.with_shape((length, *item.shape))


def _tensor(b: JaxBuilder, x: Found, type_: TensorType) -> Value:
    if isinstance(x, Value):
        return x
    if isinstance(x, Scalar):
        return b.full(shape=type_.shape, value=x.value, dtype=type_.dtype)
    raise GraphError("a loop carries a PRNG key as a number")


def _inside(b: JaxBuilder, region: Graph, x: Any, type_: TensorType) -> Value:
    """A result of a body as a value; a number is made inside."""
    nodes, b.nodes = b.nodes, region.nodes
    try:
        return _tensor(b, x, type_)
    finally:
        b.nodes = nodes
