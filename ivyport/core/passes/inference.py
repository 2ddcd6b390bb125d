"""What a target that computes eval mode alone makes of a graph: nothing draws, nothing drops."""

from __future__ import annotations

from collections.abc import Iterable

from ivyport.core.control import all_nodes
from ivyport.core.errors import InputError, UnsupportedOpsError
from ivyport.core.gaps import Gap, report
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.ops_custom import functions
from ivyport.core.passes.undropped import undrop

DRAWS = "it draws random numbers in eval mode, and this target draws none"


def infer(graph: Graph) -> None:
    """Take dropout, and what train mode alone writes, out of a graph in place.

    Raises:
        UnsupportedOpsError: random numbers are drawn in eval mode too, all places listed.
    """
    drawn = [Gap(n.op, place(n), DRAWS) for n in all_nodes(graph) if _draws(n)]
    if drawn:
        raise UnsupportedOpsError(report(drawn))
    graph.updates = {p: v for p, v in graph.updates.items() if p not in graph.trained}
    graph.trained = set()
    undrop(graph)


def demand_dtypes(graph: Graph, lacks: Iterable[str]) -> None:
    """Refuse a graph with values of a dtype that the target lacks.

    Raises:
        InputError: naming the first of them, and where it is computed.
    """
    lacking = frozenset(lacks)
    for param in graph.params.values():
        _demand(param.value, lacking, f"the weight {param.source}")
    for value in graph.inputs:
        _demand(value, lacking, f"the input {value.name}")
    for node in all_nodes(graph):
        for value in node.outputs:
            _demand(value, lacking, f"{node.op} in {place(node)}")
    for function in functions(all_nodes(graph)):
        demand_dtypes(function.forward, lacking)


def _demand(value: Value, lacks: frozenset[str], what: str) -> None:
    if value.type.dtype in lacks:
        raise InputError(
            f"{what} is {value.type.dtype}, which this target has not: port the model in "
            "float32 (torch: model.float(); JAX: parameters and computation in float32)"
        )


def place(node: Node) -> str:
    """The module of a node, and its source line."""
    path = (node.scope[-1].path if node.scope else "") or "the model"
    return f"{path} ({node.src})" if node.src else path


def _draws(node: Node) -> bool:
    always = node.op == "dropout" and bool(node.attrs["always"])
    return always or node.op.startswith("random_")
