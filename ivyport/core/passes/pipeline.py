"""The passes that each target runs, in order."""

from __future__ import annotations

from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph
from ivyport.core.passes.layout import assign_layouts
from ivyport.core.passes.localize import localize
from ivyport.core.passes.narrow import narrow
from ivyport.core.passes.raising import raise_layers
from ivyport.core.passes.share import share_layers
from ivyport.core.passes.simplify import simplify
from ivyport.core.verify import verify


def for_target(graph: Graph, target: str) -> list[str]:
    """Prepare `graph` for emission in place; the graph is verified after every pass.

    Returns sentences about what the target cannot keep (64-bit floats in JAX).

    Raises:
        GraphError: a pass broke the graph (a defect), or the target is unknown.
    """
    if target != "jax":
        raise GraphError(f"no passes for target {target!r}")
    verify(graph)
    raise_layers(graph)  # before reshapes are joined: some hold a layer together
    simplify(graph)
    verify(graph)
    raise_layers(graph)
    verify(graph)
    assign_layouts(graph, images="channels_last", attention="bshd")
    verify(graph)
    simplify(graph)
    localize(graph)
    share_layers(graph)
    verify(graph)
    return narrow(graph)
