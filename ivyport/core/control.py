"""Bodies of control flow: walking, closing, pruning, and opening them for emission."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ivyport.core.ir import (
    Call,
    Graph,
    Node,
    Scope,
    Value,
    map_structure,
)
from ivyport.core.opdef import CONTROL
from ivyport.core.ops_control import region_inputs

CHOICES = ("cond", "mode")
SHAPE_OPS = ("permute_dims", "reshape", "flip", "getitem")


def bodies(node: Node) -> list[Graph]:
    """The graphs that a node holds."""
    if node.op not in CONTROL:
        return []
    if node.op in CHOICES:
        return list(node.attrs["branches"])
    names = ("body",) if node.op == "scan" else ("test", "body")
    return [node.attrs[name] for name in names]


def inner_graphs(graph: Graph) -> Iterator[Graph]:
    """The graphs that the nodes of `graph` hold; theirs are not included."""
    for node in graph.nodes:
        yield from bodies(node)


def all_nodes(graph: Graph) -> Iterator[Node]:
    """Every node, those of bodies included, each after the node that holds it."""
    for node in graph.nodes:
        yield node
        for body in bodies(node):
            yield from all_nodes(body)


def _first_captured(node: Node) -> int:
    """The position of the first captured operand."""
    return 1 if node.op == "cond" else region_inputs(node.op, node.attrs)


def captured(node: Node, body: Graph) -> list[tuple[Value, Value]]:
    """Captured operands of a node with the inputs that stand for them in one of its bodies."""
    outer = node.inputs[_first_captured(node) :]
    inner = body.inputs[region_inputs(node.op, node.attrs) :]
    return [(x, y) for x, y in zip(outer, inner, strict=True) if isinstance(x, Value)]


def within(graph: Graph, change: Callable[[Graph], None]) -> None:
    """Apply a pass to the bodies in `graph`, and drop what they no longer capture."""
    for node in graph.nodes:
        held = bodies(node)
        for body in held:
            change(body)
        if held:
            prune(node)


def prune(node: Node) -> None:
    """Drop captured operands that none of the bodies uses."""
    held = bodies(node)
    count, first = region_inputs(node.op, node.attrs), _first_captured(node)
    used: set[Value] = set()
    for body in held:
        used |= set(body.output_values())
        used |= {v for n in body.nodes for v in n.values()}
    size = len(node.inputs) - first
    kept = [i for i in range(size) if any(b.inputs[count + i] in used for b in held)]
    if len(kept) == size:
        return
    node.inputs = (*node.inputs[:first], *(node.inputs[first + i] for i in kept))
    for body in held:
        body.inputs = [*body.inputs[:count], *(body.inputs[count + i] for i in kept)]


def close(regions: Sequence[Graph]) -> list[Value]:
    """Make bodies of one operation closed: values of outside become inputs of each.

    Returns the values that are captured, in order of use. Numbers in tensors are not captured
    but made anew inside.
    """
    found: dict[Value, None] = {}
    for region in regions:
        found.update(dict.fromkeys(_free(region)))
    outside = [v for v in found if v.producer is None or v.producer.op != "full"]
    numbers = [v for v in found if v.producer is not None and v.producer.op == "full"]
    for region in regions:
        inner = {v: _copy(v) for v in outside}
        region.inputs = [*region.inputs, *inner.values()]
        used = set(_free(region))
        made = []
        for value in numbers:
            if value in used:
                inner[value] = _copy(value)
                made.append(_number(value, inner[value], region))
        _replace(region, inner)
        region.nodes[:0] = made
    return outside


def free_values(graph: Graph) -> list[Value]:
    """Values that a graph without parameters uses and does not make, in order of use."""
    return list(dict.fromkeys(_free(graph)))


def _free(region: Graph) -> Iterator[Value]:
    """Values that a region uses and does not make, in order of use."""
    made = set(region.inputs)
    for node in region.nodes:
        yield from (v for v in node.values() if v not in made)
        made.update(node.outputs)
    yield from (v for v in region.output_values() if v not in made)


def _copy(value: Value) -> Value:
    made = Value(value.type, value.name)
    made.names = dict(value.names)
    return made


def _number(value: Value, inner: Value, region: Graph) -> Node:
    old = value.producer
    assert old is not None
    scope = region.nodes[0].scope if region.nodes else old.scope
    node = Node(old.op, old.inputs, dict(old.attrs), (inner,), scope, old.src)
    inner.producer = node
    return node


def _replace(graph: Graph, new: dict[Value, Value]) -> None:
    """Let everything in a graph read other values."""
    for node in graph.nodes:
        node.inputs = tuple(
            new.get(x, x) if isinstance(x, Value) else x for x in node.inputs
        )
    graph.outputs = map_structure(lambda v: new.get(v, v), graph.outputs)
    graph.calls = [
        Call(c.stack, [(name, new.get(v, v)) for name, v in c.args], c.alias)
        for c in graph.calls
    ]


# ---- what does not change from iteration to iteration


def hoist(graph: Graph) -> None:
    """Move changes of shape of parameters out of bodies, to where they can be folded."""
    parameters = {p.value for p in graph.params.values()}
    _hoist(graph, parameters)


def _hoist(graph: Graph, parameters: set[Value]) -> None:
    nodes: list[Node] = []
    for node in graph.nodes:
        held = bodies(node)
        for body in held:
            known = {i for o, i in captured(node, body) if o in parameters}
            _hoist(body, known)
        for body in held:
            nodes += _lifted(node, body, held, parameters)
        nodes.append(node)
        if held:
            prune(node)
        elif _shapes(node, parameters):
            parameters.update(node.outputs)
    graph.nodes = nodes


def _shapes(node: Node, parameters: set[Value]) -> bool:
    return (
        node.op in SHAPE_OPS
        and len(node.inputs) == 1
        and all(x in parameters for x in node.inputs)
    )


def _lifted(
    node: Node, body: Graph, held: list[Graph], parameters: set[Value]
) -> list[Node]:
    """Nodes of a body that only shape parameters, now reading the captured values."""
    outer = {i: o for o, i in captured(node, body) if o in parameters}
    kept, lifted = [], []
    for item in body.nodes:
        if not _shapes(item, set(outer)):
            kept.append(item)
            continue
        result = item.output
        made = _copy(result)
        copy = Node(
            item.op,
            tuple(outer[x] for x in item.values()),
            item.attrs,
            (made,),
            node.scope,
            item.src,
        )
        made.producer = copy
        lifted.append(copy)
        parameters.add(made)
        outer[result] = made
        result.producer = None
        node.inputs = (*node.inputs, made)
        for other in held:
            other.inputs = [
                *other.inputs,
                result if other is body else _copy(result),
            ]
    body.nodes = kept
    return lifted


# ---- for emission


def opened(graph: Graph) -> None:
    """Put the bodies of loops and branches into the list of nodes, between marks, in place.

    ``loop_begin`` hands out what the body starts from, ``loop_test`` takes a predicate,
    ``branch_end`` what one branch gives, ``control_end`` what the body gives; its results are
    those of the operation. Captured values are those of the graph again.
    """
    nodes: list[Node] = []
    calls = list(graph.calls)
    for node in graph.nodes:
        if node.op in CONTROL:
            nodes += _open(node, calls)
        else:
            nodes.append(node)
    graph.nodes, graph.calls = nodes, calls


MARKS = ("control_begin", "control_next", "control_end")


def _open(node: Node, calls: list[Call]) -> list[Node]:
    held = bodies(node)
    count, first = region_inputs(node.op, node.attrs), _first_captured(node)
    which: Any = node.inputs[:first]
    style = node.op
    if node.op == "cond" and len(held) == 2:
        truth = _truth(node.inputs[0])
        if truth is not None:
            which, style, held = (truth,), "if", held[::-1]
    if node.op == "mode":
        held = held[::-1]  # ``if training: ... else: ...``
    handed = [_copy(v) for v in held[0].inputs[:count]]
    attrs = {
        "style": style,
        "count": len(held),
        "carried": node.attrs.get("num_carry", 0),
        "reverse": node.attrs.get("reverse", False),
        "length": node.attrs.get("length"),
    }
    begin = Node("control_begin", which, attrs, tuple(handed), node.scope, node.src)
    for value in handed:
        value.producer = begin
    result = [begin]
    for position, body in enumerate(held):
        new = dict(captured_pairs(node, body))
        new |= dict(zip(body.inputs[:count], handed, strict=True))
        _replace(body, new)
        opened(body)
        calls += body.calls
        result += [_inside(n, node.scope) for n in body.nodes]
        last = position == len(held) - 1
        outputs = node.outputs if last else ()
        mark = "control_end" if last else "control_next"
        given = tuple(body.outputs)
        end = Node(mark, given, {"style": style}, outputs, node.scope, node.src)
        for value in outputs:
            value.producer = end
        result.append(end)
    return result


def captured_pairs(node: Node, body: Graph) -> Iterator[tuple[Value, Value]]:
    """Inputs of a body that are captured, with the values that they stand for."""
    return ((inner, outer) for outer, inner in captured(node, body))


def _truth(which: Any) -> Value | None:
    """The bool that a choice between two branches was made from."""
    maker = which.producer if isinstance(which, Value) else None
    if maker is None or maker.op != "astype":
        return None
    source = maker.inputs[0]
    return source if isinstance(source, Value) and source.type.dtype == "bool" else None


def _inside(node: Node, scope: tuple[Scope, ...]) -> Node:
    if node.scope[: len(scope)] != scope:
        node.scope = scope
    return node
