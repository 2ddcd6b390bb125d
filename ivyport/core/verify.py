"""The specification of a graph, executable: every frontend and pass must leave it satisfied."""

from __future__ import annotations

from ivyport.core import opdef
from ivyport.core.control import all_nodes, bodies
from ivyport.core.dims import symbols
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Node, Scalar, TensorType, Value, leaves
from ivyport.core.ops import used_symbols
from ivyport.core.ops_custom import functions


def verify(graph: Graph) -> None:
    """Check that `graph` is well formed.

    Values are defined once and before use; operands and attributes fit the op's signature;
    result types are what the op's type rule infers; symbols are declared; module calls nest.

    Raises:
        GraphError: listing every violation found.
    """
    problems: list[str] = []
    defined: set[Value] = set()
    for value in [*graph.inputs, *(p.value for p in graph.params.values())]:
        if value in defined:
            problems.append(f"{value} is defined twice")
        defined.add(value)
    for path, param in graph.params.items():
        if path != param.path:
            problems.append(f"parameter {param.path!r} is filed under {path!r}")
        if param.value.type != param.type:
            problems.append(
                f"parameter {path!r}: {param.value.type} is not {param.type}"
            )
    problems += _check_arguments(graph)
    problems += _check_nodes(graph, defined)
    problems += _check_symbols(graph)
    if problems:
        listing = "\n  ".join(problems[:20])
        raise GraphError(f"{len(problems)} violations in graph:\n  {listing}")


def _check_arguments(graph: Graph) -> list[str]:
    """The arguments hold every input once."""
    if not graph.arguments:
        return []
    held = [v for a in graph.arguments for v in leaves(a.structure)]
    problems = [f"argument {v} is no input" for v in held if v not in graph.inputs]
    problems += [
        f"input {v} is in {held.count(v)} arguments"
        for v in graph.inputs
        if held.count(v) != 1
    ]
    names = [a.name for a in graph.arguments]
    return problems + [
        f"argument {n!r} is declared twice" for n in set(names) if names.count(n) > 1
    ]


def _check_nodes(graph: Graph, defined: set[Value]) -> list[str]:
    problems: list[str] = []
    for position, node in enumerate(graph.nodes):
        found = _check(node, defined)
        for body in bodies(node):
            found += _check_body(body)
        for function in functions([node]):
            for inner in function.graphs:
                found += _check_body(inner)
        where = f"node {position} ({node.op}, {node.src})"
        problems += [f"{where}: {problem}" for problem in found]
        defined.update(node.outputs)
    for value in graph.output_values():
        if value not in defined:
            problems.append(f"output {value} is not defined")
    return problems


def _check_body(body: Graph) -> list[str]:
    """A body is closed and owns nothing."""
    problems = []
    if body.params or body.updates:
        problems.append("a body of control flow has parameters")
    if len(set(body.inputs)) != len(body.inputs):
        problems.append("a body of control flow has one input twice")
    return problems + _check_nodes(body, set(body.inputs))


def _check(node: Node, defined: set[Value]) -> list[str]:
    problems = [
        f"{x} is used before it is defined" for x in node.values() if x not in defined
    ]
    try:
        definition = opdef.get(node.op)
        definition.bind(node.inputs, node.attrs)
        types = definition.types(node.inputs, node.attrs)
    except GraphError as error:
        return [*problems, str(error)]
    found = tuple(v.type for v in node.outputs)
    if found != types:
        expected = ", ".join(map(str, types))
        problems.append(f"has type {', '.join(map(str, found))}, inferred {expected}")
    for value in node.outputs:
        if value.producer is not node:
            problems.append(f"{value} does not know its producer")
        if value in defined:
            problems.append(f"{value} is defined twice")
    return problems


def _check_symbols(graph: Graph) -> list[str]:
    known = set(graph.dims)
    reachable = _shape_symbols([v.type for v in graph.inputs])
    used = set(reachable)
    for node in all_nodes(graph):
        used |= used_symbols(node.attrs)
        used |= _shape_symbols([v.type for v in node.outputs])
        for x in node.inputs:
            used |= symbols(x.value) if isinstance(x, Scalar) else set()
    problems = [f"symbol {s!r} has no bounds" for s in sorted(used - known)]
    problems += [
        f"symbol {s!r} is no axis of an input"
        for s in sorted((used & known) - reachable)
    ]
    return problems


def _shape_symbols(types: list[TensorType]) -> set[str]:
    return {s for t in types for d in t.shape for s in symbols(d)}
