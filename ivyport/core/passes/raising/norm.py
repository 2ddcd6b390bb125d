"""Normalisations, from the arithmetic that haiku, linen and nnx write out.

All are ``(x - mean) * rsqrt(var + eps) [* scale] [+ bias]`` in some association; which one it is
depends on the axes that the statistics are taken over, and on the tensors that scale and shift.
"""

from __future__ import annotations

import dataclasses

from ivyport.core.build import Builder
from ivyport.core.ir import Node, Value
from ivyport.core.passes.match import (
    View,
    alike,
    decimal,
    factors,
    floating,
    made_by,
    number,
    pairs,
    reduced,
    split,
    squared,
    view,
    without,
)
from ivyport.core.passes.regroup import groups as axis_groups
from ivyport.core.passes.rewrite import Rule

NORMS = ("layer_norm", "rms_norm", "group_norm", "batch_norm")


@dataclasses.dataclass(frozen=True)
class Inverse:
    """``1 / sqrt(spread + eps)`` as a factor: the tensor `spread`, seen from the factor."""

    factor: Value
    spread: View
    eps: float


def inverse_root(factor: Value) -> Inverse | None:
    """Match rsqrt(v + eps), 1 / sqrt(v + eps), (v + eps) ** -0.5."""
    seen = view(factor)
    root = made_by(seen.base, "rsqrt", "pow", "reciprocal", "divide")
    if root is None:
        return None
    inner: View | None
    if root.op == "pow":
        if number(root.inputs[1]) != -0.5:
            return None
        inner = seen.then(root.inputs[0])
    elif root.op == "rsqrt":
        inner = seen.then(root.inputs[0])
    else:
        if root.op == "divide" and number(root.inputs[0]) != 1:
            return None
        inner = seen.then(root.inputs[-1])
        power = made_by(inner.base, "sqrt") if inner is not None else None
        if power is None or inner is None:
            return None
        inner = inner.then(power.inputs[0])
    return _shifted(factor, inner)


def _shifted(factor: Value, inner: View | None) -> Inverse | None:
    parts = split(made_by(inner.base, "add")) if inner is not None else None
    if parts is None or inner is None:
        return None
    spread = inner.then(parts[0])
    return None if spread is None else Inverse(factor, spread, decimal(parts[1]))


def divided(node: Node) -> tuple[Value, Inverse] | None:
    """x / sqrt(v + eps)."""
    x, root = node.inputs
    if node.op != "divide" or not isinstance(x, Value) or not isinstance(root, Value):
        return None
    seen = view(root)
    power = made_by(seen.base, "sqrt")
    found = _shifted(root, seen.then(power.inputs[0])) if power is not None else None
    return None if found is None else (x, found)


def normalised(node: Node) -> list[tuple[Inverse, list[object]]]:
    """Ways to read a product as an inverse root and other factors."""
    if node.op == "divide":
        ratio = divided(node)
        return [] if ratio is None else [(ratio[1], [ratio[0]])]
    return [
        (found, [f for f in parts if f is not factor])
        for parts in (list(node.inputs), factors(node.output))
        for factor in parts
        if isinstance(factor, Value) and (found := inverse_root(factor)) is not None
    ]


# ---- layer and RMS norm


def layer_norm(b: Builder, node: Node) -> Value | None:
    """(x - mean) * rsqrt(var + eps), and other factors, over trailing axes."""
    if not floating(node.output):
        return None
    for inverse, rest in normalised(node):
        for centred in rest:
            found = _centred(centred, inverse)
            if found is None or made_by(inverse.spread.base, "var") is None:
                continue
            x, axes = found
            if axes == tuple(range(x.type.rank - len(axes), x.type.rank)):
                made = b.layer_norm(
                    x, None, None, axis=_from_end(axes, x), eps=inverse.eps
                )
            elif axes == _all_but_channels(x, axes):
                made = _instance_or_batch(b, x, axes, inverse.eps)
            else:
                continue
            others = [f for f in rest if f is not centred]
            return times(b, made, others, node)
    return None


def _centred(value: object, inverse: Inverse) -> tuple[Value, tuple[int, ...]] | None:
    """x of ``x - mean(x)``, whose variance is the one in `inverse`; and the axes."""
    node = made_by(value, "subtract")
    if node is None:
        return None
    x, middle = node.inputs
    if not isinstance(x, Value) or not isinstance(middle, Value):
        return None
    found = reduced(view(middle), x, "mean")
    spread = reduced(inverse.spread, x, "var")
    if found is None or spread is None or node.output.type != x.type:
        return None
    if found[1] != spread[1] or spread[0].attrs["correction"] != 0:
        return None
    return x, found[1]


def _from_end(axes: tuple[int, ...], x: Value) -> tuple[int, ...]:
    return tuple(a - x.type.rank for a in axes)


def times(b: Builder, made: Value, others: list[object], node: Node) -> Value | None:
    """The norm times the other factors; the first that is a scale becomes one."""
    result = made
    rest = list(others)
    for factor in others:
        scaled = _scaled(b, result.producer, factor)
        if scaled is not None:
            result, rest = scaled, [f for f in rest if f is not factor]
            break
    for factor in rest:
        result = b.multiply(result, factor)
    return result if result.type == node.output.type else None


def _scaled(b: Builder, norm: Node | None, factor: object) -> Value | None:
    """A norm without scale and bias, scaled by `factor`, if that has the axes of a scale."""
    if norm is None or norm.inputs[1] is not None or not isinstance(factor, Value):
        return None
    if norm.op != "rms_norm" and norm.inputs[2] is not None:
        return None
    weight = affine(b, norm, factor)
    if weight is None:
        return None
    x, _, *others = norm.inputs
    return b.node(norm.op, (x, weight, *others), norm.attrs).output


def affine(b: Builder, norm: Node, factor: Value) -> Value | None:
    """`factor` as the scale or bias of a norm: the tensor over its axes alone."""
    x = norm.inputs[0]
    assert isinstance(x, Value)
    seen = view(factor)
    rank = x.type.rank
    if norm.op in ("layer_norm", "rms_norm"):
        axes = tuple(sorted(a % rank for a in norm.attrs["axis"]))
    elif norm.op == "batch_norm":
        axes = (norm.attrs["axis"] % rank,)
    else:
        axes = (1,) if norm.attrs["layout"] == "channels_first" else (rank - 1,)
    return along(b, seen, x, axes)


def along(b: Builder, seen: View, x: Value, axes: tuple[int, ...]) -> Value | None:
    """The viewed tensor with just `axes` of x, if it has those and is constant along others."""
    missing = x.type.rank - len(seen.axes)
    if missing < 0 or not seen.whole:
        return None
    kept: list[int] = []
    for i in range(x.type.rank):
        axis = seen.axes[i - missing] if i >= missing else None
        size = x.type.shape[i]
        if axis is not None and seen.base.type.shape[axis] != 1:
            if i not in axes or seen.base.type.shape[axis] != size:
                return None
            kept.append(axis)
        elif i in axes and size != 1:
            return None
    if kept != sorted(kept):
        return None
    return b.resize(seen.base, tuple(x.type.shape[a] for a in axes))


def scale_norm(b: Builder, node: Node) -> Value | None:
    """A norm of the same module, times its scale."""
    for norm, factor in pairs(node):
        made = made_by(norm, *NORMS)
        if made is not None and made.scope == node.scope:
            found = _scaled(b, made, factor)
            if found is not None and found.type == node.output.type:
                return found
    return None


def shift_norm(b: Builder, node: Node) -> Value | None:
    """A norm of the same module, plus its bias."""
    for norm, term in pairs(node):
        made = made_by(norm, "layer_norm", "group_norm", "batch_norm")
        if made is None or made.scope != node.scope:
            continue
        if made.output.type != node.output.type:
            continue
        if number(term) == 0:
            return made.output  # a layer without offset adds zero
        if made.inputs[2] is not None or not isinstance(term, Value):
            continue
        bias = affine(b, made, term)
        if bias is not None:
            x, scale, _, *others = made.inputs
            return b.node(made.op, (x, scale, bias, *others), made.attrs).output
    return None


def rms_norm(b: Builder, node: Node) -> Value | None:
    """x * rsqrt(mean(x ** 2) + eps), and other factors, over trailing axes."""
    if not floating(node.output):
        return None
    for inverse, rest in normalised(node):
        power = made_by(inverse.spread.base, "mean")
        x = squared(power.inputs[0]) if power is not None else None
        if x is None or not isinstance(power, Node):
            continue
        whole = factors(node.output, stop=(x, inverse.factor))
        others = without(whole, x, inverse.factor) if node.op == "multiply" else []
        if others is None or (node.op == "divide" and not alike(rest[0], x)):
            continue
        found = reduced(inverse.spread, power.inputs[0], "mean")  # type: ignore[arg-type]  # powers here are of tensors
        if found is None:
            continue
        axes = found[1]
        if axes != tuple(range(x.type.rank - len(axes), x.type.rank)):
            continue
        made = b.rms_norm(x, None, axis=_from_end(axes, x), eps=inverse.eps)
        return times(b, made, others, node)
    return None


# ---- group norm


def _all_but_channels(x: Value, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """All axes but the channels, with or without the batch."""
    rank = x.type.rank
    for channels in (rank - 1, 1):
        for first in (0, 1):
            others = tuple(a for a in range(first, rank) if a != channels)
            if axes == others and others and (first == 0 or rank > 2):
                return others
    return None


def _instance_or_batch(
    b: Builder, x: Value, axes: tuple[int, ...], eps: float
) -> Value:
    """Statistics over space of each channel: groups of one; and over the batch too."""
    (channels,) = (a for a in range(1, x.type.rank) if a not in axes)
    if axes[0] == 0:
        return b.batch_norm(
            x, None, None, None, None, axis=channels, eps=eps, momentum=None,
            unbiased=False,
        )  # fmt: skip
    layout = "channels_first" if channels == 1 else "channels_last"
    groups = x.type.shape[channels]
    return b.group_norm(x, None, None, groups=groups, eps=eps, layout=layout)


def group_norm(b: Builder, node: Node) -> Value | None:
    """Groups split off by a reshape, normalised over all but batch and group, and merged."""
    x = _ungrouped(node)
    if x is None:
        return None
    grouped, normal = x
    made = made_by(grouped, "reshape")
    source = made.inputs[0] if made is not None else None
    if not isinstance(source, Value) or source.type != node.output.type:
        return None
    layout = _group_layout(source, grouped)
    if layout is None:
        return None
    axis = 1 if layout == "channels_first" else grouped.type.rank - 2
    axes, eps = normal
    if axes != tuple(a for a in range(1, grouped.type.rank) if a != axis):
        return None
    groups = grouped.type.shape[axis]
    return b.group_norm(source, None, None, groups=groups, eps=eps, layout=layout)


def _ungrouped(
    node: Node,
) -> tuple[Value, tuple[tuple[int, ...], float]] | None:
    """The grouped tensor that was normalised without scale: it, the axes and eps."""
    norm = made_by(node.inputs[0], "layer_norm")
    if norm is not None:
        x, scale, bias = norm.inputs
        if scale is not None or bias is not None or not isinstance(x, Value):
            return None
        axes = tuple(sorted(a % x.type.rank for a in norm.attrs["axis"]))
        return x, (axes, norm.attrs["eps"])
    product = made_by(node.inputs[0], "multiply", "divide")
    for inverse, rest in normalised(product) if product is not None else ():
        if len(rest) != 1 or not floating(node.output):
            continue
        found = _centred(rest[0], inverse)
        if found is not None:
            return found[0], (found[1], inverse.eps)
    return None


def _group_layout(x: Value, grouped: Value) -> str | None:
    """Which axis of x the reshape to `grouped` cuts into (groups, channels / groups)."""
    old, new = x.type.shape, grouped.type.shape
    if len(new) != len(old) + 1 or len(old) < 2:
        return None
    if new[:-2] == old[:-1] and axis_groups(old[-1:], new[-2:]) is not None:
        return "channels_last"
    if new[0] == old[0] and new[3:] == old[2:]:
        return "channels_first"
    return None


def group_norm_spread(b: Builder, node: Node) -> Value | None:
    """linen's group norm: statistics of the grouped tensor, repeated for each channel."""
    if not floating(node.output):
        return None
    for inverse, rest in normalised(node):
        spread = _repeated(inverse.spread)
        for centred in rest:
            made = made_by(centred, "subtract")
            if made is None or spread is None or not isinstance(made.inputs[0], Value):
                continue
            x, middle = made.inputs
            assert isinstance(x, Value)
            average = _repeated(view(middle)) if isinstance(middle, Value) else None
            if average is None or spread[1] != average[1]:
                continue
            found = _group_statistics(x, spread[0], average[0])
            if found is None or made.output.type != x.type:
                continue
            norm = b.group_norm(
                x, None, None, groups=found, eps=inverse.eps, layout="channels_last"
            )
            others = [f for f in rest if f is not centred]
            return times(b, norm, others, node)
    return None


def _repeated(seen: View) -> tuple[Value, int] | None:
    """(N, G) repeated for G groups of channels, seen from (N, ..., C): it, and C / G.

    The view is of (N, 1, .., C), a reshape of (N, G, C / G) that is constant along C / G.
    """
    channels = seen.base
    made = made_by(channels, "reshape")
    if made is None or channels.type.rank < 2 or not isinstance(made.inputs[0], Value):
        return None
    size, *space, _ = channels.type.shape
    first, *middle, last = seen.axes
    if last != channels.type.rank - 1 or any(d != 1 for d in space):
        return None
    if first != 0 and not (first is None and size == 1):
        return None
    if any(a is not None and channels.type.shape[a] != 1 for a in middle):
        return None
    wide = made.inputs[0]
    inner = view(wide)
    if wide.type.rank != 3 or inner.axes[2] is not None or not inner.whole:
        return None
    if wide.type.shape[0] != size:
        return None
    count = wide.type.shape[2]
    return (wide, count) if isinstance(count, int) else None


def _group_statistics(x: Value, spread: Value, average: Value) -> int | None:
    """The number of groups of x whose mean and variance these are, (N, G, repeated)."""
    found = []
    for value, op in ((spread, "var"), (average, "mean")):
        seen = view(value)
        made = made_by(seen.base, op)
        if made is None or not isinstance(made.inputs[0], Value):
            return None
        grouped = made.inputs[0]
        source = made_by(grouped, "reshape")
        if source is None or not alike(source.inputs[0], x):
            return None
        if op == "var" and made.attrs["correction"] != 0:
            return None
        rank = grouped.type.rank
        if _group_layout(x, grouped) != "channels_last" or rank < 3:
            return None
        axes = tuple(a for a in range(1, rank) if a != rank - 2)
        if tuple(sorted(a % rank for a in made.attrs["axis"] or range(rank))) != axes:
            return None
        place = rank - 2 if made.attrs["keepdims"] else 1
        shape = value.type.shape
        if seen.axes[:2] != (0, place) and not (
            shape[0] == 1 and seen.axes[1] == place
        ):
            return None
        found.append((grouped, grouped.type.shape[-2]))
    (one, groups), (other, _) = found
    same = one.type.shape == other.type.shape
    return groups if same and isinstance(groups, int) else None


RULES: dict[str, list[Rule]] = {
    "multiply": [layer_norm, rms_norm, group_norm_spread, scale_norm],
    "divide": [layer_norm, rms_norm, group_norm_spread],
    "add": [shift_norm],
    "reshape": [group_norm],
}
