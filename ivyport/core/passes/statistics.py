"""Running statistics that no layer keeps are written as what they are.

A `batch_norm` updates its statistics by itself where it becomes a layer of the target. Where it
stands among other operations, a target whose function for it cannot write gets both modes spelled
out: the running statistics in eval mode, and in train mode the batch's and the new averages.
"""

from __future__ import annotations

import collections

from ivyport.core.build import Builder
from ivyport.core.control import bodies, close
from ivyport.core.ir import Graph, Node, Scope, Value
from ivyport.core.passes.rewrite import substitute


def spell_statistics(graph: Graph) -> None:
    """Spell out the batch norms of `graph` that will be no layers, in place."""
    population = collections.Counter(
        n.scope[:depth]
        for nodes in (graph.nodes, *(b.nodes for n in graph.nodes for b in bodies(n)))
        for n in nodes
        for depth in range(1, len(n.scope) + 1)
    )
    _Statistics(graph, population).run()


class _Statistics:
    def __init__(
        self, graph: Graph, population: collections.Counter[tuple[Scope, ...]]
    ) -> None:
        self.graph = graph
        self.population = population
        self.params = {p.value: p for p in graph.params.values()}
        # Values of outer averages for those that a body captures.
        self.outer: dict[Value, Value] = {}
        self.late = Builder([])

    def run(self) -> None:
        nodes: list[Node] = []
        replaced: dict[Value, Value] = {}
        for node in self.graph.nodes:
            node.inputs = tuple(
                replaced.get(x, x) if isinstance(x, Value) else x for x in node.inputs
            )
            if node.op == "mode":
                self._inside(node)
            if not self._lonely(node):
                nodes.append(node)
                continue
            made = self._choice(node)
            nodes.append(made)
            replaced[node.output] = made.output
            x = made.inputs[0]
            assert isinstance(x, Value)
            self._averages(node, x)
        if replaced or self.late.nodes:
            substitute(self.graph, [*nodes, *self.late.nodes], replaced)

    def _lonely(self, node: Node) -> bool:
        """Whether a node updates averages and is no layer of its own."""
        if node.op != "batch_norm" or node.attrs["debias"]:
            return False
        if node.attrs["momentum"] is None or not isinstance(node.inputs[3], Value):
            return False
        held = [self.outer.get(x, x) for x in node.inputs[1:] if isinstance(x, Value)]
        if not all(x in self.params for x in held[-2:]):
            return False
        path = node.scope[-1].path if node.scope else ""
        own = all(x in self.params and self.params[x].owner == path for x in held)
        return not (path and own and self.population[node.scope] == 1)

    def _choice(self, node: Node) -> Node:
        x, scale, bias, mean, var = node.inputs
        running, batch = Builder([]), Builder([])
        for builder in (running, batch):
            builder.scope, builder.src = node.scope, node.src
        attrs = {**node.attrs, "momentum": None}
        one = running.batch_norm(x, scale, bias, mean, var, **attrs)
        other = batch.batch_norm(x, scale, bias, None, None, **attrs)
        evaluated = Graph([], {}, running.nodes, [one])
        trained = Graph([], {}, batch.nodes, [other])
        captured = close([evaluated, trained])
        made = Value(node.output.type, node.output.name)
        made.names = dict(node.output.names)
        branches = {"branches": (evaluated, trained)}
        found = Node("mode", tuple(captured), branches, (made,), node.scope, node.src)
        made.producer = found
        return found

    def _averages(self, node: Node, x: Value) -> None:
        """The new running statistics, made at the end and written in train mode."""
        b = self.late
        b.scope, b.src = node.scope, node.src
        axis = node.attrs["axis"] % x.type.rank
        axes = tuple(a for a in range(x.type.rank) if a != axis)
        share = node.attrs["momentum"]
        # The average of variances is that of a sample's: n / (n - 1) of the mean square.
        correction = 1 if node.attrs["unbiased"] else 0
        moments = (b.mean(x, axis=axes), b.var(x, axis=axes, correction=correction))
        for held, moment in zip(node.inputs[3:], moments, strict=True):
            assert isinstance(held, Value)
            param = self.params[self.outer.get(held, held)]
            old = self.graph.updates.get(param.path, param.value)
            new = b.cast(moment, param.type.dtype)
            kept = b.multiply(old, 1 - share)
            self.graph.updates[param.path] = b.add(kept, b.multiply(new, share))
            self.graph.trained.add(param.path)

    def _inside(self, node: Node) -> None:
        """Batch norms in the branches of a choice: what they are given leaves it."""
        for position, body in enumerate(bodies(node)):
            pairs = zip(node.inputs, body.inputs, strict=True)
            self.outer = {i: o for o, i in pairs if isinstance(o, Value)}
            for inner in body.nodes:
                if not self._lonely(inner):
                    continue
                if position == 1:
                    x = inner.inputs[0]
                    assert isinstance(x, Value)
                    self._averages(inner, self._leave(node, x))
                    inner.inputs = (*inner.inputs[:3], None, None)
                inner.attrs = {**inner.attrs, "momentum": None}
            self.outer = {}

    def _leave(self, node: Node, x: Value) -> Value:
        evaluated, trained = bodies(node)
        evaluated.outputs = [*evaluated.outputs, None]
        trained.outputs = [*trained.outputs, x]
        made = Value(x.type, x.name)
        made.names, made.producer = dict(x.names), node
        node.outputs = (*node.outputs, made)
        return made


__all__ = ["spell_statistics"]
