"""One graph for eval and train mode: what only the train graph shows is taken over.

Both graphs come from one source, so that a value of the train graph has its counterpart in the eval
graph: the one that the same operation makes of the same operands. Dropouts, which eval mode lacks,
stand between a value and its uses; everything else must have its counterpart. Where it has not, the
difference is named and the port trains with the eval graph.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.ir import Graph, Node, Operand, Scalar, Value, leaves, map_structure
from ivyport.core.text import render

# Attributes that may differ: eval mode has no dropout to show.
_TRAINING = {"attention": ("dropout",)}


def reconcile(graph: Graph, train: Graph) -> list[str]:
    """Complete `graph` (eval) in place; returns what could not be reconciled, as sentences.

    Both are of one source, raised, with inputs and parameters of the same names.
    """
    matching = _Matching(graph, train)
    difference = matching.run()
    if difference is not None:
        return [_sentence(difference)]
    matching.apply()
    written = ", ".join(sorted(train.updates))
    if written:
        return [f"The source writes to {written} in train mode; the port does not."]
    return []


class _Matching:
    """Counterparts of the train graph's values, found in the order of its nodes.

    `match` gives the counterpart of a value; for one that dropouts made, that of what they were
    given, and `dropped` the dropout that made it.
    """

    def __init__(self, graph: Graph, train: Graph) -> None:
        self.graph = graph
        self.train = train
        self.match: dict[Value, Value] = {}
        self.dropped: dict[Value, Node] = {}
        self.operands: dict[
            tuple[Node, int], Value
        ] = {}  # eval operands, as in training
        self.rates: list[tuple[Node, Node]] = []  # eval node, train node with its rates
        self.waiting: dict[Hashable, list[Node]] = {}
        for node in graph.nodes:
            for named in (True, False):
                self.waiting.setdefault(_key(node, node.inputs, named), []).append(node)
        self.used: set[Node] = set()

    def run(self) -> Node | None:
        """Match; the first node on the way to an output that has no counterpart, or None."""
        inputs = {v.name: v for v in self.graph.inputs}
        self.match = {v: inputs[v.name] for v in self.train.inputs}
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
        if mine is not None:
            self.used.add(mine)
            self.match.update(zip(node.outputs, mine.outputs, strict=True))
            self._note(mine, node)
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

    def _note(self, mine: Node, theirs: Node) -> None:
        for position, x in enumerate(theirs.inputs):
            if isinstance(x, Value) and x in self.dropped:
                self.operands[mine, position] = x
        if mine.op in _TRAINING:
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
        return culprit

    def apply(self) -> None:
        """Put the dropouts and rates of the train graph into the eval graph."""
        for mine, theirs in self.rates:
            for name in _TRAINING[mine.op]:
                mine.attrs[name] = theirs.attrs[name]
        made: dict[Value, Value] = {}
        builder = Builder([])
        for node in self.graph.nodes:
            operands = list(node.inputs)
            for position in range(len(operands)):
                dropped = self.operands.get((node, position))
                if dropped is not None:
                    operands[position] = self._dropout(dropped, builder, made)
            node.inputs = tuple(operands)
            builder.nodes.append(node)
        ends = iter(list(leaves(self.train.outputs)))
        self.graph.outputs = map_structure(
            lambda v: self._end(next(ends), v, builder, made), self.graph.outputs
        )
        self.graph.nodes = builder.nodes
        self._rename_arguments(made)

    def _rename_arguments(self, made: Mapping[Value, Value]) -> None:
        """Modules that are called with what a dropout made: the calls must say so."""
        theirs = {call.stack: dict(call.args) for call in self.train.calls}
        for call in self.graph.calls:
            known = theirs.get(call.stack, {})
            call.args = [
                (name, made.get(known[name], value) if name in known else value)
                for name, value in call.args
            ]

    def _end(
        self, theirs: Value, ours: Value, builder: Builder, made: dict[Value, Value]
    ) -> Value:
        if theirs not in self.dropped:
            return ours
        return self._dropout(theirs, builder, made)

    def _dropout(
        self, dropped: Value, builder: Builder, made: dict[Value, Value]
    ) -> Value:
        if dropped not in made:
            node = self.dropped[dropped]
            source = node.inputs[0]
            assert isinstance(source, Value)
            if source in self.dropped:
                x = self._dropout(source, builder, made)
            else:
                x = self.match[source]
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


def _sentence(node: Node) -> str:
    where = (node.scope[-1].path if node.scope else "") or "the root"
    line = f" ({node.src})" if node.src else ""
    return (
        "in train mode the source computes something else than in eval mode, first at "
        f"{node.op} in {where}{line}; the port trains with the eval computation"
    )


__all__ = ["reconcile"]
