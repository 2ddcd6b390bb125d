"""Recognise layers that the source wrote out: each rule proves its match node by node.

The rules are kept by families. All of them are written with `ivyport.core.passes.match` and tried
by one engine (`ivyport.core.passes.rewrite`). `debug.refusals` shows why a rule refused a node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from ivyport.core.control import bodies, captured, prune
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.raising import (
    attention,
    attention_forms,
    elementwise,
    linear,
    moments,
    norm,
    pool,
    shape,
    softmax,
)
from ivyport.core.passes.raising.statistics import attach_statistics
from ivyport.core.passes.rewrite import Rule, apply_rules
from ivyport.core.passes.simplify import simplify

Table = Mapping[str, list[Rule]]
#: More rounds than any graph needs: rules that undo each other would go on for ever.
LIMIT = 100
#: What layers of a framework leave around themselves. They come before reshapes are merged: a
#: linear between two reshapes shows as long as these are its own.
FORMS: dict[str, Table] = {
    "linear": linear.RULES,
    "attention_forms": attention_forms.RULES,
}
#: What layers consist of. A variance must be one before what divides by its root is looked at:
#: ``mean(square(..))`` of centred values would pass for that of an RMS norm.
PARTS: dict[str, Table] = {
    "moments": moments.RULES,
    "softmax": softmax.RULES,
    "elementwise": elementwise.RULES,
    "pool": pool.RULES,
    "shape": shape.RULES,
}
LAYERS: dict[str, Table] = {
    "norm": norm.RULES,
    "attention": attention.RULES,
}


def stages(weights: Set[Value]) -> list[dict[str, list[Rule]]]:
    """The rules of forms, those of parts, and all of them, by the operation that they look at.

    `weights` are the values that are parameters: those decide what is a linear.
    """
    forms = joined(*FORMS.values())
    parts = joined(*PARTS.values(), linear.Linears(weights).table())
    return [forms, parts, joined(forms, *LAYERS.values(), parts)]


def raise_layers(
    graph: Graph,
    weights: Set[Value] = frozenset(),
    *,
    trains: bool = False,
    read: Set[str] | None = None,
) -> None:
    """Replace what the source wrote out in primitives by the operations that it means.

    Linears, embeddings, norms, softmax, attention, activations, dropout and pools. `weights` are
    values that stand for parameters of an enclosing graph. `trains` says that the graph is one of
    train mode alone: masks that it draws are dropouts of that mode, and new values of running
    statistics in `graph.updates` belong to batch norms. `read` names what eval mode reads, if that
    is known: averages that it does not read belong to no batch norm.

    Raises:
        GraphError: the rules undo each other (a defect).
    """
    weights = trained(graph) | weights
    for node in graph.nodes:
        for body in bodies(node):
            pairs = captured(node, body)
            inner = {y for x, y in pairs if linear.owned(x, weights)}
            raise_layers(body, inner, trains=trains)
        if bodies(node):
            prune(node)
    forms, *others = stages(weights)
    _exhaust(graph, forms, eliminate, trains=trains)
    simplify(graph)
    for table in others:
        _exhaust(graph, table, _tidy, trains=trains)
    if graph.updates and trains:
        attach_statistics(graph, read)
        eliminate(graph)


def _tidy(graph: Graph) -> None:
    eliminate(graph)
    simplify(graph)


def _exhaust(
    graph: Graph, table: Table, after: Callable[[Graph], object], *, trains: bool
) -> None:
    """Apply rules until none of them answers; `after` each round."""
    for _ in range(LIMIT):
        if not apply_rules(graph, table, trains=trains):
            return
        after(graph)
    raise GraphError(f"rules still rewrite {graph.name!r} after {LIMIT} rounds")


def trained(graph: Graph) -> set[Value]:
    """The parameters of a graph, as values."""
    return {p.value for p in graph.params.values() if p.kind == "parameter"}


def joined(*tables: Table) -> dict[str, list[Rule]]:
    """One table of all rules, in order."""
    found: dict[str, list[Rule]] = {}
    for table in tables:
        for op, rules in table.items():
            found.setdefault(op, []).extend(rules)
    return found
