"""Attention out of two products with a softmax between them, in any order of axes.

What is proved: the first product contracts the size of query and key, the softmax runs over the
keys, the second product contracts the keys, and all other axes are shared. Scale, masks and
biases are followed from the softmax back to the first product.

A mask that the source writes as ``where(mask, logits, -1e30)`` stays a bool mask. What a query
gives that sees no key is the source's: the mean of all values for a finite number, NaN for minus
infinity, zeros where the weights are masked too. A mask that is added stays a float one.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike, product
from ivyport.core.ir import Node, Scalar, Value
from ivyport.core.passes.contraction import (
    Contraction,
    Labelled,
    arranged,
    contraction,
    merged,
    placed,
    unitless,
)
from ivyport.core.passes.match import (
    View,
    alike,
    constant,
    decimal,
    floating,
    made_by,
    number,
    pairs,
    reduced,
    split,
    view,
)
from ivyport.core.passes.rewrite import Rule
from ivyport.core.ranges import is_small

NEVER = -1e9
"""Logits below this are masked: exp of the difference to any other is zero."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What is done to the logits: a mask's other value, or None for a term that is added."""

    item: Labelled
    other: float | None


@dataclasses.dataclass(frozen=True)
class Logits:
    """Query and key of ``query @ key * scale``, then steps from the inside out."""

    product: Contraction
    scale: float
    steps: tuple[Step, ...]
    zeroed: bool = False  # whether the weights of masked keys were set to zero


@dataclasses.dataclass(frozen=True)
class Roles:
    """Letters by what they are, empty where an axis is of size one or missing.

    `group` are query heads that share a key head.
    """

    batch: str
    heads: str
    group: str
    query: str
    key: str
    depth: str
    value: str


def attention(b: Builder, node: Node) -> Value | None:
    """softmax(query @ key * scale + mask) @ value."""
    outer = contraction(node, units=False)
    if outer is None or not floating(node.output):
        return None
    for weights, values in ((outer.left, outer.right), (outer.right, outer.left)):
        found = _weights(weights)
        if found is None:
            continue
        logits, key, rate = found
        roles = _roles(logits.product, values, outer.result, key)
        if roles is not None:
            return _attention(b, logits, values, outer.result, roles, rate)
    return None


def _weights(weights: Labelled) -> tuple[Logits, str, float] | None:
    """The logits behind a softmax, the letter that it runs over, and the dropout after it."""
    item, rate = weights.behind(), 0.0
    dropped = made_by(item.value, "dropout")
    if dropped is not None and dropped.attrs["always"]:
        return None  # attention drops out in train mode alone
    if dropped is not None:
        # Draws that several elements share become one draw each: the same on average.
        rate = dropped.attrs["rate"]
        item = Labelled(dropped.inputs[0], item.labels).behind()  # type: ignore[arg-type]  # dropout is of a tensor
    seen, item = _masked_weights(item)
    node = made_by(item.value, "softmax")
    if node is None or not isinstance(node.inputs[0], Value):
        return None
    key = item.labels[node.attrs["axis"] % len(item.labels)]
    found = _logits(Labelled(node.inputs[0], item.labels))
    if found is None or key is None:
        return None
    if seen is not None:
        if not _masks_logits(seen, found.steps):
            return None
        found = dataclasses.replace(found, zeroed=True)
    return found, key, rate


def _masked_weights(item: Labelled) -> tuple[Value | None, Labelled]:
    """The mask of ``where(mask, weights, 0)``, and the weights."""
    node = made_by(item.value, "where")
    if node is None or number(node.inputs[2]) != 0:
        return None, item
    mask, weights, _ = node.inputs
    if not isinstance(weights, Value) or not isinstance(mask, Value):
        return None, item
    if weights.type != node.output.type:
        return None, item
    return mask, Labelled(weights, item.labels).behind()


def _masks_logits(mask: Value, steps: tuple[Step, ...]) -> bool:
    """Whether a mask of the weights is the only one of the logits."""
    masks = [s.item.value for s in steps if s.other is not None]
    return len(masks) == 1 and len(steps) == 1 and alike(masks[0], mask)


def _logits(item: Labelled) -> Logits | None:
    """Follow the logits back to the product of query and key."""
    scale = 1.0
    steps: list[Step] = []
    for _ in range(12):
        item = item.behind()
        inner = contraction(item.value.producer, units=False)
        if inner is not None:
            return _joined(item, inner, scale, steps)
        node = item.value.producer
        if node is None:
            return None
        factor = _factor(node)
        if factor is not None:
            following = Labelled(factor[0], item.labels)
            scale *= factor[1]
        else:
            step = _step(node, item)
            if step is None or scale != 1.0:
                return None  # a scale outside of a mask or bias would scale it too
            following, made = step
            steps.insert(0, made)
        if following.value.type.shape != item.value.type.shape:
            return None
        item = following
    return None


def _factor(node: Node) -> tuple[Value, float] | None:
    """A tensor times a number."""
    if node.op == "multiply":
        return split(node)
    if node.op == "divide":
        x, by = node.inputs
        value = number(by)
        if isinstance(x, Value) and value:
            return x, 1 / value
    return None


def _step(node: Node, item: Labelled) -> tuple[Labelled, Step] | None:
    """Logits inside of a mask or a bias, and that mask or bias."""
    if node.op == "where":
        mask, inner, other = node.inputs
        value = number(other)
        if value is None or value > NEVER or not isinstance(inner, Value):
            return None
        made = _term(mask, item)
        return (
            None if made is None else (Labelled(inner, item.labels), Step(made, value))
        )
    if node.op != "add":
        return None
    for inner, term in pairs(node):
        if not isinstance(inner, Value) or not isinstance(term, Value):
            continue
        if inner.type.shape != item.value.type.shape or not _leads_to_product(inner):
            continue
        made = _term(term, item)
        if made is not None:
            return Labelled(inner, item.labels), Step(made, None)
    return None


def _leads_to_product(value: Value) -> bool:
    labels = tuple(map(chr, range(97, 97 + value.type.rank)))
    return _logits(unitless(Labelled(value, labels))) is not None


def _term(term: Any, item: Labelled) -> Labelled | None:
    """A tensor that broadcasts against the logits, with their letters."""
    if not isinstance(term, Value):
        return None
    missing = item.value.type.rank - term.type.rank
    if missing < 0:
        return None
    labels = tuple(
        None if size == 1 else letter
        for size, letter in zip(term.type.shape, item.labels[missing:], strict=True)
    )
    return Labelled(term, labels)


def _joined(
    item: Labelled, inner: Contraction, scale: float, steps: list[Step]
) -> Logits | None:
    """The product with the letters of the logits; factors of query and key join the scale."""
    names: dict[str, str] = {}
    for ours, theirs in zip(item.labels, inner.result.labels, strict=True):
        if (ours is None) != (theirs is None):
            return None
        if ours is not None and theirs is not None:
            names[theirs] = ours
    summed = (inner.left.letters | inner.right.letters) - inner.result.letters
    for count, letter in enumerate(sorted(summed)):
        names[letter] = "DEFG"[count % 4] * (1 + count // 4)
    sides = []
    for side in (inner.left.renamed(names), inner.right.renamed(names)):
        plain, factor = _unscaled(side)
        sides.append(plain)
        scale *= factor
    left, right = sides
    product_ = Contraction(left, right, inner.result.renamed(names))
    return Logits(product_, scale, tuple(steps))


def _unscaled(side: Labelled) -> tuple[Labelled, float]:
    """The query or key before it was multiplied by a number."""
    scale = 1.0
    item = side.behind()
    while True:
        node = item.value.producer
        found = _factor(node) if node is not None else None
        if found is None or found[0].type.shape != item.value.type.shape:
            return (side if scale == 1.0 else item), scale
        scale *= found[1]
        item = Labelled(found[0], item.labels).behind()


def _roles(
    inner: Contraction, values: Labelled, result: Labelled, key: str
) -> Roles | None:
    """Which letter is what, if the whole is attention."""
    query_side, key_side = inner.left, inner.right
    if key not in key_side.letters:
        query_side, key_side = key_side, query_side
    q, k, v, out = (x.letters for x in (query_side, key_side, values, result))
    if key not in k or key in q or key not in v or key in out:
        return None
    depth, value = (q & k) - inner.result.letters, v - {key} - inner.result.letters
    shared, own = (q & k) - depth, q - k
    if len(depth) != 1 or len(value) > 1 or len(own) > 2:
        return None
    if k - shared - depth != {key} or v - value - {key} != shared:
        return None
    if out != shared | own | value or (len(shared) > 2 and len(own) > 1):
        return None
    order = [a for a in query_side.labels if a is not None]
    common = "".join(a for a in order if a in shared)
    single = [a for a in order if a in own]
    query, group = "".join(single[:1]), "".join(single[1:])
    batch, heads = common[:-1], common[-1:]
    if len(common) == 1 and order[0] == common:
        batch, heads = common, ""
    return Roles(batch, heads, group, query, key, "".join(depth), "".join(value))


def _attention(
    b: Builder,
    logits: Logits,
    values: Labelled,
    result: Labelled,
    roles: Roles,
    rate: float,
) -> Value | None:
    query, key = logits.product.left, logits.product.right
    if roles.key not in key.letters:
        query, key = key, query
    r = roles
    layout = None if r.heads else _laid_out(query, key, values, r)
    if layout is None:
        query, key, values = (x.behind() for x in (query, key, values))
        layout = _layout(query, r)
    sizes = {**_sizes(query), **_sizes(key), **_sizes(values)}
    every = r.heads + r.group
    empty = _empty(logits)
    if empty is None:
        return None
    mask, causal = _mask(b, logits.steps, r, sizes)
    if mask is None or (empty == "softmax" and is_small(mask)):
        empty = "zero"  # no query sees nothing: one word for what all rules then say
    made = b.attention(
        merged(b, query, _axes(layout, r.batch, every, r.query, r.depth)),
        merged(b, key, _axes(layout, r.batch, r.heads, r.key, r.depth)),
        merged(b, values, _axes(layout, r.batch, r.heads, r.key, r.value)),
        mask,
        scale=_scale(logits.scale, sizes[r.depth]),
        is_causal=causal,
        dropout=rate,
        layout=layout,
        empty=empty,
    )
    return placed(
        b, made, _axes(layout, r.batch, every, r.query, r.value), result, sizes
    )


def _laid_out(query: Labelled, key: Labelled, values: Labelled, r: Roles) -> str | None:
    """The layout that all three have already, with an axis of size one for the only head."""
    sides = (
        (query, r.query, r.depth),
        (key, r.key, r.depth),
        (values, r.key, r.value),
    )
    for layout in ("bshd", "bhsd"):
        wanted = [_axes(layout, r.batch, r.group, a, size) for _, a, size in sides]
        if all(
            [a or "" for a in item.labels] == axes
            for (item, _, _), axes in zip(sides, wanted, strict=True)
        ):
            return layout
    return None


def _layout(query: Labelled, r: Roles) -> str:
    order = "".join(a for a in query.labels if a is not None)
    return (
        "bshd" if order == r.batch + r.query + r.heads + r.group + r.depth else "bhsd"
    )


def _axes(layout: str, batch: str, heads: str, length: str, size: str) -> list[str]:
    inner = [heads, length] if layout == "bhsd" else [length, heads]
    return [batch, *inner, size]


def _sizes(item: Labelled) -> dict[str, DimLike]:
    sizes = zip(item.labels, item.value.type.shape, strict=True)
    return {a: d for a, d in sizes if a is not None}


def _scale(scale: float, size: DimLike) -> float | None:
    """None where it is 1 / sqrt(size), up to the rounding of float32."""
    if isinstance(size, int) and abs(scale * math.sqrt(size) - 1) < 4e-7:
        return None
    return decimal(scale)


# ---- masks


def _mask(
    b: Builder, steps: tuple[Step, ...], r: Roles, sizes: dict[str, DimLike]
) -> tuple[Value | None, bool]:
    """The mask of all steps, and whether instead it is that of causal attention."""
    items = [(_unbroadcast(step.item), step.other) for step in steps]
    if not items:
        return None, False
    if len(items) == 1 and items[0][1] is not None and _causal(items[0][0], r, sizes):
        return None, True
    inner = [item for item, other in items if other is None]
    mask: Value | None = None
    for item, other in items:
        if other is not None:
            term = _four(b, item, r, sizes)
            mask = term if mask is None else b.logical_and(mask, term)
    if not inner:
        return mask, False
    total: Value | None = None
    for item in inner:
        term = _four(b, item, r, sizes)
        total = term if total is None else b.add(total, term)
    if mask is not None:
        total = b.where(mask, total, Scalar(-math.inf))
    return total, False


def _empty(logits: Logits) -> str | None:
    """What a query gives that sees no key; None where the op has no word for it."""
    others = [s.other for s in logits.steps]
    masks = {other for other in others if other is not None}
    if not masks:
        return "softmax" if others else "zero"
    if logits.zeroed:
        return "zero"
    after = others.index(next(o for o in others if o is not None))
    if masks == {-math.inf}:
        return "nan"
    if len(masks) > 1 or None in others[after:]:
        return None  # a bias that is added to masked logits
    return "mean"


def _unbroadcast(item: Labelled) -> Labelled:
    """A mask without the axes that it is constant along."""
    seen = view(item.value)
    if not seen.whole:
        return item
    labels: list[str | None] = [None] * seen.base.type.rank
    for letter, axis in zip(item.labels, seen.axes, strict=True):
        if axis is not None and seen.base.type.shape[axis] != 1:
            labels[axis] = letter
    return Labelled(seen.base, tuple(labels))


def _four(b: Builder, item: Labelled, r: Roles, sizes: dict[str, DimLike]) -> Value:
    """A mask as (batch, heads, query, key), or with fewer leading axes."""
    groups = [r.batch, r.heads + r.group, r.query, r.key]
    if item.labels == (r.query, r.key):
        return item.value
    flat = arranged(b, item, "".join(groups))
    shape = list(flat.type.shape)
    at = 0
    for group in groups:
        places = range(at, at + len(group))
        if len(group) > 1 and any(a in item.letters for a in group):
            for i in places:
                shape[i] = sizes["".join(groups)[i]]
        at += len(group)
    flat = b.expand(flat, tuple(shape))
    wide, at = [], 0
    for group in groups:
        wide.append(product(shape[at : at + len(group)]))
        at += len(group)
    return b.resize(flat, tuple(wide))


def _causal(item: Labelled, r: Roles, sizes: dict[str, DimLike]) -> bool:
    """Whether a mask is ``query position >= key position`` from zero."""
    if not r.query or not {r.query, r.key} <= item.letters:
        return False
    if sizes[r.query] != sizes[r.key]:
        return False
    node = item.value.producer
    if node is None:
        return False
    if node.op == "tril":
        # a lower triangle of a mask that is true everywhere
        rows = item.labels.index(r.query) < item.labels.index(r.key)
        return rows and node.attrs["k"] == 0 and constant(node.inputs[0]) is True
    if node.op not in ("greater_equal", "less_equal"):
        return False
    first, second = node.inputs if node.op == "greater_equal" else node.inputs[::-1]
    return _counts(first, r.query, item) and _counts(second, r.key, item)


def _counts(line: Any, letter: str, item: Labelled) -> bool:
    """Whether `line` is 0, 1, 2, ... along the axis with that letter, constant along others."""
    if not isinstance(line, Value):
        return False
    seen = view(line)
    made = made_by(seen.base, "arange")
    missing = item.value.type.rank - line.type.rank
    if made is None or (made.attrs["start"], made.attrs["step"]) != (0, 1):
        return False
    place = item.labels.index(letter) - missing
    return all((axis == 0) == (i == place) for i, axis in enumerate(seen.axes))


def blind_queries(b: Builder, node: Node) -> Value | None:
    """where(any(mask, keys), attention, 0): zeros for queries that see nothing.

    They are what attention by a bool mask gives, and what made the mask numbers goes.
    """
    seen, result, other = node.inputs
    inner = made_by(result, "attention")
    if inner is None or number(other) != 0 or not isinstance(seen, Value):
        return None
    mask = _bool_mask(inner.inputs[3])
    if mask is None or not _sees(seen, mask, inner.attrs["layout"]):
        return None
    attrs = {**inner.attrs, "empty": "zero"}
    return b.attention(*inner.inputs[:3], mask, **attrs)


def _bool_mask(mask: Any) -> Value | None:
    """The bool mask that an attention's mask is, or that it is the numbers of."""
    numbers = made_by(mask, "where")
    if numbers is not None:
        mask, zero, never = numbers.inputs
        low = number(never)
        if number(zero) != 0 or low is None or low > NEVER:
            return None
    return mask if isinstance(mask, Value) and mask.type.dtype == "bool" else None


def _sees(seen: Value, mask: Value, layout: str) -> bool:
    """Whether `seen` tells of each query, in the axes of that layout, if it sees a key."""
    shown = view(seen)
    axes = (*(None,) * (4 - seen.type.rank), *shown.axes)
    if layout == "bshd":
        axes = (axes[0], axes[2], axes[1], axes[3])
    rank = mask.type.rank
    if rank > 4 or any(a is not None for a in axes[: 4 - rank]):
        return False
    found = reduced(View(shown.base, axes[4 - rank :]), mask, "any")
    if found is None or rank - 1 not in found[1]:
        return False
    return all(mask.type.shape[a] == 1 for a in found[1] if a != rank - 1)


RULES: dict[str, list[Rule]] = {
    "matmul": [attention],
    "einsum": [attention],
    "where": [blind_queries],
}
