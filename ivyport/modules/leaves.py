"""What the leaf rules of all targets share: a call that is one operation on its own weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ivyport.core.ir import Graph, Node, Param, Value
from ivyport.modules.instances import LayerSpec, LeafRule, ParamSpec
from ivyport.modules.tree import CallNode, adopt, connect

# From a node and the names of its tensor operands ('' for absent ones) to a layer.
Rule = Callable[[Node, list[str]], LayerSpec | None]


def match(
    call: CallNode, params: list[Param], rules: Mapping[str, Rule]
) -> LayerSpec | None:
    """The layer that does exactly what this call does, or None.

    The call must be one operation of its one input, with nothing but parameters of its own;
    a rule gets their names below the module.
    """
    node = single(call)
    if node is None:
        return None
    rule = rules.get(node.op)
    own = {p.value: p.place[len(call.path) + 1 :] for p in params}
    tensors = [x for x in node.inputs[1:] if x is not None]
    if rule is None or any(x not in own for x in tensors):
        return None
    names = [own[x] if isinstance(x, Value) else "" for x in node.inputs[1:]]
    return rule(node, names)


def single(call: CallNode) -> Node | None:
    """The only operation of a call, if it works on the call's only input."""
    if len(call.items) != 1 or len(call.inputs) != 1 or len(call.outputs) != 1:
        return None
    if call.updates:
        return None
    (node,) = call.items
    if isinstance(node, CallNode) or node.inputs[0] is not call.inputs[0]:
        return None
    return node


def dissolve_others(root: CallNode, graph: Graph, leaf: LeafRule) -> None:
    """Where a module is a layer in some of its calls, its other calls go to their callers.

    An embedding whose table also makes the logits stays an embedding: the product with its
    table belongs to whoever calls for it.
    """
    owned: dict[str, list[Param]] = {}
    for param in graph.params.values():
        owned.setdefault(param.owner, []).append(param)
    calls: dict[str, list[CallNode]] = {}
    for call in root.calls():
        calls.setdefault(call.path, []).append(call)
    odd: set[CallNode] = set()
    for path, made in calls.items():
        own = owned.get(path, [])
        if not path or not own or len(made) < 2:
            continue
        specs = {call: leaf(call, own) for call in made}
        layer = next((spec for spec in specs.values() if spec is not None), None)
        others = [call for call in made if layer is not None and specs[call] != layer]
        plain = all(isinstance(i, Node) for c in others for i in c.items)
        if plain and not any(c.updates for c in others):
            odd.update(others)
    if not odd:
        return
    for call in list(root.calls()):
        call.items = [
            inner
            for item in call.items
            for inner in (
                adopt(item, call)
                if isinstance(item, CallNode) and item in odd
                else [item]
            )
        ]
    connect(root, graph)


def shape(node: Node, position: int) -> tuple[int, ...]:
    """The static shape of an operand that is a parameter."""
    value = node.inputs[position]
    assert isinstance(value, Value)
    return tuple(int(d) for d in value.type.shape)  # type: ignore[arg-type]  # weights have no symbols


def rank(node: Node) -> int:
    """Number of axes of the first operand."""
    x = node.inputs[0]
    assert isinstance(x, Value)
    return x.type.rank


def present(params: dict[str, ParamSpec]) -> dict[str, ParamSpec]:
    """Places of the parameters that exist."""
    return {name: spec for name, spec in params.items() if name}


def absent(**flags: str) -> dict[str, Any]:
    """The flags whose parameter, given by its name, does not exist, switched off."""
    return {flag: False for flag, name in flags.items() if not name}


def features(node: Node) -> dict[str, Any]:
    """The sizes of a `linear`, as every framework calls them."""
    inner, outer = shape(node, 1)
    if node.attrs["weight_layout"] == "oi":
        inner, outer = outer, inner
    return {"in_features": inner, "out_features": outer}
