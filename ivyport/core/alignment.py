"""What two graphs of one source have in common, node by node, and in what they return."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from ivyport.core import opdef
from ivyport.core.control import bodies
from ivyport.core.ir import Graph, Node, Operand, Record, Scalar, Value
from ivyport.core.ops_control import region_inputs
from ivyport.core.text import render


def aligned(
    mine: Sequence[Node],
    theirs: Sequence[Node],
    hidden: Mapping[str, Sequence[str]],
) -> Iterator[tuple[Node | None, Node | None]]:
    """Nodes of two graphs side by side, None where one of them has none.

    `hidden` are attributes, by operation, in which nodes that are one may differ.
    """
    keys: dict[Hashable, int] = {}
    one, other = (
        [keys.setdefault(_key(n, hidden), len(keys)) for n in x] for x in (mine, theirs)
    )
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(mine[i:j], theirs[k:m], strict=True)
            continue
        for node in mine[i:j]:
            yield node, None
        for node in theirs[k:m]:
            yield None, node


def _key(node: Node, hidden: Mapping[str, Sequence[str]]) -> Hashable:
    """What a node is, whatever it is given."""
    free = hidden.get(node.op, ())
    attrs = tuple(
        (name, _attr(value))
        for name, value in sorted(node.attrs.items())
        if name not in free
    )
    own = len(node.inputs)
    if bodies(node):
        own = region_inputs(node.op, node.attrs)
    operands = tuple(_operand(x) for x in node.inputs[:own])
    types = tuple(v.type for v in node.outputs)
    return node.op, node.scope, attrs, operands, len(node.inputs), types


def same(one: Node, other: Node) -> bool:
    """Whether two nodes give the same for the same operands, and nothing else comes of them."""
    if opdef.get(one.op).random or one.op == "batch_norm" or bodies(one):
        return False
    first, second = (
        (n.op, sorted((k, _attr(v)) for k, v in n.attrs.items()), len(n.inputs))
        for n in (one, other)
    )
    plain = ([x for x in n.inputs if not isinstance(x, Value)] for n in (one, other))
    numbers = [list(map(_operand, found)) for found in plain]
    types = [[v.type for v in n.outputs] for n in (one, other)]
    return first == second and numbers[0] == numbers[1] and types[0] == types[1]


def _attr(value: Any) -> str:
    if isinstance(value, Graph):
        return render(value)
    if isinstance(value, tuple):
        return "(" + ",".join(map(_attr, value)) + ")"
    return repr(value)


def _operand(x: Operand) -> Any:
    if isinstance(x, Scalar):
        return type(x.value).__name__, x.value
    if x is None or x.producer is not None:
        return None if x is None else "tensor"
    return x.name  # of an input, or the path of a parameter


def alike(x: Any, y: Any) -> bool:
    """Whether two outputs have one structure; None may stand where the other has a tensor."""
    if isinstance(x, Value) or isinstance(y, Value):
        pair = [v for v in (x, y) if v is not None]
        same = all(isinstance(v, Value) for v in pair)
        return same and all(v.type == pair[0].type for v in pair)
    if type(x) is not type(y):
        return False
    if isinstance(x, Record):
        names = [[k for k, _ in r.fields] for r in (x, y)]
        return (
            x.cls == y.cls
            and names[0] == names[1]
            and all(
                alike(a, b) for (_, a), (_, b) in zip(x.fields, y.fields, strict=True)
            )
        )
    if isinstance(x, dict):
        return list(x) == list(y) and all(alike(x[k], y[k]) for k in x)
    if isinstance(x, list | tuple):
        return len(x) == len(y) and all(map(alike, x, y))
    return bool(x == y)


__all__ = ["aligned", "alike", "same"]
