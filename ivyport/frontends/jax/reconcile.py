"""One graph for eval and train mode: what only the train graph shows is taken over.

Both graphs come from one source, so that a value of the train graph has its counterpart in the eval
graph: the one that the same operation makes of the same operands. Dropouts, which eval mode lacks,
stand between a value and its uses. Where all else has its counterpart, dropouts go into loops too;
where it has not, the two graphs are merged as `ivyport.core.modes` does. Buffers that train mode
writes are written by the port as well, in train mode alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.control import bodies, captured
from ivyport.core.ir import (
    Graph,
    Node,
    Operand,
    Scalar,
    Scope,
    Value,
    leaves,
    map_structure,
    walk,
)
from ivyport.core.modes import merge
from ivyport.core.text import render

# Attributes that may differ: eval mode has no dropout to show.
_TRAINING = {"attention": ("dropout",), "dropout": ("always",)}


def reconcile(graph: Graph, train: Graph) -> None:
    """Make `graph` (eval) the graph of both modes, in place.

    Both are of one source, raised, with inputs and parameters of the same names.
    """
    inputs = {v.name: v for v in graph.inputs}
    matching = _Matching(graph, train, {v: inputs[v.name] for v in train.inputs})
    if graph.updates or not _alike(graph, train) or matching.run() is not None:
        merge(graph, train)
        return
    matching.apply()
    matching.write()


def _alike(graph: Graph, train: Graph) -> bool:
    """Whether both modes return one structure, of equal types."""
    one, other = (
        [x.type if isinstance(x, Value) else x for x in walk(g.outputs)]
        for g in (graph, train)
    )
    return one == other and repr(map_structure(lambda _: 0, graph.outputs)) == repr(
        map_structure(lambda _: 0, train.outputs)
    )


class _Matching:
    """Counterparts of the train graph's values, found in the order of its nodes.

    `match` gives the counterpart of a value; for one that dropouts made, that of what they were
    given, and `dropped` the dropout that made it.
    """

    def __init__(
        self, graph: Graph, train: Graph, inputs: Mapping[Value, Value]
    ) -> None:
        self.graph = graph
        self.train = train
        self.match = dict(inputs)
        self.dropped: dict[Value, Node] = {}
        self.operands: dict[
            tuple[Node, int], Value
        ] = {}  # eval operands, as in training
        self.rates: list[tuple[Node, Node]] = []  # eval node, train node with its rates
        self.bodies: list[_Matching] = []
        self.inside: dict[Node, Node] = {}  # the first difference in a loop's body
        self.waiting: dict[Hashable, list[Node]] = {}
        for node in graph.nodes:
            for named in (True, False):
                self.waiting.setdefault(_key(node, node.inputs, named), []).append(node)
        self.used: set[Node] = set()
        self.made: dict[Value, Value] = {}  # what dropouts make, in the eval graph

    def run(self) -> Node | None:
        """Match; the first node on the way to an output that has no counterpart, or None."""
        for path, param in self.train.params.items():
            held = self.graph.params.get(path)
            if held is not None:
                self.match[param.value] = held.value
        for node in self.train.nodes:
            self._visit(node)
        ends = zip(leaves(self.train.outputs), leaves(self.graph.outputs), strict=True)
        for theirs, ours in ends:
            if self.match.get(theirs) is not ours:
                return self._missing(theirs)
        return None

    def _visit(self, node: Node) -> None:
        operands: list[Operand] = []
        for x in node.inputs:
            if isinstance(x, Value) and x not in self.match:
                return
            operands.append(self.match[x] if isinstance(x, Value) else x)
        mine = self._counterpart(node, tuple(operands))
        own = len(node.inputs)
        if mine is None and bodies(node):
            # What the bodies capture may be in another order.
            own -= len(captured(node, bodies(node)[0]))
            mine = self._loop(node, operands, own)
        if mine is not None:
            self.used.add(mine)
            self.match.update(zip(node.outputs, mine.outputs, strict=True))
            self._note(mine, node, own)
        elif node.op == "dropout" and isinstance(operands[0], Value):
            self.match[node.output] = operands[0]
            self.dropped[node.output] = node

    def _counterpart(self, node: Node, operands: tuple[Operand, ...]) -> Node | None:
        """A node of the eval graph that does the same: in the same module if there is one."""
        for named in (True, False):
            found = self.waiting.get(_key(node, operands, named), [])
            free = [n for n in found if n not in self.used]
            if free or found:
                return (free or found)[0]
        return None

    def _loop(
        self, theirs: Node, operands: Sequence[Operand], first: int
    ) -> Node | None:
        """A loop or choice of the eval graph whose bodies do the same but for dropout.

        `first` is the position of the first operand that the bodies capture.
        """
        for mine in self.graph.nodes:
            alike = (
                mine.op == theirs.op
                and mine not in self.used
                and len(mine.outputs) == len(theirs.outputs)
                and _plain(mine) == _plain(theirs)
                and list(map(_operand, mine.inputs[:first]))
                == list(map(_operand, operands[:first]))
            )
            parts = self._bodies(mine, theirs) if alike else None
            if parts is None:
                continue
            self.bodies += parts
            for x in theirs.inputs[first:]:
                if isinstance(x, Value) and x in self.dropped:
                    position = mine.inputs.index(self.match[x], first)
                    self.operands[mine, position] = x
            return mine
        return None

    def _bodies(self, mine: Node, theirs: Node) -> list[_Matching] | None:
        """The matchings of the bodies of two nodes, None if one fails."""
        parts = []
        for ours, other in zip(bodies(mine), bodies(theirs), strict=True):
            held, given = dict(captured(mine, ours)), captured(theirs, other)
            mapped = [self.match[outside] for outside, _ in given]
            if len(set(mapped)) < len(mapped):
                return None  # what drops and what does not would be one operand
            own = len(other.inputs) - len(given)
            inputs = dict(zip(other.inputs[:own], ours.inputs[:own], strict=True))
            inputs |= {
                inside: held[known]
                for known, (_, inside) in zip(mapped, given, strict=True)
                if known in held
            }
            part = _Matching(ours, other, inputs)
            difference = part.run()
            if difference is not None:
                self.inside.setdefault(theirs, difference)
                return None
            parts.append(part)
        return parts

    def _note(self, mine: Node, theirs: Node, own: int) -> None:
        for position, x in enumerate(theirs.inputs[:own]):
            if isinstance(x, Value) and x in self.dropped:
                self.operands[mine, position] = x
        if mine.op == "attention":
            self.rates.append((mine, theirs))

    def _missing(self, end: Value) -> Node | None:
        """The first node that `end` depends on without a counterpart."""
        needed = {end}
        culprit = end.producer
        for node in reversed(self.train.nodes):
            if any(v in needed for v in node.outputs):
                needed.update(node.values())
                if any(v not in self.match for v in node.outputs):
                    culprit = node
        return self.inside.get(culprit, culprit) if culprit is not None else None

    def apply(self) -> None:
        """Put the dropouts and rates of the train graph into the eval graph."""
        for part in self.bodies:
            part.apply()
        for mine, theirs in self.rates:
            for name in _TRAINING[mine.op]:
                mine.attrs[name] = theirs.attrs[name]
        builder = Builder([])
        for node in self.graph.nodes:
            operands = list(node.inputs)
            for position in range(len(operands)):
                dropped = self.operands.get((node, position))
                if dropped is not None:
                    operands[position] = self._dropout(dropped, builder)
            node.inputs = tuple(operands)
            builder.nodes.append(node)
        ends = iter(list(leaves(self.train.outputs)))
        self.graph.outputs = map_structure(
            lambda v: self._end(next(ends), v, builder), self.graph.outputs
        )
        self.graph.nodes = builder.nodes
        self._rename_arguments()

    def write(self) -> None:
        """Take over what train mode writes to buffers, and what only that is made by."""
        updates = self.train.updates
        if not updates:
            return
        needed = set(updates.values())
        added: list[Node] = []
        for node in reversed(self.train.nodes):
            if any(v in needed and v not in self.match for v in node.outputs):
                added.insert(0, node)
                needed.update(node.values())
        for path, param in self.train.params.items():
            if param.value not in self.match and (
                param.value in needed or path in updates
            ):
                self.graph.params[path] = param
                self.match[param.value] = param.value
        builder = Builder(self.graph.nodes)
        for node in added:
            node.inputs = tuple(self._given(x, builder) for x in node.inputs)
            self.match.update((v, v) for v in node.outputs)
            builder.nodes.append(node)
        self.graph.updates = {
            path: value
            for path, found in updates.items()
            if isinstance(value := self._given(found, builder), Value)
        }
        self.graph.trained = set(self.graph.updates)
        self._know([scope for node in added for scope in node.scope])

    def _given(self, x: Operand, builder: Builder) -> Operand:
        """An operand of the train graph in the eval graph."""
        if not isinstance(x, Value):
            return x
        return self._dropout(x, builder) if x in self.dropped else self.match[x]

    def _know(self, scopes: Sequence[Scope]) -> None:
        """Modules that only train mode calls, and how they are called."""
        graph, train = self.graph, self.train
        known = {call.stack for call in graph.calls}
        for path, cls in {scope.path: scope.cls for scope in scopes}.items():
            graph.classes.setdefault(path, train.classes.get(path, cls))
            graph.attrs.setdefault(path, train.attrs.get(path, {}))
        for call in train.calls:
            if call.stack not in known and call.stack[-1] in scopes:
                call.args = [
                    (name, self.made.get(value, self.match[value]))
                    for name, value in call.args
                    if value in self.match
                ]
                graph.calls.append(call)

    def _rename_arguments(self) -> None:
        """Modules that are called with what a dropout made: the calls must say so."""
        theirs = {call.stack: dict(call.args) for call in self.train.calls}
        for call in self.graph.calls:
            known = theirs.get(call.stack, {})
            call.args = [
                (name, self.made.get(known[name], value) if name in known else value)
                for name, value in call.args
            ]

    def _end(self, theirs: Value, ours: Value, builder: Builder) -> Value:
        return self._dropout(theirs, builder) if theirs in self.dropped else ours

    def _dropout(self, dropped: Value, builder: Builder) -> Value:
        made = self.made
        if dropped not in made:
            node = self.dropped[dropped]
            source = node.inputs[0]
            assert isinstance(source, Value)
            x = self._given(source, builder)
            builder.scope, builder.src = node.scope, node.src
            made[dropped] = builder.dropout(x, **node.attrs)
            made[dropped].names.update(dropped.names)
        return made[dropped]


def _key(node: Node, operands: tuple[Operand, ...], named: bool) -> Hashable:
    """What a node computes: equal keys, equal values; `named` tells modules apart too."""
    hidden = _TRAINING.get(node.op, ())
    attrs = tuple(
        (k, _attr(v)) for k, v in sorted(node.attrs.items()) if k not in hidden
    )
    where = tuple(scope.path for scope in node.scope) if named else None
    inputs = list(map(_operand, operands))
    if node.op == "batch_norm":
        # Its statistics are known by the buffers; how each mode shapes them is nothing to it.
        inputs[3:] = [_operand(_base(x)) for x in operands[3:]]
    return node.op, tuple(inputs), attrs, where


def _plain(node: Node) -> dict[str, str]:
    """The attributes of a loop or choice but for its bodies."""
    held = bodies(node)
    return {
        name: repr(value)
        for name, value in node.attrs.items()
        if value not in held and value != tuple(held)
    }


def _attr(value: Any) -> str:
    """An attribute as text; bodies of control flow by what they compute."""
    if isinstance(value, Graph):
        return render(value)
    if isinstance(value, tuple):
        return ",".join(map(_attr, value))
    return repr(value)


def _base(x: Operand) -> Operand:
    """The value that reshapes show."""
    while isinstance(x, Value) and x.producer is not None:
        if x.producer.op not in ("reshape", "getitem", "permute_dims"):
            break
        x = x.producer.inputs[0]
    return x


def _operand(x: Operand) -> Any:
    if isinstance(x, Value):
        return id(x)
    return (type(x.value).__name__, x.value) if isinstance(x, Scalar) else None


__all__ = ["reconcile"]
