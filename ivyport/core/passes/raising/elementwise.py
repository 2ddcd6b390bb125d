"""Activations, dropout and one-hot codes out of the primitives that they are written in."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.ir import Node, Slice, Value
from ivyport.core.passes.match import (
    alike,
    close32,
    constant,
    decimal,
    factors,
    made_by,
    number,
    pairs,
    same32,
    split,
    squared,
    view,
    without,
)
from ivyport.core.passes.rewrite import Rule

MOVES = ("reshape", "getitem", "broadcast_to", "permute_dims", "tril", "triu")
SQRT_HALF = math.sqrt(0.5)


def _numbers(items: list[Any]) -> tuple[float, list[Any]]:
    """The product of the constants among factors, and the other factors."""
    total, rest = 1.0, []
    for item in items:
        value = number(item)
        if value is None:
            rest.append(item)
        else:
            total *= value
    return total, rest


def _multiples(value: Any) -> Iterator[tuple[float, Any]]:
    """Ways to read `value` as ``c * x``: as it is, and with each number taken off."""
    factor = 1.0
    while True:
        yield factor, value
        node = made_by(value, "multiply", "divide", "negative")
        if node is None:
            return
        if node.op == "negative":
            factor, value = -factor, node.inputs[0]
        elif node.op == "divide":
            by = number(node.inputs[1])
            if not by:
                return
            factor, value = factor / by, node.inputs[0]
        else:
            found = split(node)
            if found is None:
                return
            factor, value = factor * found[1], found[0]


def _times(value: Any, factor: float) -> list[Any]:
    """Every x of which `value` is `factor` times x."""
    return [x for c, x in _multiples(value) if close32(c, factor)]


def _one_plus(value: Any, op: str) -> Any:
    """y of ``1 + op(y)``."""
    found = split(made_by(value, "add"))
    made = made_by(found[0], op) if found is not None and found[1] == 1 else None
    return made.inputs[0] if made is not None else None


def gelu(b: Builder, node: Node) -> Value | None:
    """0.5 * x * (1 + erf(x / sqrt 2)), or its tanh form, in any association."""
    for gate in factors(node.output):
        for approximate, choices in (
            (False, _erf_gate(gate)),
            (True, _tanh_gate(gate)),
        ):
            for x in choices:
                if not isinstance(x, Value) or x.type != node.output.type:
                    continue
                rest = without(factors(node.output, (x, gate)), x, gate)
                if rest is None:
                    continue
                half, others = _numbers(rest)
                if half == 0.5 and not others:
                    return b.gelu(x, approximate=approximate)
    return None


def _erf_gate(gate: Any) -> list[Any]:
    """Every x of which `gate` is 1 + erf(x / sqrt 2), erfc(-x / sqrt 2), 1 - erf(-x / sqrt 2)."""
    inner = _one_plus(gate, "erf")
    if inner is not None:
        return _times(inner, SQRT_HALF)
    made = made_by(gate, "erfc")
    less = made_by(gate, "subtract")
    if made is None and less is not None and number(less.inputs[0]) == 1:
        made = made_by(less.inputs[1], "erf")
    return _times(made.inputs[0], -SQRT_HALF) if made is not None else []


def _tanh_gate(gate: Any) -> list[Any]:
    """Every x of which `gate` is 1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))."""
    found = []
    for total in _times(_one_plus(gate, "tanh"), math.sqrt(2 / math.pi)):
        for x, term in pairs(made_by(total, "add")):
            weight, items = _numbers(factors(term, stop=(x,)))
            if (
                close32(weight, 0.044715)
                and isinstance(x, Value)
                and _is_cube(items, x)
            ):
                found.append(x)
    return found


def _is_cube(items: list[Any], x: Value) -> bool:
    power = 0
    for item in items:
        made = made_by(item, "pow")
        exponent = number(made.inputs[1]) if made is not None else None
        if alike(item, x):
            power += 1
        elif made is not None and exponent in (2, 3) and alike(made.inputs[0], x):
            power += int(exponent or 0)
        elif alike(squared(item), x):
            power += 2
        else:
            return False
    return power == 3


def gated(b: Builder, node: Node) -> Value | None:
    """x * sigmoid(x), x * tanh(softplus(x)), x * hard_sigmoid(x)."""
    for x, gate in pairs(node):
        if not isinstance(x, Value):
            continue
        sigmoid = made_by(gate, "sigmoid")
        if sigmoid is not None and alike(sigmoid.inputs[0], x):
            return b.silu(x)
        hard = made_by(gate, "hard_sigmoid")
        if hard is not None and alike(hard.inputs[0], x):
            return b.hard_swish(x)
        tanh = made_by(gate, "tanh")
        soft = made_by(tanh.inputs[0], "softplus") if tanh is not None else None
        if soft is not None and alike(soft.inputs[0], x):
            return b.mish(x)
    return None


def hard_sigmoid(b: Builder, node: Node) -> Value | None:
    """clip(x + 3, 0, 6) / 6."""
    clipped = made_by(node.inputs[0], "clip") or made_by(node.inputs[0], "relu6")
    if clipped is None or number(node.inputs[1]) != 6:
        return None
    found = split(made_by(clipped.inputs[0], "add"))
    bounds = (clipped.attrs.get("min", 0), clipped.attrs.get("max", 6))
    flat = clipped.attrs.get("edge", "none") == "none"
    if found is None or found[1] != 3 or bounds != (0, 6) or not flat:
        return None
    return b.hard_sigmoid(found[0])


def clip(b: Builder, node: Node) -> Value | None:
    """min(max(x, low), high) with constants, in either order if low <= high."""
    found = split(node)
    if found is None or found[0].type != node.output.type:
        return None
    inner, bound = found
    if not node.output.type.dtype.startswith(("float", "bfloat")):
        return None
    other = {"minimum": "maximum", "maximum": "minimum"}[node.op]
    outer = split(made_by(inner, other))
    if outer is None:
        return None
    low, high = (outer[1], bound) if node.op == "minimum" else (bound, outer[1])
    if not -math.inf < low <= high < math.inf:
        return None
    return b.clip(outer[0], min=decimal(low), max=decimal(high), edge="half")


def choice(b: Builder, node: Node) -> Value | None:
    """where(x > 0, x, slope * x) and where(x > 0, x, alpha * (exp(x) - 1))."""
    test, x, other = node.inputs
    made = made_by(test, "greater", "greater_equal")
    if made is None or not isinstance(x, Value) or x.type != node.output.type:
        return None
    if not alike(made.inputs[0], x) or number(made.inputs[1]) != 0:
        return None
    closed = made.op == "greater_equal"
    for scale, core in _multiples(other):
        if alike(core, x):
            return b.leaky_relu(x, negative_slope=decimal(scale), closed=closed)
        power = made_by(core, "expm1")
        if power is not None and scale > 0 and (scale == 1 or not closed):
            return _elu(b, x, test, power.inputs[0], scale)
    return None


def _elu(b: Builder, x: Value, test: Any, inner: Any, scale: float) -> Value | None:
    """elu, if `inner` is x where it is not positive."""
    safe = made_by(inner, "where")
    if safe is not None and number(safe.inputs[1]) == 0 and alike(safe.inputs[0], test):
        inner = safe.inputs[2]
    return b.elu(x, alpha=decimal(scale)) if alike(inner, x) else None


def softplus(b: Builder, node: Node) -> Value | None:
    """max(x, 0) + log1p(exp(-|x|))."""
    for high, low in pairs(node):
        log = made_by(low, "log1p")
        exp = made_by(log.inputs[0], "exp") if log is not None else None
        minus = made_by(exp.inputs[0], "negative") if exp is not None else None
        size = made_by(minus.inputs[0], "abs") if minus is not None else None
        peak = split(made_by(high, "maximum"))
        if size is None or peak is None or peak[1] != 0:
            continue
        x = size.inputs[0]
        difference = made_by(x, "subtract")
        if difference is not None and number(difference.inputs[1]) == 0:
            x = difference.inputs[0]
        if isinstance(x, Value) and alike(peak[0], x):
            return b.softplus(x)
    return None


def log_sigmoid(b: Builder, node: Node) -> Value | None:
    """-softplus(-x)."""
    soft = made_by(node.inputs[0], "softplus")
    minus = made_by(soft.inputs[0], "negative") if soft is not None else None
    return b.log_sigmoid(minus.inputs[0]) if minus is not None else None


def one_hot(b: Builder, node: Node) -> Value | None:
    """(indices[..., None] == arange(n)) in numbers."""
    test = made_by(node.inputs[0], "equal")
    if test is None:
        return None
    rank = test.output.type.rank
    for line, indices in pairs(test):
        if not isinstance(line, Value) or not isinstance(indices, Value):
            continue
        seen, codes = view(line), view(indices)
        made = made_by(seen.base, "arange")
        last = (*[None] * (line.type.rank - 1), 0)
        if made is None or seen.axes != last or codes.axes[-1:] != (None,):
            continue
        if (made.attrs["start"], made.attrs["step"]) != (0, 1):
            continue
        if indices.type.rank != rank or indices.type.shape[-1] != 1:
            continue
        count = made.attrs["stop"]
        index = (*[Slice()] * (rank - 1), 0)
        if test.output.type.shape[-1] != count or isinstance(count, float):
            continue
        if indices.type.shape[:-1] != test.output.type.shape[:-1]:
            continue
        flat = b.getitem(indices, index=index)
        if codes.base.type.shape == flat.type.shape and codes.axes[:-1] == tuple(
            range(flat.type.rank)
        ):
            flat = codes.base
        return b.one_hot(flat, num_classes=count, dtype=node.attrs["dtype"])
    return None


# ---- dropout


def _drawn(value: Any, x: Value) -> tuple[float, tuple[int, ...]] | None:
    """The keep probability of a random mask for x, and the axes of x that share a draw."""
    if not isinstance(value, Value):
        return None
    missing = x.type.rank - value.type.rank
    seen = view(value)
    keep = _keep(seen.base)
    if keep is None or missing < 0 or not seen.whole:
        return None
    shared = []
    last = -1
    for i, size in enumerate(x.type.shape):
        axis = seen.axes[i - missing] if i >= missing else None
        if axis is None or seen.base.type.shape[axis] == 1:
            if size != 1:
                shared.append(i)
        elif seen.base.type.shape[axis] != size or axis <= last:
            return None
        else:
            last = axis
    return keep, tuple(shared)


def _keep(mask: Value) -> float | None:
    """p of a mask that is true with probability p."""
    made = made_by(mask, "random_bernoulli")
    if made is not None:
        p = made.attrs.get("p", made.inputs[0] if made.inputs else None)
        return decimal(p) if isinstance(p, int | float) else number(p)
    return None


def dropout_by_choice(b: Builder, node: Node) -> Value | None:
    """where(mask, x / keep, 0)."""
    mask, kept, zero = node.inputs
    made = made_by(kept, "divide")
    if number(zero) != 0 or made is None or not isinstance(made.inputs[0], Value):
        return None
    return _dropped(b, node, made.inputs[0], mask, number(made.inputs[1]))


def dropout_by_quotient(b: Builder, node: Node) -> Value | None:
    """(mask * x) / keep, where(mask, x, 0) / keep."""
    keep = number(node.inputs[1])
    product = made_by(node.inputs[0], "multiply")
    for mask, x in pairs(product):
        if isinstance(x, Value) and (bits := _bits(mask)) is not None:
            return _dropped(b, node, x, bits, keep)
    chosen = made_by(node.inputs[0], "where")
    if chosen is not None and number(chosen.inputs[2]) == 0:
        mask, x, _ = chosen.inputs
        if isinstance(x, Value):
            return _dropped(b, node, x, mask, keep)
    return None


def dropout_by_product(b: Builder, node: Node) -> Value | None:
    """x * (mask / keep), and other associations of it."""
    for one, other in pairs(node):
        for part, x in ((one, other), (other, one)):
            made = made_by(part, "divide")
            if made is None or not isinstance(x, Value):
                continue
            keep = number(made.inputs[1])
            bits = _bits(made.inputs[0])
            if bits is not None:
                return _dropped(b, node, x, bits, keep)
            inner, mask = made.inputs[0], _bits(x)
            if mask is not None and isinstance(inner, Value):
                return _dropped(b, node, inner, mask, keep)
    return None


def _bits(value: Any) -> Any:
    """The mask of which `value` is the 0 and 1 form."""
    if not isinstance(value, Value):
        return None
    made = made_by(view(value).base, "astype")
    if made is None or not isinstance(made.inputs[0], Value):
        return None
    if made.inputs[0].type.dtype != "bool":
        return None
    return value if _keep(_source(value)) is not None else None


def _source(value: Value) -> Value:
    """The random mask under views and a cast."""
    seen = view(value, through=("astype",))
    return seen.base


def _dropped(
    b: Builder, node: Node, x: Value, mask: Any, keep: float | None
) -> Value | None:
    if keep is None or not isinstance(mask, Value) or x.type != node.output.type:
        return None
    if mask.type.dtype != "bool":
        mask = _uncast(b, mask)
    found = _drawn(mask, x) if mask is not None else None
    if found is None or not same32(found[0], keep):
        return None
    rate = round(1 - decimal(keep), 7)
    return b.dropout(x, rate=rate, broadcast=found[1], always=not b.trains)


def _uncast(b: Builder, mask: Value) -> Value | None:
    """A mask as bools again: the views of it, without the cast."""
    made = made_by(mask, "astype")
    if made is not None and isinstance(made.inputs[0], Value):
        return made.inputs[0]
    node = made_by(mask, "reshape", "getitem", "broadcast_to", "permute_dims")
    inner = _uncast(b, node.inputs[0]) if node is not None else None  # type: ignore[arg-type]  # their first operand is a tensor
    if node is None or inner is None:
        return None
    return b.node(node.op, (inner,), node.attrs).output


def truth(b: Builder, node: Node) -> Value | None:
    """``astype(mask) != 0`` and ``where(mask, 1, 0) != 0`` are the mask."""
    x, zero = node.inputs
    if number(zero) != 0 or not isinstance(x, Value):
        return None
    found = _truth(b, x)
    return found if found is not None and found.type == node.output.type else None


def _truth(b: Builder, x: Value) -> Value | None:
    """Where a tensor that was made of a mask is not zero."""
    known = number(x)
    if known is not None:
        return b.full(shape=x.type.shape, value=known != 0, dtype="bool")
    node = x.producer
    source = node.inputs[0] if node is not None and node.inputs else None
    if node is None or not isinstance(source, Value):
        return None
    if node.op == "astype":
        return source if source.type.dtype == "bool" else None
    if node.op == "where":
        yes, no = (number(v) for v in node.inputs[1:])
        if yes is None or no != 0 or yes == 0:
            return None
        return b.expand(source, x.type.shape)
    if node.op not in MOVES:
        return None
    inner = _truth(b, source)
    return None if inner is None else b.node(node.op, (inner,), node.attrs).output


def constant_choice(b: Builder, node: Node) -> Value | None:
    """where(true, x, y) is x; where(c, true, false) is c."""
    test, *cases = node.inputs
    codes = node.output.type.dtype == "bool" and isinstance(test, Value)
    if codes and [constant(x) for x in cases] == [True, False]:
        return b.expand(test, node.output.type.shape)  # type: ignore[arg-type]  # a tensor, says `codes`
    known = constant(test)
    if not isinstance(known, bool):
        return None
    chosen = cases[0] if known else cases[1]
    if not isinstance(chosen, Value) or chosen.type.dtype != node.output.type.dtype:
        return None
    return b.expand(chosen, node.output.type.shape)


RULES: dict[str, list[Rule]] = {
    "multiply": [dropout_by_product, gelu, gated],
    "divide": [dropout_by_quotient, hard_sigmoid],
    "where": [constant_choice, dropout_by_choice, choice],
    "maximum": [clip],
    "minimum": [clip],
    "add": [softplus],
    "negative": [log_sigmoid],
    "astype": [one_hot],
    "not_equal": [truth],
}
