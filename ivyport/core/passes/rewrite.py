"""The engine of local rewrites: rules see one node and may answer with another value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ivyport.core.build import Builder
from ivyport.core.ir import Call, Graph, Node, Value, map_structure

Rule = Callable[[Builder, Node], Value | None]


def apply_rules(
    graph: Graph, rules: Mapping[str, list[Rule]], *, trains: bool = False
) -> bool:
    """Rebuild the graph node by node; the first rule that answers replaces the node.

    Rules are tried on nodes of their op with operands already rewritten. A rule adds what it
    needs through the builder and returns the value that stands for the node's only result; the
    type must not change. `trains` says that the graph is one of train mode. Returns whether
    anything changed.
    """
    nodes: list[Node] = []
    builder = Builder(nodes)
    builder.trains = trains
    replaced: dict[Value, Value] = {}
    changed = False
    for node in graph.nodes:
        if replaced:
            node.inputs = tuple(
                replaced.get(x, x) if isinstance(x, Value) else x for x in node.inputs
            )
        if node.op not in rules:
            nodes.append(node)
            continue
        builder.scope, builder.src = node.scope, node.src
        answer = None
        for rule in rules[node.op]:
            mark = len(nodes)
            answer = rule(builder, node)
            if answer is not None and not _is_again(answer, node):
                break
            answer = None
            del nodes[mark:]
        if answer is None:
            nodes.append(node)
            continue
        changed = True
        old = node.output
        assert answer.type == old.type, f"{node.op}: {old.type} became {answer.type}"
        replaced[old] = answer
        for depth, name in old.names.items():
            # A value keeps the names it has; what it replaces may add some.
            if answer.producer in nodes[-8:]:
                answer.names.setdefault(depth, name)
    if changed:
        substitute(graph, nodes, replaced)
    return changed


def _is_again(answer: Value, node: Node) -> bool:
    """Whether an answer is made as the node is: such a rule would answer for ever."""
    made = answer.producer
    return (
        made is not None
        and made.op == node.op
        and len(made.inputs) == len(node.inputs)
        and all(x is y for x, y in zip(made.inputs, node.inputs, strict=True))
        and repr(made.attrs) == repr(node.attrs)
    )


def substitute(graph: Graph, nodes: list[Node], replaced: dict[Value, Value]) -> None:
    """Give `graph` new nodes, and outputs and call arguments their successors."""

    def new(value: Value) -> Value:
        return replaced.get(value, value)

    graph.nodes = nodes
    graph.outputs = map_structure(new, graph.outputs)
    graph.updates = {path: new(value) for path, value in graph.updates.items()}
    graph.calls = [
        Call(c.stack, [(name, new(v)) for name, v in c.args], c.alias)
        for c in graph.calls
    ]
