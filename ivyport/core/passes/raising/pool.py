"""Average pools out of sums over windows."""

from __future__ import annotations

import math

from ivyport.core.build import Builder
from ivyport.core.ir import Node, Value
from ivyport.core.ops_nn import spatial_axes
from ivyport.core.passes.match import constant, floating, made_by, number, view
from ivyport.core.passes.rewrite import Rule


def average(b: Builder, node: Node) -> Value | None:
    """sum_pool(x) / size, and sum_pool(x) / sum_pool(1): padding counts, or does not."""
    total = made_by(node.inputs[0], "sum_pool")
    if total is None or not floating(node.output):
        return None
    x = total.inputs[0]
    assert isinstance(x, Value)
    kernel, padding = total.attrs["kernel"], total.attrs["padding"]
    attrs = {k: total.attrs[k] for k in ("kernel", "stride", "padding", "layout")}
    size = number(node.inputs[1])
    if size is not None:
        if size != math.prod(kernel):
            return None
        return b.avg_pool(x, count_include_pad=True, **attrs)
    if not _counts(node.inputs[1], x, total):
        return None
    padded = any(p != (0, 0) for p in padding)
    return b.avg_pool(x, count_include_pad=not padded, **attrs)


def _counts(value: object, x: Value, total: Node) -> bool:
    """Whether `value` is how many elements of x each window holds."""
    if not isinstance(value, Value):
        return False
    seen = view(value)
    node = made_by(seen.base, "sum_pool")
    ones = node.inputs[0] if node is not None else None
    if node is None or not isinstance(ones, Value) or constant(ones) != 1:
        return False
    if any(node.attrs[k] != v for k, v in total.attrs.items()):
        return False
    space = spatial_axes(total.attrs["layout"], x.type.rank)
    if ones.type.rank != x.type.rank or value.type.rank != x.type.rank:
        return False
    aligned = all(
        axis == i or seen.base.type.shape[i] == 1
        for i, axis in enumerate(seen.axes)
        if i in space
    )
    return aligned and all(ones.type.shape[a] == x.type.shape[a] for a in space)


RULES: dict[str, list[Rule]] = {"divide": [average]}
