"""Attention in its plainest form: without open masks, repeated heads and the default scale."""

from __future__ import annotations

from typing import Any

from ivyport.core.build import Builder
from ivyport.core.ir import NewAxis, Node, Slice, Value
from ivyport.core.passes.match import constant, made_by, number, same32
from ivyport.core.passes.rewrite import Rule

#: Between (batch, heads, length, size) and (batch, length, heads, size).
TURN = (0, 2, 1, 3)


def default_scale(b: Builder, node: Node) -> Value | None:
    """A scale of 1 / sqrt(size) is attention's default."""
    query, scale = node.inputs[0], node.attrs["scale"]
    if scale is None or not isinstance(query, Value):
        return None
    size = query.type.shape[-1]
    if not isinstance(size, int) or not same32(scale, size**-0.5):
        return None
    return b.attention(*node.inputs, **{**node.attrs, "scale": None})


def grouped_heads(b: Builder, node: Node) -> Value | None:
    """Keys and values repeated for groups of query heads: attention groups them itself."""
    query, key, value, mask = node.inputs
    if node.attrs["layout"] == "bhsd":
        sources = [_unrepeated(x) for x in (key, value)]
    else:
        turned = [made_by(x, "permute_dims") for x in (key, value)]
        if any(t is None or t.attrs["axes"] != TURN for t in turned):
            return None
        sources = [_unrepeated(t.inputs[0]) for t in turned if t is not None]
        sources = [s and b.permute_dims(s, axes=TURN) for s in sources]
    if any(s is None for s in sources):
        return None
    return b.attention(query, *sources, mask, **node.attrs)


def open_mask(b: Builder, node: Node) -> Value | None:
    """A mask that is true everywhere, or adds zero, says nothing."""
    query, key, value, mask = node.inputs
    if constant(mask) is not True and (mask is None or number(mask) != 0):
        return None
    return b.attention(query, key, value, None, **{**node.attrs, "empty": "zero"})


def _unrepeated(x: Any) -> Value | None:
    """The tensor of which every head was repeated, for (batch, heads, length, size)."""
    flat = made_by(x, "reshape")
    wide = made_by(flat.inputs[0], "broadcast_to") if flat is not None else None
    cut = made_by(wide.inputs[0], "getitem") if wide is not None else None
    if cut is None or not isinstance(x, Value) or x.type.rank != 4:
        return None
    index = (Slice(), Slice(), NewAxis())
    source = cut.inputs[0]
    if cut.attrs["index"][:3] != index or not isinstance(source, Value):
        return None
    if any(i != Slice() for i in cut.attrs["index"][3:]) or source.type.rank != 4:
        return None
    batch, _, length, size = source.type.shape
    expected = (batch, x.type.shape[1], length, size)
    return source if x.type.shape == expected else None


RULES: dict[str, list[Rule]] = {"attention": [open_mask, grouped_heads, default_scale]}
