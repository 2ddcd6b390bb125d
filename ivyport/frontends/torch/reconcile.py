"""One graph for eval and train mode: what only the train capture shows is taken over.

Eval captures keep `dropout` but not the rate of attention's dropout, and no stochastic depth at
all. Where the two captures agree in everything else, both are put into the eval graph; where they
do not, the difference is named and the port trains with the eval computation.
"""

from __future__ import annotations

from typing import Any

import torch

from ivyport.core.build import Builder
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import Graph, Node, Scalar, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.rewrite import apply_rules
from ivyport.frontends.torch.lower import Lowering
from ivyport.frontends.torch.trace import TorchTrace


def reconcile(
    graph: Graph,
    native: TorchTrace,
    tensors: dict[str, torch.Tensor],
    modules: dict[str, str],
) -> list[str]:
    """Complete `graph` (eval) in place; returns what could not be reconciled, as sentences."""
    assert native.train_program is not None
    symbols = {s: name for s, (name, _, _) in native.train_dims.items()}
    lowering = Lowering(
        native.train_program, symbols, tensors, native.param_aliases, modules,
        keep_draws=True, assumed=native.assumed,
    )  # fmt: skip
    try:
        lowered = lowering.run()
    except UnsupportedOpsError as error:
        first = "; ".join(line.strip() for line in str(error).split("\n")[1:3])
        return [
            "the train computation cannot be ported, so the port trains with the eval one "
            f"and with dropout: {first}"
        ]
    train = Graph(
        lowered.inputs, lowered.params, lowered.builder.nodes, lowered.outputs
    )
    draws = set(lowering.draws or ())
    apply_rules(
        train, {"multiply": [lambda b, node: _stochastic_depth(b, node, draws)]}
    )
    eliminate(train)
    return _merge(graph, train)


def _stochastic_depth(b: Builder, node: Node, draws: set[Value]) -> Value | None:
    """``x / keep * floor(keep + uniform)``: whole rows of x dropped at random."""
    scaled, mask = (x.producer if isinstance(x, Value) else None for x in node.inputs)
    if scaled is None or mask is None or (scaled.op, mask.op) != ("divide", "floor"):
        return None
    x, keep = scaled.inputs
    shifted = mask.inputs[0]
    total = shifted.producer if isinstance(shifted, Value) else None
    if total is None or total.op != "add" or not isinstance(keep, Scalar):
        return None
    draw = next((v for v in total.inputs if isinstance(v, Value) and v in draws), None)
    added = next((v for v in total.inputs if isinstance(v, Scalar)), None)
    if draw is None or added != keep or not isinstance(x, Value):
        return None
    if draw.type.rank != x.type.rank or not isinstance(keep.value, float):
        return None
    axes = tuple(a for a, size in enumerate(draw.type.shape) if size == 1)
    return b.dropout(x, rate=round(1 - keep.value, 12), broadcast=axes)


def _merge(graph: Graph, train: Graph) -> list[str]:
    """Walk both graphs side by side; extra dropouts of the train graph are inserted."""
    ours = iter(graph.nodes)
    nodes: list[Node] = []
    match: dict[
        Value, Value
    ] = {}  # values of the train graph to those of the eval graph
    inserted: dict[Value, Value] = {}
    builder = Builder(nodes)
    current = next(ours, None)
    for node in train.nodes:
        if current is not None and _alike(current, node):
            _adopt(current, node, inserted)
            match.update(zip(node.outputs, current.outputs, strict=True))
            nodes.append(current)
            current = next(ours, None)
        elif node.op == "dropout":
            source = node.inputs[0]
            assert isinstance(source, Value)
            builder.scope, builder.src = node.scope, node.src
            origin = inserted.get(source) or match.get(source)
            if origin is None:
                return [_difference(node)]
            inserted[node.output] = builder.dropout(origin, **node.attrs)
        else:
            return [_difference(node)]
    if current is not None:
        return [_difference(current)]
    graph.nodes = nodes
    return []


def _alike(one: Node, other: Node) -> bool:
    return (one.op, one.scope, len(one.inputs)) == (
        other.op,
        other.scope,
        len(other.inputs),
    )


def _adopt(mine: Node, other: Node, inserted: dict[Value, Value]) -> None:
    """Take over attention's dropout, and operands that stand behind an inserted dropout."""
    if mine.op == "attention":
        mine.attrs["dropout"] = other.attrs["dropout"]
    operands: list[Any] = list(mine.inputs)
    for position, theirs in enumerate(other.inputs):
        if isinstance(theirs, Value) and theirs in inserted:
            operands[position] = inserted[theirs]
    mine.inputs = tuple(operands)


def _difference(node: Node) -> str:
    where = (node.scope[-1].path if node.scope else "") or "the model"
    return (
        "in train mode the source computes something else than in eval mode, first at "
        f"{node.op} in {where}; the port trains with the eval computation, and with dropout"
    )
