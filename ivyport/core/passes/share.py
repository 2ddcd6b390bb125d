"""Tied layers become one: two modules of one class that hold the same tensors are one module.

transformers ties an encoder's and a decoder's embedding by giving two modules one weight. A port
that keeps one layer and calls it twice says the same, in the target's own layers.
"""

from __future__ import annotations

import dataclasses

from ivyport.core.ir import Call, Graph, Node, Param, Scope, Value


def share_layers(graph: Graph) -> None:
    """Make every call of a tied layer a call of the first one that was called."""
    params = {p.value: p for p in graph.params.values()}
    called: dict[
        tuple[str, str], list[str]
    ] = {}  # layers by class and the tensors they hold
    bodies: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if len(node.scope) > 1:
            bodies.setdefault(node.scope[-1].path, []).append(node)
    for path, nodes in bodies.items():
        held = _held(path, nodes, params)
        if held:
            key = (nodes[0].scope[-1].cls, held)
            called.setdefault(key, []).append(path)
    moved: dict[str, str] = {}
    for (_, _), (first, *others) in called.items():
        if not others:
            continue
        moved.update(dict.fromkeys(others, first))
        for value in {v for n in bodies[first] for v in n.values() if v in params}:
            param = params[value]
            names = (param.path, *param.aliases)
            param.place = next(n for n in names if n.rpartition(".")[0] == first)
    if moved:
        _rename(graph, moved)


def _held(path: str, nodes: list[Node], params: dict[Value, Param]) -> str:
    """What identifies a leaf that owns nothing but tied tensors; empty if it is none."""
    if len({n.scope[:-1] for n in nodes}) != 1 or len(nodes) != 1:
        return ""
    found = []
    for value in nodes[0].values():
        if value not in params:
            continue
        names = (params[value].path, *params[value].aliases)
        local = [n.rpartition(".")[2] for n in names if n.rpartition(".")[0] == path]
        if not local or len(names) == 1:
            return ""
        found.append(f"{local[0]}={params[value].path}")
    return ",".join(found)


def _rename(graph: Graph, moved: dict[str, str]) -> None:
    calls = dict.fromkeys(moved.values(), 0)

    def scope(stack: tuple[Scope, ...]) -> tuple[Scope, ...]:
        last = stack[-1]
        if last.path not in moved:
            return stack
        first = moved[last.path]
        calls[first] += 1
        return (*stack[:-1], Scope(first, last.cls, calls[first]))

    renamed: dict[tuple[Scope, ...], tuple[Scope, ...]] = {}
    for node in graph.nodes:
        if node.scope and node.scope[-1].path in moved:
            renamed[node.scope] = renamed.get(node.scope) or scope(node.scope)
            node.scope = renamed[node.scope]
    graph.calls = [
        Call(renamed[c.stack], c.args, c.stack[-1].path)
        if c.stack in renamed
        else dataclasses.replace(c)
        for c in graph.calls
    ]
