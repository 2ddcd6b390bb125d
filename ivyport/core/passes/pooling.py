"""An average pool to one element is a mean, for targets that have no such pool."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.ops_nn import spatial_axes
from ivyport.core.passes.rewrite import apply_rules


def pools_to_means(graph: Graph) -> None:
    """Write pools over all of space as means, which is what the target says; in place."""
    within(graph, pools_to_means)
    apply_rules(graph, {"adaptive_avg_pool": [_mean]})


def _mean(b: Builder, node: Node) -> Value | None:
    if any(size != 1 for size in node.attrs["output_size"]):
        return None
    axes = spatial_axes(node.attrs["layout"], node.output.type.rank)
    return b.mean(*node.inputs, axis=axes, keepdims=True)
