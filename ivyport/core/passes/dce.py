"""Remove nodes, and parameters, that no output depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ivyport.core.control import bodies, prune
from ivyport.core.ir import Graph, Node, Value

T = TypeVar("T")


def eliminate(graph: Graph) -> None:
    """Drop every node whose results nobody uses. Order is kept."""
    live = set(graph.output_values())
    kept = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            if node.op in ("scan", "while_loop"):
                _trim(node, live)
            elif node.op == "mode":
                _trim_modes(node, live)
            kept.append(node)
            live.update(node.values())
    graph.nodes = kept[::-1]
    graph.params = {
        k: p for k, p in graph.params.items() if p.value in live or k in graph.updates
    }


def _trim(node: Node, live: set[Value]) -> None:
    """Drop what a loop carries or stacks and nobody reads, itself included."""
    count = node.attrs["num_carry"]
    body = bodies(node)[-1]
    stacked = [v in live for v in node.outputs[count:]]
    carried = [v in live for v in node.outputs[:count]]
    while True:
        kept = [*carried, *stacked]
        read = _ancestors(
            body, [v for v, k in zip(body.outputs, kept, strict=True) if k]
        )
        for test in bodies(node)[:-1]:
            asked = _ancestors(test, list(test.output_values()))
            read |= {
                own
                for own, other in zip(body.inputs, test.inputs, strict=True)
                if other in asked
            }
        needed = [
            k or v in read for k, v in zip(carried, body.inputs[:count], strict=True)
        ]
        if needed == carried:
            break
        carried = needed
    if not all(kept):
        _drop(node, carried, stacked)


def _trim_modes(node: Node, live: set[Value]) -> None:
    """Drop results of a choice by mode that nobody reads, and what only they need."""
    kept = [v in live for v in node.outputs]
    node.outputs = tuple(_chosen(node.outputs, kept))
    for body in bodies(node):
        body.outputs = _chosen(body.outputs, kept)
        eliminate(body)
    prune(node)


def _drop(node: Node, carried: list[bool], stacked: list[bool]) -> None:
    count = len(carried)
    node.attrs = {**node.attrs, "num_carry": sum(carried)}
    node.inputs = (*_chosen(node.inputs[:count], carried), *node.inputs[count:])
    node.outputs = tuple(_chosen(node.outputs, [*carried, *stacked]))
    *tests, body = bodies(node)
    body.outputs = _chosen(body.outputs, [*carried, *stacked])
    for graph in (*tests, body):
        graph.inputs = [*_chosen(graph.inputs[:count], carried), *graph.inputs[count:]]
        eliminate(graph)
    prune(node)


def _chosen(items: Sequence[T], keep: list[bool]) -> list[T]:
    return [x for x, k in zip(items, keep, strict=True) if k]


def _ancestors(graph: Graph, values: list[Value]) -> set[Value]:
    """The values that some values of a graph depend on, themselves included."""
    found = set(values)
    for node in reversed(graph.nodes):
        if any(v in found for v in node.outputs):
            found.update(node.values())
    return found
