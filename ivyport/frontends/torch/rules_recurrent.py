"""Recurrent networks of torch: loops over the time axis, one a layer and direction.

The products with the inputs of all steps are one product in front of the loop. Gates have the
order of torch's weights: input, forget, cell, output (LSTM); reset, update, new (GRU).

Sources: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from ivyport.core import control
from ivyport.core.build import Builder
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Value
from ivyport.frontends.torch.registry import lowers

aten = torch.ops.aten


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of one layer in one direction; (gates * H, I), (gates * H, H or P), ..."""

    ih: Value
    hh: Value
    bias_ih: Value | None = None
    bias_hh: Value | None = None
    projection: Value | None = None  # (P, H)


#: (builder, gates of the input, state, weights) -> next state; its first value is the output.
Step = Callable[[Builder, Value, Sequence[Value], Weights], list[Value]]


def _named(b: Builder, value: Value, name: str) -> Value:
    """The value, called so where it is a variable."""
    value.names.setdefault(max(len(b.scope) - 1, 0), name)
    return value


def _gates(b: Builder, x: Value, count: int) -> tuple[Value, ...]:
    size = x.type.shape[-1] // count
    return tuple(b.split(x, sizes=(size,) * count, axis=-1, even=True))


def _lstm(
    b: Builder, given: Value, state: Sequence[Value], weights: Weights
) -> list[Value]:
    h, c = state
    hidden = _named(b, b.linear(h, weights.hh, weights.bias_hh), "hidden")
    gates = _named(b, b.add(given, hidden), "gates")
    names = ("i", "f", "g", "o")
    i, f, g, o = (
        _named(b, x, n) for x, n in zip(_gates(b, gates, 4), names, strict=True)
    )
    kept, new = b.multiply(b.sigmoid(f), c), b.multiply(b.sigmoid(i), b.tanh(g))
    c = _named(b, b.add(kept, new), "c")
    h = b.multiply(b.sigmoid(o), b.tanh(c))
    if weights.projection is not None:
        h = b.linear(h, weights.projection, None)
    return [_named(b, h, "h"), c]


def _gru(
    b: Builder, given: Value, state: Sequence[Value], weights: Weights
) -> list[Value]:
    (h,) = state
    r, z, n = _gates(b, given, 3)
    r_h, z_h, n_h = _gates(
        b, _named(b, b.linear(h, weights.hh, weights.bias_hh), "hidden"), 3
    )
    for value, name in zip((r_h, z_h, n_h), ("r_h", "z_h", "n_h"), strict=True):
        _named(b, value, name)
    for value, name in zip((r, z, n), ("r_x", "z_x", "n_x"), strict=True):
        _named(b, value, name)
    r = _named(b, b.sigmoid(b.add(r, r_h)), "r")
    z = _named(b, b.sigmoid(b.add(z, z_h)), "z")
    n = _named(b, b.tanh(b.add(n, b.multiply(r, n_h))), "n")
    return [_named(b, b.add(b.multiply(b.subtract(h, n), z), n), "h")]


def _simple(activation: str) -> Step:
    def step(
        b: Builder, given: Value, state: Sequence[Value], weights: Weights
    ) -> list[Value]:
        total = b.add(given, b.linear(state[0], weights.hh, weights.bias_hh))
        return [_named(b, b.node(activation, (total,), {}).output, "h")]

    return step


STEPS: dict[str, Step] = {
    "lstm": _lstm,
    "gru": _gru,
    "rnn_tanh": _simple("tanh"),
    "rnn_relu": _simple("relu"),
}


# ---- one step


@lowers(aten.lstm_cell.default)
def lstm_cell(
    b: Builder,
    input: Value,
    hx: Sequence[Value],
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> tuple[Value, Value]:
    """One step of an LSTM: the next (h, c)."""
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    h, c = _lstm(b, b.linear(input, w_ih, b_ih), hx, weights)
    return h, c


def _cell(step: Step) -> Callable[..., Value]:
    def rule(
        b: Builder,
        input: Value,
        hx: Value,
        w_ih: Value,
        w_hh: Value,
        b_ih: Value | None = None,
        b_hh: Value | None = None,
    ) -> Value:
        weights = Weights(w_ih, w_hh, b_ih, b_hh)
        return step(b, b.linear(input, w_ih, b_ih), [hx], weights)[0]

    return rule


lowers(aten.gru_cell.default)(_cell(_gru))
lowers(aten.rnn_tanh_cell.default)(_cell(STEPS["rnn_tanh"]))
lowers(aten.rnn_relu_cell.default)(_cell(STEPS["rnn_relu"]))


# ---- all steps of all layers


def _loop(
    b: Builder,
    step: Step,
    x: Value,
    state: Sequence[Value],
    weights: Weights,
    reverse: bool,
) -> tuple[Value, list[Value]]:
    """The outputs (T, B, H) of one layer in one direction, and its last state."""
    gates = _named(b, b.linear(x, weights.ih, weights.bias_ih), "gates")
    carried = [Value(s.type) for s in state]
    entry = Value(gates.type.with_shape(gates.type.shape[1:]))
    outer, b.nodes = b.nodes, []
    try:
        made = step(b, entry, carried, weights)
        region = Graph([*carried, entry], {}, b.nodes, [*made, made[0]], name="body")
    finally:
        b.nodes = outer
    outside = control.close([region])
    attrs = {
        "body": region,
        "num_carry": len(state),
        "num_xs": 1,
        "length": gates.type.shape[0],
        "reverse": reverse,
    }
    results = b.node("scan", (*state, gates, *outside), attrs).outputs
    return _named(b, results[-1], "outputs"), list(results[:-1])


def _weights(params: Sequence[Value], has_biases: bool) -> Weights:
    biases = params[2:4] if has_biases else (None, None)
    rest = params[4:] if has_biases else params[2:]
    if len(rest) > 1:
        raise GraphError(f"{len(params)} weights for one layer of a recurrent network")
    return Weights(params[0], params[1], *biases, *rest)


def _network(kind: str) -> Callable[..., tuple[Value, ...]]:
    def rule(
        b: Builder,
        input: Value,
        hx: Value | Sequence[Value],
        params: Sequence[Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Value, ...]:
        """Outputs (T, B, directions * H), last states (layers * directions, B, H)."""
        states = [hx] if isinstance(hx, Value) else list(hx)
        directions = 2 if bidirectional else 1
        count = len(params) // (num_layers * directions)
        each = iter([params[i : i + count] for i in range(0, len(params), count)])
        x = b.permute_dims(input, axes=(1, 0, 2)) if batch_first else input
        last: list[list[Value]] = [[] for _ in states]
        position = 0
        for layer in range(num_layers):
            outputs = []
            for reverse in (False, True)[:directions]:
                first = [b.getitem(s, index=(position,)) for s in states]
                weights = _weights(next(each), has_biases)
                y, ends = _loop(b, STEPS[kind], x, first, weights, reverse)
                outputs.append(y)
                for found, end in zip(last, ends, strict=True):
                    found.append(end)
                position += 1
            x = outputs[0]
            if bidirectional:
                x = _named(b, b.concat(*outputs, axis=-1), "outputs")
            if dropout and layer < num_layers - 1:
                x = b.dropout(x, rate=float(dropout), always=train)
        x = b.permute_dims(x, axes=(1, 0, 2)) if batch_first else x
        return x, *(b.stack(*ends, axis=0) for ends in last)

    return rule


for _kind in STEPS:
    lowers(getattr(aten, _kind).input)(_network(_kind))
