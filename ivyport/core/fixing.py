"""Free sizes become fixed ones, throughout a graph."""

from __future__ import annotations

from typing import Any

from ivyport.core.control import all_nodes, bodies
from ivyport.core.dims import Dim, DimLike, as_symbol, evaluate
from ivyport.core.ir import Graph, Scalar, Slice, Value


def agree(graph: Graph, other: Graph) -> list[str]:
    """Fix in each graph the sizes of inputs that are fixed in the other; sentences about it."""
    fixed: dict[str, int] = {}
    theirs = {v.name: v for v in other.inputs}
    for value in graph.inputs:
        pair = theirs.get(value.name)
        if pair is None:
            continue
        for one, two in zip(value.type.shape, pair.type.shape, strict=True):
            for free, size in ((one, two), (two, one)):
                name = as_symbol(free)
                if name is not None and isinstance(size, int):
                    fixed[name] = size
    if fixed:
        fix(graph, fixed)
        fix(other, fixed)
    return [
        f"Fixed to the example's size: '{name}' ({size}), which the source fixes in train mode."
        for name, size in fixed.items()
    ]


def fix(graph: Graph, sizes: dict[str, int]) -> None:
    """Replace free sizes by numbers, in place."""
    nodes = list(all_nodes(graph))
    values = {*graph.inputs, *(p.value for p in graph.params.values())}
    for node in nodes:
        values.update(node.outputs)
        for body in bodies(node):
            values.update(body.inputs)
        node.inputs = tuple(
            Scalar(_fixed(x.value, sizes)) if isinstance(x, Scalar) else x
            for x in node.inputs
        )
        node.attrs = {name: _fixed(value, sizes) for name, value in node.attrs.items()}
    for value in values:
        _retype(value, sizes)
    graph.dims = {name: b for name, b in graph.dims.items() if name not in sizes}


def _retype(value: Value, sizes: dict[str, int]) -> None:
    value.type = value.type.with_shape(_fixed(value.type.shape, sizes))


def _fixed(item: Any, sizes: dict[str, int]) -> Any:
    if isinstance(item, Dim):
        env: dict[str, DimLike] = {**sizes}
        return evaluate(item, env)
    if isinstance(item, Slice):
        start, stop = _fixed(item.start, sizes), _fixed(item.stop, sizes)
        return Slice(start, stop, item.step)
    if isinstance(item, tuple | list):
        return type(item)(_fixed(x, sizes) for x in item)
    return item
