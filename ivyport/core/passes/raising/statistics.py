"""The running statistics of batch norms: who updates them, and who only reads them.

In a train-mode graph `Graph.updates` holds the new running averages; where they are exactly what
a `batch_norm` node's training rule computes, the node takes them over and the updates go. In
an eval-mode graph a batch norm is arithmetic with buffers; which buffers move, and with what
momentum, the train-mode graph tells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Set
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.dims import Dim, product
from ivyport.core.ir import Graph, Node, Param, Value
from ivyport.core.passes.dce import eliminate
from ivyport.core.passes.match import (
    STOPS,
    alike,
    axes_of,
    constant_or_cast_size,
    decimal,
    extent,
    floating,
    made_by,
    number,
    pairs,
    same32,
    split,
    view,
)
from ivyport.core.passes.raising.norm import (
    Inverse,
    along,
    normalised,
    scale_norm,
    shift_norm,
    times,
)
from ivyport.core.passes.rewrite import Rule, apply_rules


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A running average that an update computes: of what, kept how.

    `param` holds the average that eval mode reads; `others` are the updates that serve it alone.
    `unbiased` is a variance with Bessel's correction.
    """

    param: Param
    op: str  # mean or var
    source: Value
    axes: tuple[int, ...]
    momentum: float
    unbiased: bool = False
    debias: bool = False
    others: tuple[str, ...] = ()


def attach_statistics(graph: Graph, read: Set[str] | None = None) -> None:
    """Give batch norms in train mode their running statistics; their updates go.

    Statistics that eval mode does not read stay updates: `read` names those that it does, None
    all. A norm by the batch in both modes (haiku's `test_local_stats`) is none with averages.
    """
    found = [s for s in _statistics(graph) if read is None or s.param.path in read]
    builder = Builder()
    for node in graph.nodes:
        builder.scope, builder.src = node.scope, node.src
        if node.op == "batch_norm" and node.inputs[3] is None:
            _attach(builder, graph, node, found)
        builder.nodes.append(node)
    graph.nodes = builder.nodes


def _attach(b: Builder, graph: Graph, node: Node, found: list[Statistic]) -> None:
    x, scale, bias, *_ = node.inputs
    assert isinstance(x, Value)
    channels = node.attrs["axis"] % x.type.rank
    axes = tuple(a for a in range(x.type.rank) if a != channels)
    mine = {s.op: s for s in found if s.axes == axes and alike(s.source, x)}
    if set(mine) != {"mean", "var"}:
        return
    mean, var = mine["mean"], mine["var"]
    if (mean.momentum, mean.debias) != (var.momentum, var.debias):
        return
    if var.debias and var.unbiased:
        return  # no library has such a layer
    size = x.type.shape[channels]
    if any(product(s.param.type.shape) != size for s in (mean, var)):
        return
    statistics = [b.resize(s.param.value, (size,)) for s in (mean, var)]
    node.inputs = (x, scale, bias, *statistics)
    node.attrs.update(momentum=mean.momentum, unbiased=var.unbiased, debias=mean.debias)
    for s in (mean, var):
        for path in (s.param.path, *s.others):
            graph.updates.pop(path, None)


def _statistics(graph: Graph) -> Iterator[Statistic]:
    plain = {
        path: found
        for path, value in graph.updates.items()
        if (found := _average(graph.params.get(path), value)) is not None
    }
    debiased = [
        found
        for path, value in graph.updates.items()
        if path not in plain
        and (param := graph.params.get(path)) is not None
        and (found := _debiased(graph, param, value, plain)) is not None
    ]
    served = {path for s in debiased for path in s.others}
    yield from debiased
    yield from (s for path, s in plain.items() if path not in served)


def _average(param: Param | None, value: Value) -> Statistic | None:
    """keep * old + (1 - keep) * statistic."""
    if param is None or param.kind != "buffer":
        return None
    total = made_by(view(value, through=STOPS).base, "add")
    for old, new in pairs(total):
        kept, taken = split(made_by(old, "multiply")), _weighted(new)
        if kept is None or taken is None or view(kept[0]).base is not param.value:
            continue
        node, weight, unbiased = taken
        keep = decimal(kept[1])
        # 1 - keep was rounded to float32 by the source, or computed in float32.
        if not same32(weight, 1 - keep) and abs(weight - (1 - keep)) >= 1e-7:
            continue
        source = node.inputs[0]
        assert isinstance(source, Value)
        momentum = round(1 - keep, 7)
        return Statistic(param, node.op, source, axes_of(node), momentum, unbiased)
    return None


def _weighted(value: Any) -> tuple[Node, float, bool] | None:
    """The mean or variance in ``weight * statistic``, the weight, and whether it is unbiased.

    Unbiased is ``var(correction=1)`` or ``var * n / (n - 1)``, n being the number of elements.
    """
    above: list[bool | int | float | Dim] = []
    below: list[bool | int | float | Dim] = []
    while (node := made_by(value, "multiply", "divide")) is not None:
        x, y = node.inputs
        if node.op == "multiply" and constant_or_cast_size(x) is not None:
            x, y = y, x
        factor = constant_or_cast_size(y)
        if factor is None:
            return None
        (above if node.op == "multiply" else below).append(factor)
        value = x
    if not isinstance(value, Value):
        return None
    found = made_by(view(value, through=STOPS).base, "mean", "var")
    if found is None or not isinstance(found.inputs[0], Value):
        return None
    count = extent(found.inputs[0], axes_of(found))
    corrected = found.op == "var" and found.attrs["correction"] == 1
    if found.op == "var" and count in above and count - 1 in below and not corrected:
        above.remove(count)
        below.remove(count - 1)
        corrected = True
    elif found.op == "var" and found.attrs["correction"] not in (0, 1):
        return None
    if below or len(above) != 1 or isinstance(above[0], bool | Dim):
        return None
    return found, float(above[0]), corrected


def _debiased(
    graph: Graph, param: Param, value: Value, plain: Mapping[str, Statistic]
) -> Statistic | None:
    """hidden / (1 - keep ** count), with the hidden average and the count updated beside it."""
    ratio = made_by(view(value, through=STOPS).base, "divide")
    if ratio is None or param.kind != "buffer":
        return None
    hidden, below = ratio.inputs
    path = next((p for p in plain if _is_update(graph, p, hidden)), None)
    left = made_by(view(below).base, "subtract") if isinstance(below, Value) else None
    if path is None or left is None or number(left.inputs[0]) != 1:
        return None
    power = made_by(left.inputs[1], "pow")
    keep = number(power.inputs[0]) if power is not None else None
    if power is None or keep is None:
        return None
    cast = made_by(power.inputs[1], "astype")
    count = cast.inputs[0] if cast is not None else power.inputs[1]
    counter = next((p for p in graph.updates if _is_update(graph, p, count)), None)
    if counter is None or not _counts_up(graph.params.get(counter), count):
        return None
    average = plain[path]
    if not same32(keep, 1 - average.momentum):
        return None
    return dataclasses.replace(
        average, param=param, debias=True, others=(path, counter)
    )


def _is_update(graph: Graph, path: str, value: Any) -> bool:
    return isinstance(value, Value) and alike(graph.updates[path], value)


def _counts_up(param: Param | None, value: Any) -> bool:
    found = split(made_by(value, "add"))
    return (
        param is not None
        and found is not None
        and (found[0] is param.value and found[1] == 1)
    )


# ---- eval mode


def raise_running(graph: Graph, train: Graph | None = None) -> None:
    """Raise batch norms that normalise by buffers, in an eval-mode graph.

    With the raised `train` graph, only those that train mode normalises by the batch: a norm that
    reads its buffers in train mode too is not a batch norm. Momentum and bias rules come from
    there; without it momentum is None.
    """
    known: dict[str, dict[str, Any]] = {}
    if train is not None:
        owners = {p.value: path for path, p in train.params.items()}
        for node in train.nodes:
            mean = node.inputs[3] if node.op == "batch_norm" else None
            if isinstance(mean, Value) and (path := owners.get(view(mean).base)):
                known[path] = node.attrs
    buffers = {p.value: p for p in graph.params.values() if p.kind == "buffer"}

    def rule(b: Builder, node: Node) -> Value | None:
        return _running(b, node, buffers, None if train is None else known)

    table: dict[str, list[Rule]] = {
        "multiply": [rule, scale_norm],
        "divide": [rule],
        "add": [shift_norm],
    }
    while apply_rules(graph, table):
        eliminate(graph)


def _running(
    b: Builder,
    node: Node,
    buffers: Mapping[Value, Param],
    known: Mapping[str, Mapping[str, Any]] | None,
) -> Value | None:
    """(x - mean) * rsqrt(var + eps) with buffers, and other factors."""
    if not floating(node.output):
        return None
    for inverse, rest in normalised(node):
        for centred in rest:
            made = made_by(centred, "subtract")
            if made is None or inverse.spread.base not in buffers:
                continue
            x, middle = made.inputs
            if not isinstance(x, Value) or not isinstance(middle, Value):
                continue
            seen = view(middle)
            param = buffers.get(seen.base)
            if param is None or made.output.type != x.type:
                continue
            if known is not None and param.path not in known:
                continue
            attrs = dict(known[param.path]) if known is not None else {}
            found = _norm(b, x, seen.base, middle, inverse, attrs)
            if found is not None:
                others = [f for f in rest if f is not centred]
                return times(b, found, others, node)
    return None


def _norm(
    b: Builder,
    x: Value,
    mean: Value,
    middle: Value,
    inverse: Inverse,
    attrs: dict[str, Any],
) -> Value | None:
    for axis in range(1, x.type.rank):
        statistics = [
            along(b, seen, x, (axis,)) for seen in (view(middle), inverse.spread)
        ]
        if None in statistics:
            continue
        settings = {"momentum": None, "unbiased": False, **attrs}
        settings |= {"axis": axis, "eps": inverse.eps}
        return b.node("batch_norm", (x, None, None, *statistics), settings).output
    return None
