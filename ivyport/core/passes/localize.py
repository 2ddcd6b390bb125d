"""Constants are made where they are used, not handed from module to module."""

from __future__ import annotations

import collections

from ivyport.core.build import Builder
from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Scope, Value


def localize(graph: Graph) -> None:
    """Give each module call that uses a constant tensor a copy of its own."""
    within(graph, localize)
    results = set(graph.output_values())
    population = collections.Counter(
        n.scope[:depth] for n in graph.nodes for depth in range(1, len(n.scope) + 1)
    )
    nodes: list[Node] = []
    builder = Builder(nodes)
    copies: dict[tuple[Value, tuple[Scope, ...]], Value] = {}
    for node in graph.nodes:
        operands = []
        for x in node.inputs:
            maker = x.producer if isinstance(x, Value) else None
            # A layer that is one operation stays so: its caller makes the constant.
            alone = population[node.scope] == 1 and len(node.scope) > 1
            scope = node.scope[:-1] if alone else node.scope
            if maker is None or maker.op != "full" or maker.scope == scope:
                operands.append(x)
                continue
            assert isinstance(x, Value)
            if (x, scope) not in copies:
                builder.scope, builder.src = scope, maker.src
                copies[x, scope] = builder.full(**maker.attrs)
            operands.append(copies[x, scope])
        node.inputs = tuple(operands)
        nodes.append(node)
    used = {v for n in nodes for v in n.values()} | results
    graph.nodes = [n for n in nodes if n.op != "full" or n.output in used]
