"""Differences that something with a corner at 0 reads, where a compiler fuses products into sums.

XLA keeps `x * w` unrounded where it subtracts it from another: what is equal then differs by the
rounding. The sign of that is noise, and |x - y| (a distance of a row from itself) has a slope of 1
where it has none.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Value

#: Operations that are another function on each side of 0, or of one element and another.
_CORNERS = frozenset(
    {
        *("abs", "sign", "vector_norm", "maximum", "minimum", "clip", "max", "min"),
        *(
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "logical_not",
            "floor",
            "ceil",
            "trunc",
        ),
        *("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"),
        *("argmax", "argmin", "sort", "topk", "max_pool", "mode", "signbit"),
        *("cumulative_max", "cumulative_min", "floor_divide", "trunc_divide"),
    }
)


def name_differences(graph: Graph) -> None:
    """Make `difference` of each `subtract` that an operation with a corner reads; in place."""
    within(graph, name_differences)
    uses = graph.uses()
    for node in graph.nodes:
        if node.op != "subtract" or not all(isinstance(x, Value) for x in node.inputs):
            continue
        users = uses.get(node.output, [])
        if dt.is_float(node.output.type.dtype) and any(map(_has_corner, users)):
            node.op = "difference"


def _has_corner(user: Node) -> bool:
    if user.op == "astype":
        return user.output.type.dtype == "bool"
    return user.op in _CORNERS
