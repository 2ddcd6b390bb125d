"""`torch.cond`: branches that data decides, as an operation that holds their graphs.

Source: https://docs.pytorch.org/docs/stable/cond.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from ivyport.core import control
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Value

if TYPE_CHECKING:
    from ivyport.frontends.torch.lower import Lowering

COND = torch.ops.higher_order.cond


def cond(engine: Lowering, node: fx.Node) -> tuple[Value, ...]:
    """The results of `torch.cond(which, yes, no, operands)`.

    Raises:
        GraphError: what chooses is no tensor, or a branch returns a number.
    """
    which, yes, no, operands = node.args
    chooser = engine.views.read(which)
    if not isinstance(chooser, Value):
        raise GraphError("torch.cond with a test that is no tensor")
    regions = [_region(engine, node, branch, operands) for branch in (no, yes)]
    outside = control.close(regions)
    b = engine.builder
    index = b.cast(b.reshape(chooser, shape=()), "int32")
    attrs = {"branches": tuple(regions)}
    return tuple(b.node("cond", (index, *outside), attrs).outputs)


def _region(
    engine: Lowering, node: fx.Node, branch: Any, operands: Sequence[Any]
) -> Graph:
    b = engine.builder
    nodes, scope, src = b.nodes, b.scope, b.src
    b.nodes = []
    try:
        engine.inline(node, branch, operands)
        results = engine.env[node]
        region = Graph([], {}, b.nodes, [], name="body")
    finally:
        b.nodes, b.scope, b.src = nodes, scope, src
    if any(not isinstance(x, Value) for x in results):
        raise GraphError("a branch of torch.cond returns a number: return a tensor")
    region.outputs = list(results)
    return region


__all__ = ["COND", "cond"]
