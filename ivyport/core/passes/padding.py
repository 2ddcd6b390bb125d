"""Uneven padding of convolutions becomes an operation of its own.

The layers of some targets pad both ends of an axis alike; what a SAME convolution with a stride
adds at one end is then padded before it, by the layer's caller.
"""

from __future__ import annotations

import collections

from ivyport.core.build import Builder
from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.ops_nn import spatial_axes


def split_padding(graph: Graph) -> None:
    """Give every convolution even padding; the graph is changed in place."""
    within(graph, split_padding)
    population = collections.Counter(
        n.scope[:depth] for n in graph.nodes for depth in range(1, len(n.scope) + 1)
    )
    builder = Builder()
    for node in graph.nodes:
        if node.op == "conv" and any(lo != hi for lo, hi in node.attrs["padding"]):
            alone = population[node.scope] == 1 and len(node.scope) > 1
            builder.scope = node.scope[:-1] if alone else node.scope
            builder.src = node.src
            _split(builder, node)
        builder.nodes.append(node)
    graph.nodes = builder.nodes


def _split(b: Builder, node: Node) -> None:
    x, *rest = node.inputs
    assert isinstance(x, Value)
    every = [(0, 0)] * x.type.rank
    axes = spatial_axes(node.attrs["layout"], x.type.rank)
    for axis, pads in zip(axes, node.attrs["padding"], strict=True):
        every[axis] = pads
    padded = b.pad(x, padding=tuple(every), value=0.0)
    padded.names = dict(x.names)
    node.inputs = (padded, *rest)
    node.attrs = {**node.attrs, "padding": ((0, 0),) * len(axes)}
