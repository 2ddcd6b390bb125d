"""Constants are made where they are used, not handed from module to module."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.ir import Graph, Node, Scope, Value


def localize(graph: Graph) -> None:
    """Give each module call that uses a constant tensor a copy of its own."""
    results = set(graph.output_values())
    nodes: list[Node] = []
    builder = Builder(nodes)
    copies: dict[tuple[Value, tuple[Scope, ...]], Value] = {}
    for node in graph.nodes:
        operands = []
        for x in node.inputs:
            maker = x.producer if isinstance(x, Value) else None
            if maker is None or maker.op != "full" or maker.scope == node.scope:
                operands.append(x)
                continue
            assert isinstance(x, Value)
            if (x, node.scope) not in copies:
                builder.scope, builder.src = node.scope, maker.src
                copies[x, node.scope] = builder.full(**maker.attrs)
            operands.append(copies[x, node.scope])
        node.inputs = tuple(operands)
        nodes.append(node)
    used = {v for n in nodes for v in n.values()} | results
    graph.nodes = [n for n in nodes if n.op != "full" or n.output in used]
