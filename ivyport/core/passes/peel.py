"""A layer between changes of shape is a layer: the reshapes go to its caller.

Flax's `DenseGeneral` and haiku's linear layers over several axes reshape before and after one
product. With the reshapes outside, what is left is a layer that every target has.
"""

from __future__ import annotations

from ivyport.core.control import within
from ivyport.core.ir import Graph, Node, Scope, Slice, Value

LAYERS = {
    "linear",
    "embedding",
    "conv",
    "conv_transpose",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm",
}


def peel_layers(graph: Graph) -> None:
    """Move what only changes shapes around a layer's one operation to the layer's caller."""
    within(graph, peel_layers)
    bodies: dict[tuple[Scope, ...], list[Node]] = {}
    inner: set[tuple[Scope, ...]] = set()
    for node in graph.nodes:
        bodies.setdefault(node.scope, []).append(node)
        inner |= {node.scope[:depth] for depth in range(len(node.scope))}
    params = {p.value for p in graph.params.values()}
    for scope, nodes in bodies.items():
        layers = [n for n in nodes if not _only_shape(n)]
        if len(scope) < 2 or scope in inner or len(nodes) == 1 or len(layers) != 1:
            continue
        if layers[0].op not in LAYERS:
            continue
        if any(v in params for n in nodes if n is not layers[0] for v in n.values()):
            continue
        depth = len(scope) - 1
        for node in nodes:
            if node is layers[0]:
                continue
            node.scope = scope[:-1]
            for value in node.outputs:
                # The caller's name for the layer's result belongs to the last of them.
                value.names = {d: n for d, n in value.names.items() if d < depth}


def _only_shape(node: Node) -> bool:
    if node.op in ("reshape", "permute_dims"):
        return True
    x = node.inputs[0] if node.inputs else None
    if node.op != "getitem" or not isinstance(x, Value):
        return False
    return all(not isinstance(i, int) for i in node.attrs["index"]) and all(
        i == Slice() for i in node.attrs["index"] if isinstance(i, Slice)
    )
