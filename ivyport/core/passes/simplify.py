"""Local identities: what changes nothing goes, chains become one, constants are folded.

Every rule is exact for all inputs, in floating point too, and keeps the result's type.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ivyport.core import dtype as dt
from ivyport.core import opdef
from ivyport.core.build import Builder
from ivyport.core.control import within
from ivyport.core.dims import Dim
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, NewAxis, Node, Operand, Scalar, Slice, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.indexing import INDEX_RULES
from ivyport.core.passes.match import constant, made_by
from ivyport.core.passes.rewrite import Rule, apply_rules

FULL = Slice()


def simplify(graph: Graph) -> None:
    """Apply the rules until none applies; remove what became dead."""
    within(graph, simplify)
    for _ in range(20):
        changed = apply_rules(graph, RULES)
        changed |= _share(graph)
        eliminate(graph)
        if not changed:
            return


def _value(node: Node, position: int = 0) -> Value:
    operand = node.inputs[position]
    assert isinstance(operand, Value)
    return operand


def _identity(b: Builder, node: Node) -> Value | None:
    """Operations whose attributes make them the identity."""
    x = _value(node)
    if node.output.type != x.type:
        return None
    identity = {
        "astype": True,
        "reshape": True,
        "broadcast_to": True,
        "permute_dims": node.attrs.get("axes") == tuple(range(x.type.rank)),
        "getitem": all(i == FULL for i in node.attrs.get("index", ())),
        "dropout": node.attrs.get("rate") == 0.0,
        "concat": len(node.inputs) == 1,
        "tile": all(r == 1 for r in node.attrs.get("repetitions", ())),
        "pad": all(p == (0, 0) for p in node.attrs.get("padding", ())),
        "roll": all(s == 0 for s in node.attrs.get("shift", ())),
    }[node.op]
    return x if identity else None


def _neutral(b: Builder, node: Node) -> Value | None:
    """x + 0 of integers, x * 1, x / 1, x - 0; a float x + 0 would turn -0.0 into 0.0."""
    x, y = node.inputs
    integer = not dt.is_float(node.output.type.dtype)
    neutral = {"add": 0, "subtract": 0, "multiply": 1, "divide": 1}[node.op]
    exact = integer or node.op in ("multiply", "divide", "subtract")
    for one, other in ((x, y), (y, x)):
        if node.op in ("subtract", "divide") and one is y:
            continue
        value = constant(other)
        if isinstance(value, Dim) or value is None or value != neutral or not exact:
            continue
        if not integer and neutral == 0 and np.signbit(float(value)):
            continue  # -0.0 - -0.0 is 0.0
        if isinstance(one, Value) and one.type == node.output.type:
            return one
    return None


def _fold_bool(b: Builder, node: Node) -> Value | None:
    """true & x = x, false | x = x, and their absorbing partners."""
    if node.output.type.dtype != "bool":
        return None
    x, y = node.inputs
    for one, other in ((x, y), (y, x)):
        value = constant(other)
        if not isinstance(value, bool) or not isinstance(one, Value):
            continue
        if value == (node.op in ("bitwise_and", "logical_and")):
            return b.expand(one, node.output.type.shape)
        return b.full(shape=node.output.type.shape, value=value, dtype="bool")
    return None


def _logical(b: Builder, node: Node) -> Value | None:
    """Bitwise operations of bools are logical ones: one name for both."""
    if node.output.type.dtype != "bool":
        return None
    op = "not" if node.op == "bitwise_invert" else node.op.removeprefix("bitwise_")
    return b.node(f"logical_{op}", node.inputs, {}).output


def _bounds(operand: Any) -> tuple[int | None, int | None]:
    """Least and greatest value of an integer operand, None where unknown."""
    value = constant(operand)
    if isinstance(value, int):
        return value, value
    node = made_by(operand, "arange")
    if (
        node is not None
        and node.attrs["step"] == 1
        and isinstance(node.attrs["start"], int)
    ):
        stop = node.attrs["stop"]
        return node.attrs["start"], stop - 1 if isinstance(stop, int) else None
    node = made_by(operand, "getitem", "reshape", "broadcast_to", "astype")
    return _bounds(node.inputs[0]) if node is not None else (None, None)


def _decide(b: Builder, node: Node) -> Value | None:
    """Comparisons that ranges decide: ``arange(n) >= 0`` is true."""
    low_x, high_x = _bounds(node.inputs[0])
    low_y, high_y = _bounds(node.inputs[1])
    less = high_x is not None and low_y is not None and high_x < low_y
    not_less = low_x is not None and high_y is not None and low_x >= high_y
    answer = {
        "less": (less, not_less),
        "greater_equal": (not_less, less),
    }[node.op]
    if not any(answer):
        return None
    return b.full(shape=node.output.type.shape, value=answer[0], dtype="bool")


def _fold_elementwise(b: Builder, node: Node) -> Value | None:
    """Casts and negations of constants."""
    value = constant(node.inputs[0])
    type_ = node.output.type
    if value is None or isinstance(value, Dim) or isinstance(node.inputs[0], Scalar):
        return None
    if node.op == "astype":
        value = _cast(value, type_.dtype)
    elif node.op in ("bitwise_invert", "logical_not") and isinstance(value, bool):
        value = not value
    elif node.op == "negative":
        value = -value
    else:
        return None
    return b.full(shape=type_.shape, value=value, dtype=type_.dtype)


def _fold_binary(b: Builder, node: Node) -> Value | None:
    """Arithmetic of two constants, rounded as the dtype rounds."""
    x, y = (constant(operand) for operand in node.inputs)
    type_ = node.output.type
    if type_.dtype not in ("float32", "float64", "int64", "int32"):
        return None
    if not isinstance(x, int | float) or not isinstance(y, int | float):
        return None
    numpy = dt.to_numpy(type_.dtype)
    left, right = np.asarray(x, numpy), np.asarray(y, numpy)
    if node.op == "divide" and right == 0:
        return None
    exact: dict[str, Any] = {
        "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
    }  # fmt: skip
    value = exact[node.op](left, right).item()
    return b.full(shape=type_.shape, value=value, dtype=type_.dtype)


def _sqrt(b: Builder, node: Node) -> Value | None:
    """The root of a constant: IEEE 754 demands the correctly rounded one."""
    value, type_ = constant(node.inputs[0]), node.output.type
    if not isinstance(value, float) or value < 0 or type_.dtype != "float32":
        return None
    return b.full(
        shape=type_.shape, value=np.sqrt(np.float32(value)).item(), dtype="float32"
    )


def _to_scalar(b: Builder, node: Node) -> Value | None:
    """A constant tensor beside another tensor is a number, if no shape depends on it."""
    operands = list(node.inputs)
    for position, x in enumerate(operands):
        value = constant(x)
        if not isinstance(x, Value) or value is None or isinstance(value, Dim):
            continue
        others = [y for i, y in enumerate(operands) if i != position]
        tensors = [
            y for y in others if isinstance(y, Value) and y.type.dtype == x.type.dtype
        ]
        if node.op == "where" and position == 0:
            continue
        if tensors and all(constant(y) is None for y in tensors):
            operands[position] = Scalar(value)
    if operands == list(node.inputs):
        return None
    try:
        made = b.node(node.op, tuple(operands), node.attrs)
    except GraphError:
        return None
    return made.output if made.output.type == node.output.type else None


def _cast(value: bool | int | float, dtype: str) -> bool | int | float:
    if dtype == "bool":
        return bool(value)
    return float(value) if dt.is_float(dtype) else int(value)


def _cast_chain(b: Builder, node: Node) -> Value | None:
    """bool to int to bool, or a range made in another integer type."""
    inner = made_by(node.inputs[0], "astype")
    dtype = node.attrs["dtype"]
    if inner is not None:
        x = _value(inner)
        if x.type.dtype == "bool" and dtype == "bool":
            return x
        widening = dt.is_int(x.type.dtype) and dt.is_int(inner.attrs["dtype"])
        wider = dt.itemsize(inner.attrs["dtype"]) >= dt.itemsize(x.type.dtype)
        if widening and wider and dt.is_int(dtype):
            return b.cast(x, dtype)
    line = made_by(node.inputs[0], "arange")
    if line is not None and all(
        isinstance(line.attrs[k], int | Dim) for k in ("start", "stop", "step")
    ):
        return b.arange(**{**line.attrs, "dtype": dtype})
    return None


def _reshape_chain(b: Builder, node: Node) -> Value | None:
    """Only the last of several reshapes matters; a reshape of a constant is a constant."""
    inner = made_by(node.inputs[0], "reshape")
    if inner is not None:
        shape = node.output.type.shape
        return b.resize(_value(inner), shape)
    return _reshape_as_index(b, node)


def _reshape_as_index(b: Builder, node: Node) -> Value | None:
    """Adding axes of size one is indexing."""
    x, shape = _value(node), node.output.type.shape
    if len(shape) <= x.type.rank or 1 in x.type.shape:
        return None
    if tuple(d for d in shape if d != 1) != x.type.shape:
        return None
    return b.getitem(x, index=tuple(NewAxis() if d == 1 else FULL for d in shape))


def _permute_chain(b: Builder, node: Node) -> Value | None:
    inner = made_by(node.inputs[0], "permute_dims")
    if inner is None:
        return None
    axes = tuple(inner.attrs["axes"][a] for a in node.attrs["axes"])
    return b.transpose(_value(inner), axes)


def _fold_shape(b: Builder, node: Node) -> Value | None:
    """A constant tensor stays one under reshape, index, broadcast, concat with itself."""
    x = node.inputs[0]
    producer = made_by(x, "full")
    if producer is None:
        return None
    type_ = node.output.type
    return b.full(shape=type_.shape, value=producer.attrs["value"], dtype=type_.dtype)


def _broadcast_chain(b: Builder, node: Node) -> Value | None:
    inner = made_by(node.inputs[0], "broadcast_to")
    if inner is None:
        return None
    return b.expand(_value(inner), node.output.type.shape)


def _unbroadcast(b: Builder, node: Node) -> Value | None:
    """Elementwise operations and attention masks broadcast by themselves."""
    changed = False
    operands: list[Operand] = []
    for position, x in enumerate(node.inputs):
        inner = made_by(x, "broadcast_to")
        mask = node.op == "attention" and position == 3
        if inner is not None and (mask or node.op != "attention"):
            source = _value(inner)
            if inner.scope != node.scope and _is_held(source):
                operands.append(x)
                continue
            if not mask or source.type.rank == _value(inner).type.rank:
                operands.append(source)
                changed = True
                continue
        operands.append(x)
    if not changed:
        return None
    made = b.node(node.op, tuple(operands), node.attrs)
    return made.output if made.output.type == node.output.type else None


def _narrow_mask(b: Builder, node: Node) -> Value | None:
    """A mask that is spread over the batch while it is made need not be: attention does it."""
    maker = made_by(node.inputs[3], "where", "add", "logical_and")
    if maker is None:
        return None
    operands: list[Operand] = []
    for x in maker.inputs:
        spread = made_by(x, "broadcast_to", "full")
        if spread is None:
            operands.append(x)
        elif spread.op == "full":
            type_ = spread.output.type
            value = spread.attrs["value"]
            operands.append(b.full(shape=(), value=value, dtype=type_.dtype))
        else:
            operands.append(_value(spread))
    made = b.node(maker.op, tuple(operands), maker.attrs).output
    if made.type == maker.output.type:
        return None
    query, key, value_, _ = node.inputs
    return b.attention(query, key, value_, made, **node.attrs)


def _is_held(value: Value) -> bool:
    """Whether it is a float parameter or input: such a one stays with the module it belongs to."""
    node = value.producer
    while node is not None and node.op in ("reshape", "getitem", "permute_dims"):
        value = _value(node)
        node = value.producer
    return node is None and dt.is_float(value.type.dtype)


def _share(graph: Graph) -> bool:
    """Equal nodes of one call become one, unless they draw random numbers."""
    seen: dict[Any, list[Node]] = {}
    replaced: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        if replaced:
            node.inputs = tuple(
                replaced.get(x, x) if isinstance(x, Value) else x for x in node.inputs
            )
        if not opdef.get(node.op).random and node.op != "batch_norm":
            operands = (x if isinstance(x, Value) else repr(x) for x in node.inputs)
            alike = seen.setdefault((node.op, *operands), [])
            twin = next((other for other in alike if _same(other, node)), None)
            if twin is not None:
                replaced.update(zip(node.outputs, twin.outputs, strict=True))
                continue
            alike.append(node)
        kept.append(node)
    if replaced:
        from ivyport.core.passes.rewrite import substitute

        substitute(graph, kept, replaced)
    return bool(replaced)


def _same(one: Node, other: Node) -> bool:
    """Whether nodes of one operation and one call have the same attributes."""
    return one.scope == other.scope and repr(one.attrs) == repr(other.attrs)


def _table() -> dict[str, list[Rule]]:
    table: dict[str, list[Rule]] = {}

    def add(ops: str, *rules: Rule) -> None:
        for op in ops.split():
            table.setdefault(op, []).extend(rules)

    add(
        "astype reshape broadcast_to permute_dims getitem dropout concat tile pad roll",
        _identity,
    )
    add("add subtract multiply divide", _neutral)
    add("bitwise_and bitwise_or logical_and logical_or", _fold_bool)
    add("bitwise_and bitwise_or bitwise_xor bitwise_invert", _logical)
    add("less greater_equal", _decide)
    add("astype bitwise_invert logical_not negative", _fold_elementwise)
    add("astype", _cast_chain)
    add("reshape broadcast_to getitem permute_dims", _fold_shape)
    add("reshape", _reshape_chain)
    add("permute_dims", _permute_chain)
    add("broadcast_to", _broadcast_chain)
    add("add subtract multiply divide", _fold_binary)
    add("sqrt", _sqrt)
    for op, rules in INDEX_RULES.items():
        add(op, *rules)
    add("attention", _narrow_mask)
    add(
        "add subtract multiply divide bitwise_and bitwise_or logical_and logical_or where "
        "equal not_equal less less_equal greater greater_equal attention",
        _unbroadcast,
    )
    add(
        "add subtract multiply divide where equal not_equal less less_equal greater "
        "greater_equal maximum minimum pow",
        _to_scalar,
    )
    return table


RULES = _table()
