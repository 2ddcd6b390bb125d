"""Dropout inside of loops and branches goes, for targets that cannot draw there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ivyport.core.build import Builder
from ivyport.core.control import all_nodes, inner_graphs, within
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.passes.rewrite import apply_rules


def undrop_loops(graph: Graph) -> list[str]:
    """Take dropout out of every body in place; a sentence about where it was.

    A stream of random numbers is state, and JAX's loops carry no state but their own.
    """
    found = [n for body in inner_graphs(graph) for n in all_nodes(body) if _drops(n)]
    if not found:
        return []
    within(graph, _undrop)
    lines = (f"{Path(n.src.file).name}:{n.src.line}" for n in found if n.src)
    places = ", ".join(dict.fromkeys(lines)) or "source unknown"
    return [f"Dropout inside of loops and branches is left out of the port ({places})."]


def _undrop(body: Graph) -> None:
    apply_rules(body, {"dropout": [_operand]})
    for node in _attentions(body):
        node.attrs = {**node.attrs, "dropout": 0.0}
    within(body, _undrop)


def _operand(builder: Builder, node: Node) -> Value | None:
    x = node.inputs[0]
    return x if isinstance(x, Value) else None


def _attentions(graph: Graph) -> Iterator[Node]:
    return (node for node in graph.nodes if node.op == "attention")


def _drops(node: Node) -> bool:
    if node.op == "dropout":
        return True
    return node.op == "attention" and bool(node.attrs["dropout"])
