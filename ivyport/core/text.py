"""The graph as text: one line a node, for people and for comparing two graphs."""

from __future__ import annotations

from typing import Any

from ivyport.core.control import bodies
from ivyport.core.ir import (
    ByMode,
    Graph,
    NewAxis,
    Node,
    Operand,
    Record,
    Scalar,
    Slice,
    Value,
)


def render(graph: Graph, *, types: bool = True) -> str:
    """Deterministic listing: inputs, parameters, nodes with types and scopes, outputs."""
    names: dict[Value, str] = {}
    lines = [f"graph {graph.name}"]
    for symbol, (lower, upper) in graph.dims.items():
        lines.append(
            f"  dim {symbol} in [{lower}, {'inf' if upper is None else upper}]"
        )
    lines += [
        f"  check {check}{' in train mode' if check.trained else ''}"
        for check in graph.checks
    ]
    for value in graph.inputs:
        names[value] = f"%{value.name}"
        lines.append(f"  input {names[value]}: {value.type}")
    for path, param in graph.params.items():
        names[param.value] = f"@{path}"
        tied = f" = {', '.join(param.aliases)}" if param.aliases else ""
        lines.append(f"  {param.kind} @{path}: {param.type}{tied}")
    lines += _nodes(graph, names, types, "  ", "%")
    return "\n".join(lines) + "\n"


def _nodes(
    graph: Graph, names: dict[Value, str], types: bool, margin: str, mark: str
) -> list[str]:
    lines = []
    for count, node in enumerate(graph.nodes):
        for i, value in enumerate(node.outputs):
            own = f"{mark}{count}"
            names[value] = own if len(node.outputs) == 1 else f"{own}.{i}"
        lines.append(margin + _line(node, names, types))
        for part, body in enumerate(bodies(node)):
            inner = f"{mark}{count}{'abcdefghij'[part % 10]}"
            for i, value in enumerate(body.inputs):
                names[value] = f"{inner}:{i}"
            given = ", ".join(f"{names[v]}: {v.type}" for v in body.inputs)
            lines.append(f"{margin}  ({given}) ->")
            lines += _nodes(body, names, types, f"{margin}    ", inner)
    lines.append(f"{margin}return {_structure(graph.outputs, names)}")
    return lines


def _line(node: Node, names: dict[Value, str], types: bool) -> str:
    operands = [_operand(x, names) for x in node.inputs]
    held = ("body", "test", "branches") if bodies(node) else ()
    attrs = [f"{k}={attr_text(v)}" for k, v in node.attrs.items() if k not in held]
    left = ", ".join(names[v] for v in node.outputs)
    text = f"{left} = {node.op}({', '.join(operands + attrs)})"
    if types:
        text += " : " + ", ".join(str(v.type) for v in node.outputs)
    if node.scope:
        scope = node.scope[-1]
        text += f"  # {scope.path or '.'}" + (f"@{scope.call}" if scope.call else "")
    return text


def _operand(x: Operand, names: dict[Value, str]) -> str:
    if isinstance(x, Value):
        return names.get(x, "%undefined")
    return str(x.value) if isinstance(x, Scalar) else "None"


def attr_text(value: Any) -> str:
    """An attribute as text; indices as they are written in brackets."""
    if isinstance(value, Slice):
        start = "" if value.start is None else str(value.start)
        stop = "" if value.stop is None else str(value.stop)
        return f"{start}:{stop}" + (f":{value.step}" if value.step != 1 else "")
    if isinstance(value, NewAxis):
        return "newaxis"
    if isinstance(value, tuple):
        return "(" + ", ".join(attr_text(v) for v in value) + ")"
    return repr(value) if isinstance(value, str) else str(value)


def _structure(item: Any, names: dict[Value, str]) -> str:
    if isinstance(item, Value):
        return names.get(item, "%undefined")
    if isinstance(item, Record):
        fields = ", ".join(f"{k}={_structure(v, names)}" for k, v in item.fields)
        return f"{item.cls}({fields})"
    if isinstance(item, ByMode):
        evaluated, trained = (
            _structure(x, names) for x in (item.evaluated, item.trained)
        )
        return f"{trained} in train mode, else {evaluated}"
    if isinstance(item, dict):
        return (
            "{"
            + ", ".join(f"{k}: {_structure(v, names)}" for k, v in item.items())
            + "}"
        )
    if isinstance(item, list | tuple):
        inside = ", ".join(_structure(v, names) for v in item)
        return f"[{inside}]" if isinstance(item, list) else f"({inside})"
    return repr(item)
