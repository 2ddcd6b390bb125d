"""The train capture of a torch module, lowered and merged into the graph of the eval capture."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch.fx import Node as FxNode

from ivyport.core.build import Builder
from ivyport.core.fixing import agree
from ivyport.core.ir import Graph, Node, Scalar, Scope, Value
from ivyport.core.modes import merge
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.raising.elementwise import (
    dropout_by_choice,
    dropout_by_product,
    dropout_by_quotient,
)
from ivyport.core.passes.rewrite import Rule, apply_rules
from ivyport.frontends.torch.hooks import ModuleCall
from ivyport.frontends.torch.lower import Lowered, written_state
from ivyport.frontends.torch.trace import TorchTrace

COUNTER = "num_batches_tracked"  # of batch norm, which counts by itself

Stack = tuple[Scope, ...]


def written(native: TorchTrace) -> set[str]:
    """Paths of the state that either capture writes."""
    programs = (native.program, native.train_program)
    return {path for p in programs if p is not None for path in written_state(p)}


def reconcile(
    graph: Graph, evaluated: Lowered, train: Graph, trained: Lowered, native: TorchTrace
) -> list[str]:
    """Make `graph` (eval) the graph of both modes, in place; returns notes.

    `train` is the graph of the train capture; it is used up.
    """
    _settle_dropouts(train)
    depth: dict[str, list[Rule]] = {
        "where": [dropout_by_choice],
        "divide": [dropout_by_quotient],
        "multiply": [_stochastic_depth, dropout_by_product],
    }
    apply_rules(train, depth, trains=True)
    eliminate(train)
    notes = agree(graph, train)
    merge(graph, train, dict(_exits(native, evaluated, trained)))
    return notes


def _settle_dropouts(train: Graph) -> None:
    """Dropouts that the train capture shows switched off go."""

    def settle(b: Builder, node: Node) -> Value | None:
        if node.attrs["always"]:
            return None
        source = node.inputs[0]
        return source if isinstance(source, Value) else None

    apply_rules(train, {"dropout": [settle]})


def forget_counters(graph: Graph) -> None:
    """Drop the counters of batch norms that nothing reads: the layers count by themselves."""
    uses = graph.uses()
    results = [v for p, v in graph.updates.items() if not p.endswith(COUNTER)]
    for path in [p for p in graph.updates if p.rpartition(".")[2] == COUNTER]:
        value = graph.updates[path]
        if not uses.get(value) and value not in results:
            del graph.updates[path]


def _stochastic_depth(b: Builder, node: Node) -> Value | None:
    """``x / keep * floor(keep + uniform)``: whole rows of x dropped at random."""
    scaled, mask = (x.producer if isinstance(x, Value) else None for x in node.inputs)
    if scaled is None or mask is None or (scaled.op, mask.op) != ("divide", "floor"):
        return None
    x, keep = scaled.inputs
    shifted = mask.inputs[0]
    total = shifted.producer if isinstance(shifted, Value) else None
    if total is None or total.op != "add" or not isinstance(keep, Scalar):
        return None
    draw = next((v for v in total.inputs if _is_uniform(v)), None)
    added = next((v for v in total.inputs if isinstance(v, Scalar)), None)
    if not isinstance(draw, Value) or added != keep or not isinstance(x, Value):
        return None
    if draw.type.rank != x.type.rank or not isinstance(keep.value, float):
        return None
    axes = tuple(a for a, size in enumerate(draw.type.shape) if size == 1)
    return b.dropout(x, rate=rate_of(keep.value), broadcast=axes)


def rate_of(keep: float) -> float:
    """The shortest decimal of which ``1 - rate`` is `keep`: the source's rate was one.

    >>> rate_of(1 - 0.1), rate_of(1 - 0.1 / 3)
    (0.1, 0.0333333333333333)
    """
    found = (round(1 - keep, digits) for digits in range(1, 17))
    return next((rate for rate in found if 1 - rate == keep), 1 - keep)


def _is_uniform(x: Any) -> bool:
    made = x.producer if isinstance(x, Value) else None
    return made is not None and made.op == "random_uniform"


# ---- what calls of modules return


def _exits(
    native: TorchTrace, evaluated: Lowered, trained: Lowered
) -> Iterator[tuple[Stack, list[tuple[Value, Value]]]]:
    theirs = {(c.path, c.index): c for c in native.train_calls}
    for stack, call in stacks(native.calls):
        other = theirs.get((call.path, call.index))
        if other is None or len(stack) == 1:
            continue
        one = list(_nodes(call.outputs, evaluated.env))
        two = list(_nodes(other.outputs, trained.env))
        if len(one) == len(two):
            yield stack, list(zip(one, two, strict=True))


def stacks(calls: Collection[ModuleCall]) -> Iterator[tuple[Stack, ModuleCall]]:
    """Each call with the stack of calls that it is made in."""
    by_key = {(c.path, c.index): c for c in calls}
    for call in calls:
        stack: list[Scope] = []
        current: Any = call
        while current is not None:
            stack.insert(0, Scope(current.path, current.cls, current.index))
            current = by_key.get(current.parent) if current.parent else None
        yield tuple(stack), call


def _nodes(outputs: Any, env: Mapping[FxNode, Any]) -> Iterator[Value]:
    from ivyport.core.ir import walk

    for item in walk(outputs):
        value = env.get(item) if isinstance(item, FxNode) else None
        if isinstance(value, Value):
            yield value


__all__ = ["forget_counters", "reconcile", "stacks", "written"]
