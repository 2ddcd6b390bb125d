"""Remove nodes, and parameters, that no output depends on."""

from __future__ import annotations

from ivyport.core.ir import Graph


def eliminate(graph: Graph) -> None:
    """Drop every node whose results nobody uses. Order is kept."""
    live = set(graph.output_values())
    kept = []
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            kept.append(node)
            live.update(node.values())
    graph.nodes = kept[::-1]
    graph.params = {
        k: p for k, p in graph.params.items() if p.value in live or k in graph.updates
    }
