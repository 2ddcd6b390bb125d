"""One graph for eval and train mode, whatever the two do.

Both graphs are of one source. Their nodes are laid side by side, by operation, module call and
type; what stands in both is one node of the merged graph, and what stands in one of them becomes
the branch of a ``mode`` operation, as soon as a common node reads what it makes. Dropout that only
train mode has needs no branch: it is off in eval mode by itself.

A value of the merged graph stands for a pair of values, one a mode. That is all that is relied on,
so that a clumsy alignment gives clumsy code and never another number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ivyport.core.alignment import aligned, alike, same
from ivyport.core.build import Builder
from ivyport.core.control import SHAPE_OPS, close
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.ir import (
    ByMode,
    Call,
    Graph,
    Node,
    Operand,
    Scalar,
    Scope,
    Value,
    map_leaves,
    map_structure,
    walk,
)

Stack = tuple[Scope, ...]
Pair = tuple[Value | None, Value | None]
# What a call of a module gives: pairs of values, eval and train, by the stack of the call.
Exits = Mapping[Stack, Sequence[tuple[Value, Value]]]
# Attributes in which the modes may differ, without being another operation.
HIDDEN = {
    "attention": ("dropout",),
    "dropout": ("always",),
    "batch_norm": ("momentum",),
}


def merge(graph: Graph, train: Graph, exits: Exits | None = None) -> None:
    """Make `graph` (eval) the graph of both modes, in place; `train` is used up.

    Inputs of the two have the same names and types, parameters the same paths. `exits` are what
    calls that both modes make return: there the modes come together.
    """
    _Merge(graph, train, exits or {}).run()


def refuse_drawing(graph: Graph) -> None:
    """Refuse attention whose dropout is on in eval mode, which no layer of a target has.

    Raises:
        UnsupportedOpsError: naming the line.
    """
    for node in graph.nodes:
        if node.op == "attention" and node.attrs["dropout"]:
            where = (node.scope[-1].path if node.scope else "") or "the model"
            raise UnsupportedOpsError(
                f"attention in {where} ({node.src}) drops out {node.attrs['dropout']:g} of its "
                "weights in eval mode too: make its dropout depend on the mode (torch: "
                "dropout_p=rate if self.training else 0.0)"
            )


@dataclasses.dataclass(eq=False)
class _Stretch:
    """Where the modes differ: nodes of each, and what later nodes read of it."""

    limit: Stack
    evaluated: list[Node] = dataclasses.field(default_factory=list)
    trained: list[Node] = dataclasses.field(default_factory=list)
    results: list[tuple[Operand, Operand, Value]] = dataclasses.field(
        default_factory=list
    )
    scope: Stack = ()

    def nodes(self) -> list[Node]:
        return [*self.evaluated, *self.trained]


class _Side:
    """One of the two graphs: what of it has a place in the merged one.

    `known` gives the merged value that is this one in this mode; `place` the stretch that holds
    a node.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[Value, Value] = {}
        self.place: dict[Node, _Stretch] = {}
        self.order = {node: i for i, node in enumerate(graph.nodes)}

    def cone(self, value: Value | None) -> list[Node]:
        """Nodes without a place that a value needs, in order."""
        found: set[Node] = set()
        waiting = [value] if value is not None else []
        while waiting:
            item = waiting.pop()
            node = item.producer
            if item in self.known or node is None or node in found:
                continue
            if node not in self.place:
                found.add(node)
                waiting += node.values()
        return sorted(found, key=self.order.__getitem__)


class _Merge:
    def __init__(self, graph: Graph, train: Graph, exits: Exits) -> None:
        self.graph, self.train = graph, train
        self.exits = exits
        self.sides = (_Side(graph), _Side(train))
        self.pairs: dict[Pair, Value] = {}
        self.items: list[Node | _Stretch] = []
        self.seen: set[Node] = set()
        self.shared = _stacks(graph) & _stacks(train)

    def run(self) -> None:
        self._begin()
        mine, theirs = self.graph.nodes, self.train.nodes
        last = {stack: node for node in theirs for stack in _prefixes(node.scope)}
        last |= {stack: node for node in mine for stack in _prefixes(node.scope)}
        for one, other in aligned(mine, theirs, HIDDEN):
            self._step(one, other)
            self.seen.update(n for n in (one, other) if n is not None)
            for node in (one, other):
                for stack in _prefixes(node.scope)[:0:-1] if node else ():
                    if last[stack] is node:
                        self._leave(stack)
        self._outputs()
        self._updates()
        self._finish()

    def _begin(self) -> None:
        evaluated, trained = self.sides
        inputs = {v.name: v for v in self.graph.inputs}
        for value in self.train.inputs:
            self._pair(inputs[value.name], value, inputs[value.name])
        for path, param in self.train.params.items():
            held = self.graph.params.get(path)
            if held is None:
                self.graph.params[path] = param
                trained.known[param.value] = param.value
            else:
                self._pair(held.value, param.value, held.value)
        for param in self.graph.params.values():
            evaluated.known.setdefault(param.value, param.value)
        for name, bounds in self.train.dims.items():
            self.graph.dims.setdefault(name, bounds)

    # ---- nodes

    def _pair(self, one: Value, other: Value, merged: Value) -> None:
        self.pairs[one, other] = merged
        self.sides[0].known.setdefault(one, merged)
        self.sides[1].known.setdefault(other, merged)

    def _step(self, one: Node | None, other: Node | None) -> None:
        if one is not None and other is not None:
            pairs = list(zip(one.inputs, other.inputs, strict=True))
            if one.op == "batch_norm" or all(_meets(x, y) for x, y in pairs):
                self._common(one, other, pairs)
        elif other is not None and other.op == "dropout":
            self._dropout(other)
        elif one is not None and one.op == "dropout" and not one.attrs["always"]:
            self._undrop(one)

    def _common(
        self, one: Node, other: Node, pairs: Sequence[tuple[Operand, Operand]]
    ) -> None:
        one.inputs = tuple(
            self._merged(x, y, one.scope)
            if isinstance(x, Value)
            and isinstance(y, Value)
            and not (one.op == "batch_norm" and i > 2 and self._same_state(x, y))
            else x
            for i, (x, y) in enumerate(pairs)
        )
        for name in HIDDEN.get(one.op, ()):
            mine, theirs = one.attrs[name], other.attrs[name]
            # What eval mode shows of dropout is there in both modes.
            one.attrs[name] = mine if name == "always" else theirs
        for x, y in zip(one.outputs, other.outputs, strict=True):
            self._pair(x, y, x)
            _add_names(x, y)
        self.items.append(one)

    def _same_state(self, x: Value, y: Value) -> bool:
        """Whether two values are one buffer, however each mode shapes it: as eval mode does."""
        if (_base(x), _base(y)) not in self.pairs:
            return False
        side = self.sides[0]
        for node in side.cone(x):
            side.known.update((v, v) for v in node.outputs)
            self.items.append(node)
        return True

    def _dropout(self, node: Node) -> None:
        """A dropout of train mode alone, of a value that both modes have."""
        source = node.inputs[0]
        known = self.sides[1].known.get(source) if isinstance(source, Value) else None
        if known is None:
            return
        builder = Builder([])
        builder.scope, builder.src = node.scope, node.src
        made = builder.dropout(known, **{**node.attrs, "always": False})
        _add_names(made, node.output)
        self.items += builder.nodes
        self.sides[1].known[node.output] = made
        for (one, other), merged in list(self.pairs.items()):
            if other is source and one is not None and merged is known:
                self.pairs[one, node.output] = made

    def _undrop(self, node: Node) -> None:
        """A dropout that train mode lacks: in eval mode it is nothing."""
        source = node.inputs[0]
        known = self.sides[0].known
        if isinstance(source, Value) and source in known:
            known[node.output] = known[source]
            for (one, other), merged in list(self.pairs.items()):
                if one is source:
                    self.pairs[node.output, other] = merged

    def _leave(self, stack: Stack) -> None:
        """A call ends: what it returns is one in both modes from here on."""
        for one, other in self.exits.get(stack, ()):
            # What is written in place later is another value than the one that left.
            made = all(
                v.producer is None or v.producer in self.seen for v in (one, other)
            )
            new = made and (one, other) not in self.pairs
            if new and one.type == other.type:
                self._merged(one, other, stack)

    # ---- where the modes differ

    def _merged(self, one: Value | None, other: Value | None, limit: Stack) -> Value:
        """The value that is `one` in eval and `other` in train mode, made if there is none."""
        if one is not None and other is not None and self._twins(one, other):
            return self.pairs[one, other]
        if (one, other) in self.pairs:
            return self.pairs[one, other]
        cones = [side.cone(v) for side, v in zip(self.sides, (one, other), strict=True)]
        stretch = self.items[-1] if self.items else None
        if not isinstance(stretch, _Stretch) or stretch.limit != limit:
            stretch = _Stretch(limit)
        given = [
            self._place(side, nodes, value, stretch, held)
            for side, nodes, value, held in zip(
                self.sides,
                cones,
                (one, other),
                (stretch.evaluated, stretch.trained),
                strict=True,
            )
        ]
        if not self.items or self.items[-1] is not stretch:
            self.items.append(stretch)
        merged = self._result(stretch, given[0], given[1], one or other)
        self.pairs[one, other] = merged
        if one is not None:
            self.sides[0].known.setdefault(one, merged)
        if other is not None:
            self.sides[1].known.setdefault(other, merged)
        return merged

    def _twins(self, one: Value, other: Value, depth: int = 8) -> bool:
        """Whether both modes compute a value alike, in another order; it is one from here on."""
        if (one, other) in self.pairs:
            return True
        mine, theirs = one.producer, other.producer
        if mine is None or theirs is None or depth == 0 or not same(mine, theirs):
            return False
        placed = mine in self.sides[0].place or theirs in self.sides[1].place
        if placed or mine.outputs.index(one) != theirs.outputs.index(other):
            return False
        pairs = list(zip(mine.inputs, theirs.inputs, strict=True))
        tensors = [(x, y) for x, y in pairs if isinstance(x, Value)]
        if not all(
            isinstance(y, Value) and self._twins(x, y, depth - 1) for x, y in tensors
        ):
            return False
        if one not in self.sides[0].known:
            mine.inputs = tuple(
                self.pairs[x, y] if isinstance(x, Value) and isinstance(y, Value) else x
                for x, y in pairs
            )
            self.items.append(mine)
            self.sides[0].known.update((v, v) for v in mine.outputs)
        for x, y in zip(mine.outputs, theirs.outputs, strict=True):
            self._pair(x, y, self.sides[0].known[x])
        return True

    def _place(
        self,
        side: _Side,
        nodes: Iterable[Node],
        value: Value | None,
        stretch: _Stretch,
        held: list[Node],
    ) -> Value | None:
        """Put nodes of one mode into a stretch; `value` as it is called there."""
        for node in nodes:
            node.inputs = tuple(self._inner(side, x, stretch) for x in node.inputs)
            if side is self.sides[1] and node.op == "dropout":
                node.attrs["always"] = False  # train mode is all it knows
            side.place[node] = stretch
            held.append(node)
        inner = self._inner(side, value, stretch)
        assert not isinstance(inner, Scalar)
        return inner

    def _inner(self, side: _Side, x: Operand, stretch: _Stretch | None) -> Operand:
        """An operand of one mode, as it is called within a stretch."""
        if not isinstance(x, Value):
            return x
        if x.producer is not None and x.producer in side.place:
            place = side.place[x.producer]
            if place is stretch:
                return x
            if x not in side.known:
                first = side is self.sides[0]
                one, other = (x, None) if first else (None, x)
                side.known[x] = self._result(place, one, other, x)
        return side.known[x]

    def _result(
        self, stretch: _Stretch, one: Operand, other: Operand, like: Value | None
    ) -> Value:
        assert like is not None
        made = Value(like.type, like.name)
        made.names = dict(like.names)
        for x in (one, other):
            if isinstance(x, Value):
                _add_names(made, x)
        stretch.results.append((one, other, made))
        return made

    # ---- results

    def _outputs(self) -> None:
        mine, theirs = self.graph.outputs, self.train.outputs
        root = self._root()
        if not alike(mine, theirs):
            evaluated = map_structure(lambda v: self._alone(0, v, root), mine)
            trained = map_structure(lambda v: self._alone(1, v, root), theirs)
            self.graph.outputs = ByMode(evaluated, trained)
            return
        ends = iter([_value(x) for x in walk(theirs)])

        def end(x: Any) -> Any:
            other = next(ends)
            if x is None and other is None:
                return None
            if not isinstance(x, Value) and x is not None:
                return x
            return self._merged(x, other, root)

        self.graph.outputs = map_leaves(end, mine)

    def _alone(self, which: int, value: Value, root: Stack) -> Value:
        """A value that one mode alone returns."""
        side = self.sides[which]
        if value not in side.known:
            one, other = (value, None) if which == 0 else (None, value)
            self._merged(one, other, root)
        return side.known[value]

    def _root(self) -> Stack:
        nodes = [*self.graph.nodes, *self.train.nodes]
        return next((n.scope[:1] for n in nodes if n.scope), ())

    def _updates(self) -> None:
        """What each mode writes; what train mode alone writes is made at the end."""
        mine, theirs = dict(self.graph.updates), dict(self.train.updates)
        self.graph.updates, self.graph.trained = {}, set()
        params = self.graph.params
        for path in dict.fromkeys((*mine, *theirs)):
            held = params[path].value
            if path in mine:
                other = theirs.get(path)
                if other is None:
                    old = self.train.params.get(path)
                    other = old.value if old is not None else self._unchanged(path)
                value = self._merged(mine[path], other, self._limit(mine[path]))
            else:
                value = self._late(theirs[path])
                self.graph.trained.add(path)
            if value is not held:
                self.graph.updates[path] = value

    def _unchanged(self, path: str) -> Value:
        """A buffer that train mode does not touch, as a value of that mode."""
        held = self.graph.params[path].value
        self._pair(held, held, held)
        return held

    def _limit(self, value: Value) -> Stack:
        return value.producer.scope if value.producer else self._root()

    def _late(self, value: Value) -> Value:
        """A value of train mode that only a write needs: its nodes go to the end."""
        side = self.sides[1]
        for node in side.cone(value):
            node.inputs = tuple(self._inner(side, x, None) for x in node.inputs)
            side.known.update((v, v) for v in node.outputs)
            self.items.append(node)
        found = self._inner(side, value, None)
        assert isinstance(found, Value)
        return found

    # ---- the merged graph

    def _finish(self) -> None:
        nodes: list[Node] = []
        stretches = [item for item in self.items if isinstance(item, _Stretch)]
        for stretch in stretches:
            stretch.scope = self._scope(stretch)
        self._lift(stretches)
        train_calls = self._train_calls()
        for item in self.items:
            if isinstance(item, _Stretch):
                nodes.append(self._node(item, train_calls))
            else:
                nodes.append(item)
        self.graph.nodes = nodes
        self._calls(train_calls)

    def _scope(self, stretch: _Stretch) -> Stack:
        """The innermost call that holds the whole difference and is made in both modes."""
        stacks = [node.scope for node in stretch.nodes()]
        if not stacks:
            ends = [x for one, other, _ in stretch.results for x in (one, other)]
            stacks = [x.producer.scope for x in ends if _made(x)]  # type: ignore[union-attr]
            stacks.append(stretch.limit)
        scope = stacks[0]
        for other in stacks[1:]:
            scope = _common_stack(scope, other)
        while len(scope) > 1 and scope not in self.shared:
            scope = scope[:-1]
        return scope or self._root()

    def _lift(self, stretches: Sequence[_Stretch]) -> None:
        """Calls of which a stretch holds a part alone are made by the stretch itself."""
        outside: dict[Stack, set[object]] = {}
        for item in self.items:
            nodes = item.nodes() if isinstance(item, _Stretch) else [item]
            for node in nodes:
                for stack in _prefixes(node.scope):
                    outside.setdefault(stack, set()).add(
                        id(item) if isinstance(item, _Stretch) else None
                    )
        for stretch in stretches:
            depth = len(stretch.scope)
            for node in stretch.nodes():
                if len(node.scope) > depth:
                    inner = node.scope[: depth + 1]
                    if outside[inner] != {id(stretch)}:
                        node.scope = stretch.scope

    def _node(self, stretch: _Stretch, train_calls: Sequence[Call]) -> Node:
        made = [result for _, _, result in stretch.results]
        evaluated = Graph([], {}, stretch.evaluated, [x for x, _, _ in stretch.results])
        trained = Graph([], {}, stretch.trained, [x for _, x, _ in stretch.results])
        held = {n.scope[:i] for n in stretch.trained for i in range(len(n.scope) + 1)}
        trained.calls = [c for c in train_calls if c.stack in held]
        captured = close([evaluated, trained])
        nodes = stretch.nodes()
        src = next((n.src for n in nodes if n.src), None)
        attrs = {"branches": (evaluated, trained)}
        node = Node("mode", tuple(captured), attrs, tuple(made), stretch.scope, src)
        for value in made:
            value.producer = node
        return node

    def _train_calls(self) -> list[Call]:
        """Calls that train mode alone makes, with their arguments as they are called now."""
        known = {call.stack for call in self.graph.calls}
        side = self.sides[1]
        found = []
        for call in self.train.calls:
            if call.stack not in known:
                args = [
                    (name, side.known.get(value, value)) for name, value in call.args
                ]
                found.append(Call(call.stack, args, call.alias))
        return found

    def _calls(self, train_calls: Sequence[Call]) -> None:
        theirs = {call.stack: dict(call.args) for call in self.train.calls}
        for call in self.graph.calls:
            other = theirs.get(call.stack, {})
            call.args = [
                (name, self._argument(value, other.get(name)))
                for name, value in call.args
            ]
        self.graph.calls += train_calls
        for path, cls in self.train.classes.items():
            self.graph.classes.setdefault(path, cls)
        for path, attrs in self.train.attrs.items():
            self.graph.attrs.setdefault(path, attrs)

    def _argument(self, one: Value, other: Value | None) -> Value:
        if (one, other) in self.pairs:
            return self.pairs[one, other]
        return self.sides[0].known.get(one, one)


# ---- parts of the above


def _meets(x: Operand, y: Operand) -> bool:
    """Whether two operands can be one."""
    if isinstance(x, Value) and isinstance(y, Value):
        return x.type == y.type
    return True


def _base(x: Value) -> Value:
    """The value that changes of shape show."""
    while x.producer is not None and x.producer.op in SHAPE_OPS:
        source = x.producer.inputs[0]
        assert isinstance(source, Value)
        x = source
    return x


def _stacks(graph: Graph) -> set[Stack]:
    """Every call that a graph makes."""
    found = {stack for node in graph.nodes for stack in _prefixes(node.scope)}
    return found | {s for call in graph.calls for s in _prefixes(call.stack)}


def _prefixes(scope: Stack) -> list[Stack]:
    return [scope[: i + 1] for i in range(len(scope))]


def _common_stack(one: Stack, other: Stack) -> Stack:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return one[:count]


def _made(x: Operand) -> bool:
    return isinstance(x, Value) and x.producer is not None


def _value(x: Any) -> Value | None:
    return x if isinstance(x, Value) else None


def _add_names(value: Value, other: Value) -> None:
    for depth, name in other.names.items():
        value.names.setdefault(depth, name)


__all__ = ["Exits", "merge", "refuse_drawing"]
