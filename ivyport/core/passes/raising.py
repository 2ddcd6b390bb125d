"""Recognise layers that the source wrote out: each rule proves its match node by node."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.control import bodies, captured, prune
from ivyport.core.ir import Graph, NewAxis, Node, Scalar, Slice, Value
from ivyport.core.passes import (
    raising_attention,
    raising_elementwise,
    raising_linear,
    raising_moments,
    raising_norm,
    raising_pool,
    raising_shape,
    raising_softmax,
)
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.match import constant, made_by, number, same32
from ivyport.core.passes.raising_statistics import attach_statistics
from ivyport.core.passes.rewrite import Rule, apply_rules
from ivyport.core.passes.simplify import simplify

LIMIT = 30
PARTS = (
    raising_moments.RULES,
    raising_softmax.RULES,
    raising_elementwise.RULES,
    raising_pool.RULES,
    raising_shape.RULES,
)
LAYERS = (raising_norm.RULES, raising_attention.RULES)


def raise_layers(
    graph: Graph,
    weights: Set[Value] = frozenset(),
    *,
    trains: bool = False,
    read: Set[str] | None = None,
) -> None:
    """Replace what the source wrote out in primitives by the operations that it means.

    Linears, embeddings, norms, softmax, attention, activations, dropout and pools. `weights` are
    values that stand for parameters of an enclosing graph. `trains` says that the graph is one of
    train mode alone: masks that it draws are dropouts of that mode, and new values of running
    statistics in `graph.updates` belong to batch norms. `read` names what eval mode reads, if that
    is known: averages that it does not read belong to no batch norm.
    """
    trained = {p.value for p in graph.params.values() if p.kind == "parameter"}
    weights = trained | weights
    for node in graph.nodes:
        for body in bodies(node):
            pairs = captured(node, body)
            inner = {y for x, y in pairs if raising_linear.owned(x, weights)}
            raise_layers(body, inner, trains=trains)
        if bodies(node):
            prune(node)
    while apply_rules(graph, RULES, trains=trains):
        eliminate(graph)
    linears = raising_linear.Linears(weights).table()
    # A variance must be one before what divides by its root is looked at: ``mean(square(..))``
    # of centred values would pass for that of an RMS norm.
    parts = _joined(*PARTS, linears)
    simplify(graph)
    for table in (parts, _joined(RULES, *LAYERS, parts)):
        for _ in range(LIMIT):
            if not apply_rules(graph, table, trains=trains):
                break
            eliminate(graph)
            simplify(graph)
    if graph.updates and trains:
        attach_statistics(graph, read)
        eliminate(graph)


def _joined(*tables: dict[str, list[Rule]]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for table in tables:
        for op, rules in table.items():
            found.setdefault(op, []).extend(rules)
    return found


def _either(node: Node, op: str) -> tuple[Node, Any] | None:
    """Of a commutative node's operands, the one made by `op`, and the other."""
    x, y = node.inputs
    for one, other in ((x, y), (y, x)):
        made = made_by(one, op)
        if made is not None:
            return made, other
    return None


def _scalar(node: Node | None, op: str) -> tuple[Any, float] | None:
    """The tensor and the number of ``tensor op number``."""
    if node is None or node.op != op:
        return None
    x, y = node.inputs
    for one, other in ((x, y), (y, x)):
        if isinstance(other, Scalar) and isinstance(other.value, int | float):
            return one, float(other.value)
    return None


def rms_norm(b: Builder, node: Node) -> Value | None:
    """weight * (x * rsqrt(mean(x^2, -1) + eps))."""
    found = _either(node, "multiply")
    if found is None:
        return None
    inner, weight = found
    scaled = _either(inner, "rsqrt")
    if scaled is None or not isinstance(weight, Value) or weight.type.rank != 1:
        return None
    root, x = scaled
    total = made_by(root.inputs[0], "add")
    shifted = _scalar(total, "add")
    if shifted is None or not isinstance(x, Value):
        return None
    mean = made_by(shifted[0], "mean")
    if mean is None or not mean.attrs["keepdims"]:
        return None
    axes = tuple(a % x.type.rank for a in mean.attrs["axis"] or ())
    if axes != (x.type.rank - 1,) or not _is_square(mean.inputs[0], x):
        return None
    if weight.type.shape != x.type.shape[-1:] or x.type.dtype != "float32":
        return None
    return b.rms_norm(x, weight, axis=(-1,), eps=shifted[1])


def _is_square(value: Any, x: Value) -> bool:
    square = made_by(value, "square")
    if square is not None:
        return square.inputs[0] is x
    power = made_by(value, "pow")
    if power is not None:
        exponent = power.inputs[1]
        return (
            power.inputs[0] is x
            and isinstance(exponent, Scalar)
            and exponent.value == 2
        )
    product = made_by(value, "multiply")
    return product is not None and product.inputs[0] is x and product.inputs[1] is x


def gelu_tanh(b: Builder, node: Node) -> Value | None:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    found = _either(node, "add")
    if found is None:
        return None
    one, half = found
    shifted = _scalar(one, "add")
    halved = _scalar(made_by(half, "multiply"), "multiply")
    if shifted is None or halved is None or shifted[1] != 1 or halved[1] != 0.5:
        return None
    x = halved[0]
    tanh = made_by(shifted[0], "tanh")
    if tanh is None or not isinstance(x, Value):
        return None
    scaled = _scalar(made_by(tanh.inputs[0], "multiply"), "multiply")
    if scaled is None or not same32(scaled[1], math.sqrt(2 / math.pi)):
        return None
    total = made_by(scaled[0], "add")
    parts = _either(total, "multiply") if total is not None else None
    if parts is None or parts[1] is not x:
        return None
    cubic = _scalar(parts[0], "multiply")
    if cubic is None or not same32(cubic[1], 0.044715):
        return None
    cube = made_by(cubic[0], "pow")
    exponent = cube.inputs[1] if cube is not None else None
    if cube is None or cube.inputs[0] is not x:
        return None
    if not isinstance(exponent, Scalar) or exponent.value != 3:
        return None
    return b.gelu(x, approximate=True)


def flattened_linear(b: Builder, node: Node) -> Value | None:
    """A linear between two reshapes that only merge leading axes and split them again."""
    linear = made_by(node.inputs[0], "linear")
    if linear is None:
        return None
    flat = made_by(linear.inputs[0], "reshape")
    source = flat.inputs[0] if flat is not None else None
    if not isinstance(source, Value) or source.type.rank < 2:
        return None
    inner = linear.inputs[0]
    assert isinstance(inner, Value)
    kept = source.type.shape[-1] == inner.type.shape[-1]
    expected = (*source.type.shape[:-1], linear.output.type.shape[-1])
    if not kept or node.output.type.shape != expected:
        return None
    return b.linear(source, *linear.inputs[1:], **linear.attrs)


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


TURN = (
    0,
    2,
    1,
    3,
)  # between (batch, heads, length, size) and (batch, length, heads, size)


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


RULES: dict[str, list[Rule]] = {
    "multiply": [rms_norm, gelu_tanh],
    "reshape": [flattened_linear],
    "attention": [open_mask, grouped_heads, default_scale],
}
