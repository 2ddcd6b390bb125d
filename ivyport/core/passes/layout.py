"""Move transposes to where they cancel, and give operations the layout that the target wants.

Each value is held as ``permute_dims(base, perm)`` with the permutation kept in mind instead of in
the graph. Operations that do not care about the order of axes work on the base; convolutions and
attention ask for the target's layout; what cares about the order gets the permutation after all.
A permutation that is undone later thus never appears.
"""

from __future__ import annotations

import collections
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.control import within
from ivyport.core.dims import DimLike
from ivyport.core.ir import Call, Graph, NewAxis, Node, Operand, Scope, Slice, Value
from ivyport.core.ir import map_structure as map_values
from ivyport.core.opdef import get
from ivyport.core.passes.regroup import regroup

Perm = tuple[int, ...]
HEADS = (0, 2, 1, 3)
LAYOUT_OPS = {
    "conv",
    "conv_transpose",
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "interpolate",
    "group_norm",
}
REDUCTIONS = {
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "any",
    "all",
    "var",
    "std",
    "vector_norm",
}


def compose(first: Perm, then: Perm) -> Perm:
    """The permutation ``permute_dims(permute_dims(x, first), then)``."""
    return tuple(first[a] for a in then)


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes `perm`."""
    return tuple(perm.index(i) for i in range(len(perm)))


def channels_last(rank: int) -> Perm:
    """How (N, C, *spatial) is read from (N, *spatial, C)."""
    return (0, rank - 1, *range(1, rank - 1))


def channels_first(rank: int) -> Perm:
    """How (N, *spatial, C) is read from (N, C, *spatial)."""
    return (0, *range(2, rank), 1)


def assign_layouts(graph: Graph, *, images: str, attention: str) -> None:
    """Rewrite `graph` for a target.

    Args:
        images: ``channels_last`` or ``channels_first``.
        attention: ``bshd`` or ``bhsd``.
    """
    within(graph, lambda g: assign_layouts(g, images=images, attention=attention))
    _Motion(graph, images, attention).run()


class _Motion:
    def __init__(self, graph: Graph, images: str, attention: str) -> None:
        self.graph = graph
        self.images = images
        self.attention = attention
        self.builder = Builder()
        self.held: dict[Value, tuple[Value, Perm]] = {}
        self.made: dict[tuple[Value, Perm], Value] = {}
        # How many operations each call makes, inner calls included.
        self.population = collections.Counter(
            n.scope[:depth] for n in graph.nodes for depth in range(1, len(n.scope) + 1)
        )

    def run(self) -> None:
        for node in self.graph.nodes:
            self.builder.scope, self.builder.src = node.scope, node.src
            if not self._move(node):
                self._keep(node)
        root = next((n.scope[:1] for n in self.graph.nodes if n.scope), ())
        self.builder.scope = root
        self.graph.outputs = map_values(self._value, self.graph.outputs)
        self.graph.updates = {
            path: self._value(value) for path, value in self.graph.updates.items()
        }
        self.graph.calls = [
            Call(c.stack, self._arguments(c.args), c.alias) for c in self.graph.calls
        ]
        self.graph.nodes = self.builder.nodes

    def _arguments(self, args: list[tuple[str, Value]]) -> list[tuple[str, Value]]:
        found = []
        for name, value in args:
            base, perm = self._hold(value)
            found.append((name, base))
            if (base, perm) in self.made:
                found.append((name, self.made[base, perm]))
        return found

    # ---- values

    def _hold(self, value: Value) -> tuple[Value, Perm]:
        return self.held.get(value, (value, tuple(range(value.type.rank))))

    def _value(self, value: Value) -> Value:
        """The value itself, permuted if it must be."""
        base, perm = self._hold(value)
        return self._permuted(base, perm)

    def _permuted(self, base: Value, perm: Perm) -> Value:
        if perm == tuple(range(len(perm))):
            return base
        if (base, perm) not in self.made:
            scope = self.builder.scope
            # The model itself turns its inputs, so that its modules all see one layout.
            own_input = base in self.graph.inputs
            self.builder.scope = scope[:1] if own_input else self._outside(scope)
            made = self.builder.permute_dims(base, axes=perm)
            made.names = dict(base.names)
            self.builder.scope = scope
            self.made[base, perm] = made
        return self.made[base, perm]

    def _outside(self, scope: tuple[Scope, ...]) -> tuple[Scope, ...]:
        """A transpose before a layer that is one operation belongs to the layer's caller."""
        alone = self.population[scope] == 1 and len(scope) > 1
        return scope[:-1] if alone else scope

    def _as(self, value: Value, perm: Perm) -> Value:
        """The base of which `value` is the permutation `perm`."""
        base, held = self._hold(value)
        return self._permuted(base, compose(held, inverse(perm)))

    def _perm(self, x: Operand) -> Perm | None:
        if not isinstance(x, Value):
            return None
        perm = self._hold(x)[1]
        return None if perm == tuple(range(len(perm))) else perm

    # ---- nodes

    def _keep(self, node: Node) -> None:
        node.inputs = tuple(
            self._value(x) if isinstance(x, Value) else x for x in node.inputs
        )
        self.builder.nodes.append(node)

    def _result(self, node: Node, made: Value, perm: Perm) -> bool:
        made.names = dict(node.output.names)
        self.held[node.output] = (made, perm)
        return True

    def _add(self, node: Node, operands: tuple[Operand, ...], **attrs: Any) -> Value:
        return self.builder.node(node.op, operands, {**node.attrs, **attrs}).output

    def _move(self, node: Node) -> bool:
        """Emit `node` on bases if that is possible; False to keep it as it is."""
        x = node.inputs[0] if node.inputs else None
        if node.op == "permute_dims":
            assert isinstance(x, Value)
            base, perm = self._hold(x)
            self.held[node.output] = (base, compose(perm, node.attrs["axes"]))
            if base.producer is not None:
                for depth, name in node.output.names.items():
                    base.names.setdefault(depth, name)
            return True
        if node.op in LAYOUT_OPS or node.op == "batch_norm":
            return self._image(node)
        if node.op == "attention":
            return self._attention(node)
        if get(node.op).elementwise or node.op == "dropout":
            return self._elementwise(node)
        turned = self._perm(x)
        if turned is None or not isinstance(x, Value):
            return False
        method = {
            "softmax": self._along_axis,
            "log_softmax": self._along_axis,
            "concat": self._concat,
            "getitem": self._getitem,
            "reshape": self._reshape,
            "broadcast_to": self._broadcast,
            "pad": self._pad,
            "layer_norm": self._trailing,
            "rms_norm": self._trailing,
        }.get(node.op)
        if node.op in REDUCTIONS:
            method = self._reduce
        return method(node, x, turned) if method else False

    def _image(self, node: Node) -> bool:
        x = node.inputs[0]
        assert isinstance(x, Value)
        rank = x.type.rank
        if rank < 3:
            return False
        last = self.images == "channels_last"
        if node.op == "batch_norm":
            here, there = (1, rank - 1) if last else (rank - 1, 1)
            if node.attrs["axis"] % rank != here or here == there:
                return False
            attrs: dict[str, Any] = {"axis": there}
        elif node.attrs["layout"] == self.images:
            return False
        else:
            attrs = {"layout": self.images}
        perm = channels_last(rank) if last else channels_first(rank)
        base = self._as(x, perm)
        rest = tuple(
            self._value(y) if isinstance(y, Value) else y for y in node.inputs[1:]
        )
        return self._result(node, self._add(node, (base, *rest), **attrs), perm)

    def _attention(self, node: Node) -> bool:
        query = node.inputs[0]
        assert isinstance(query, Value)
        if self.attention == node.attrs["layout"] or query.type.rank != 4:
            return False
        tensors = [x for x in node.inputs[:3] if isinstance(x, Value)]
        bases = tuple(self._as(x, HEADS) for x in tensors)
        mask = node.inputs[3]
        mask = self._value(mask) if isinstance(mask, Value) else mask
        made = self._add(node, (*bases, mask), layout=self.attention)
        return self._result(node, made, HEADS)

    def _elementwise(self, node: Node) -> bool:
        rank = node.output.type.rank
        perms = [p for x in node.inputs if (p := self._perm(x)) and len(p) == rank]
        if not perms:
            return False
        identity: Perm = tuple(range(rank))
        costs = {p: self._cost(node, p) for p in (identity, *perms)}
        best = min(costs, key=lambda p: (costs[p], p != identity))
        if best == identity:
            return False
        operands = tuple(
            self._aligned(x, best) if isinstance(x, Value) else x for x in node.inputs
        )
        moved: dict[str, Any] = {}
        if node.op == "dropout":
            moved["broadcast"] = tuple(sorted(best[a] for a in node.attrs["broadcast"]))
        return self._result(node, self._add(node, operands, **moved), best)

    def _cost(self, node: Node, perm: Perm) -> int:
        """How many real transposes it takes to have every operand as a permutation `perm`."""
        total = 0
        for x in node.inputs:
            if isinstance(x, Value):
                base, held = self._hold(x)
                offset = len(perm) - len(held)
                full = (*range(offset), *(a + offset for a in held))
                moves = compose(full, inverse(perm))
                sizes = (*[1] * offset, *base.type.shape)
                kept = [a for a in moves if sizes[a] != 1]
                total += kept != sorted(kept)
        return total

    def _aligned(self, x: Value, perm: Perm) -> Value:
        """`x` with new leading axes if it lacks some, as a permutation `perm` of the result."""
        missing = len(perm) - x.type.rank
        if missing == 0:
            return self._as(x, perm)
        if all(d == 1 for d in x.type.shape):
            return self._value(x)
        index = (*[NewAxis()] * missing, *[Slice()] * x.type.rank)
        wide = self.builder.getitem(self._value(x), index=index)
        return self._permuted(wide, inverse(perm))

    def _along_axis(self, node: Node, x: Value, perm: Perm) -> bool:
        axis = perm[node.attrs["axis"] % len(perm)]
        made = self._add(node, (self._hold(x)[0],), axis=axis)
        return self._result(node, made, perm)

    def _trailing(self, node: Node, x: Value, perm: Perm) -> bool:
        """Norms over trailing axes, if these stay where they are."""
        count = len(node.attrs["axis"])
        if perm[-count:] != tuple(range(len(perm) - count, len(perm))):
            return False
        rest = tuple(
            self._value(y) if isinstance(y, Value) else y for y in node.inputs[1:]
        )
        return self._result(node, self._add(node, (self._hold(x)[0], *rest)), perm)

    def _concat(self, node: Node, x: Value, perm: Perm) -> bool:
        if any(self._perm(y) != perm for y in node.inputs):
            return False
        bases = tuple(self._hold(y)[0] for y in node.values())
        axis = perm[node.attrs["axis"] % len(perm)]
        return self._result(node, self._add(node, bases, axis=axis), perm)

    def _getitem(self, node: Node, x: Value, perm: Perm) -> bool:
        index = node.attrs["index"]
        if any(isinstance(i, NewAxis) for i in index):
            return False
        items = [*index, *[Slice()] * (len(perm) - len(index))]
        placed: list[Any] = [Slice()] * len(perm)
        for axis, item in enumerate(items):
            placed[perm[axis]] = item
        made = self._add(node, (self._hold(x)[0],), index=tuple(placed))
        kept = [perm[a] for a, item in enumerate(items) if isinstance(item, Slice)]
        return self._result(node, made, _ranks(kept))

    def _reshape(self, node: Node, x: Value, perm: Perm) -> bool:
        base = self._hold(x)[0]
        plan = regroup(x.type.shape, node.output.type.shape, perm)
        if plan is None:
            return False
        shape, result = plan
        return self._result(node, self.builder.resize(base, shape), result)

    def _broadcast(self, node: Node, x: Value, perm: Perm) -> bool:
        shape: tuple[DimLike, ...] = node.attrs["shape"]
        if len(shape) != len(perm):
            return False
        placed = tuple(shape[i] for i in inverse(perm))
        made = self._add(node, (self._hold(x)[0],), shape=placed)
        return self._result(node, made, perm)

    def _pad(self, node: Node, x: Value, perm: Perm) -> bool:
        padding = node.attrs["padding"]
        placed = tuple(padding[i] for i in inverse(perm))
        made = self._add(node, (self._hold(x)[0],), padding=placed)
        return self._result(node, made, perm)

    def _reduce(self, node: Node, x: Value, perm: Perm) -> bool:
        axis = node.attrs["axis"]
        if axis is None:
            return False
        old = [a % len(perm) for a in axis]
        axes = tuple(sorted(perm[a] for a in old))
        made = self._add(node, (self._hold(x)[0],), axis=axes)
        if node.attrs["keepdims"]:
            return self._result(node, made, perm)
        kept = [perm[a] for a in range(len(perm)) if a not in old]
        return self._result(node, made, _ranks(kept))


def _ranks(axes: list[int]) -> Perm:
    """Axes numbered anew after others are gone.

    >>> _ranks([0, 3, 1])
    (0, 2, 1)
    """
    order = sorted(axes)
    return tuple(order.index(a) for a in axes)
