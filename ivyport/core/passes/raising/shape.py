"""Chains of reshapes, transposes and new axes that amount to one of them, or to nothing."""

from __future__ import annotations

from ivyport.core.build import Builder
from ivyport.core.ir import Node, Value
from ivyport.core.passes.match import made_by, view
from ivyport.core.passes.rewrite import Rule

OPS = ("reshape", "getitem", "permute_dims")


def units(b: Builder, node: Node) -> Value | None:
    """Axes of size one that come, move and go: only where the others end matters."""
    if made_by(node.inputs[0], *OPS) is None:
        return None
    out = node.output
    value, length = out, 0
    seen = view(out)
    while value is not seen.base:
        made = made_by(value, *OPS)
        if made is None or not isinstance(made.inputs[0], Value):
            return None  # a broadcast
        value, length = made.inputs[0], length + 1
    base = seen.base
    order = [
        a
        for a, size in zip(seen.axes, out.type.shape, strict=True)
        if a is not None and size != 1
    ]
    if order == sorted(order):
        return b.resize(base, out.type.shape) if length > 1 else None
    moved = tuple(d for d in out.type.shape if d != 1)
    if length < 3 or len(moved) != len(order):
        return None
    flat = b.resize(base, tuple(base.type.shape[a] for a in sorted(order)))
    ranks = sorted(order)
    turned = b.transpose(flat, tuple(ranks.index(a) for a in order))
    return b.resize(turned, out.type.shape)


def regrouped(b: Builder, node: Node) -> Value | None:
    """A reshape does not care where axes of size one were before it."""
    if made_by(node.inputs[0], *OPS) is None:
        return None
    seen = view(node.inputs[0])  # type: ignore[arg-type]  # made by a node
    sizes = seen.base.type.shape
    kept = [a for a in seen.axes if a is not None and sizes[a] != 1]
    if kept != [a for a, size in enumerate(sizes) if size != 1]:
        return None
    same = [d for d in node.inputs[0].type.shape if d != 1]  # type: ignore[union-attr]
    if same != [sizes[a] for a in kept]:
        return None  # a broadcast
    return b.resize(seen.base, node.output.type.shape)


RULES: dict[str, list[Rule]] = {
    "reshape": [units, regrouped],
    "getitem": [units],
    "permute_dims": [units],
}
