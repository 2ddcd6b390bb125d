"""Differences whose size has a corner at 0, for a target whose compiler fuses products into sums.

XLA keeps `x * w` unrounded where it subtracts it from another: what is equal then differs by the
rounding, and |x - y| (a distance of a row from itself) has a slope of 1 where it has none.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Value


def name_differences(graph: Graph) -> None:
    """Make `difference` of each `subtract` of which sizes alone are taken; in place."""
    within(graph, name_differences)
    uses, results = graph.uses(), set(graph.output_values())
    for node in graph.nodes:
        if node.op != "subtract" or not all(isinstance(x, Value) for x in node.inputs):
            continue
        users = uses.get(node.output, [])
        floating = dt.is_float(node.output.type.dtype)
        if users and floating and node.output not in results and all(map(_size, users)):
            node.op = "difference"


def _size(user: Node) -> bool:
    """Whether an operation has no derivative by an element that is 0."""
    if user.op == "abs":
        return bool(user.attrs["slope"] == 0)
    return user.op == "vector_norm" and user.attrs["ord"] > 0
