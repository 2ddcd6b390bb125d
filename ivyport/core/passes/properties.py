"""Properties of graphs that passes ensure, each with what finds the nodes that lack it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ivyport.core.control import all_nodes, bodies
from ivyport.core.dtype import NARROW
from ivyport.core.ir import Graph, Value
from ivyport.core.passes.policy import Policy
from ivyport.core.passes.unsigned import LARGEST


def _layouts(graph: Graph, policy: Policy) -> Iterator[object]:
    """Images and attention lie as the target has them."""
    for node in all_nodes(graph):
        layout = node.attrs.get("layout")
        wanted = policy.attention if node.op == "attention" else policy.images
        if layout is not None and layout != wanted:
            yield node


def _even(graph: Graph, policy: Policy) -> Iterator[object]:
    """Convolutions pad both ends of an axis alike."""
    for node in all_nodes(graph):
        if node.op == "conv" and any(lo != hi for lo, hi in node.attrs["padding"]):
            yield node


def _no_whole_pool(graph: Graph, policy: Policy) -> Iterator[object]:
    for node in all_nodes(graph):
        if node.op == "adaptive_avg_pool" and set(node.attrs["output_size"]) == {1}:
            yield node


def _no_wide_unsigned(graph: Graph, policy: Policy) -> Iterator[object]:
    """What the caller gives has its dtype; everything that is made of it has another."""
    made = (v for node in all_nodes(graph) for v in node.outputs)
    return (v for v in made if v.type.dtype in LARGEST)


def _narrow(graph: Graph, policy: Policy) -> Iterator[object]:
    return (v for v in _values(graph) if v.type.dtype in NARROW)


def _no_draws(graph: Graph, policy: Policy) -> Iterator[object]:
    """Loops and branches on data draw nothing; the two modes of a model may."""
    for node in all_nodes(graph):
        if node.op != "mode":
            held = (n for body in bodies(node) for n in all_nodes(body))
            yield from (n for n in held if n.op == "dropout")


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    yield from (p.value for p in graph.params.values())
    for node in all_nodes(graph):
        yield from node.outputs
        for body in bodies(node):
            yield from body.inputs


#: What later passes may undo on purpose: only the order of passes depends on it.
PASSING = ("raised", "hoisted", "local constants")
#: What finds the nodes and values that lack a property.
PROPERTIES: dict[str, Callable[[Graph, Policy], Iterator[object]]] = {
    "layouts": _layouts,
    "even padding": _even,
    "no pool of all space": _no_whole_pool,
    "no wide unsigned": _no_wide_unsigned,
    "no draws in bodies": _no_draws,
    "32 bits": _narrow,
}
