"""Where gradients flow: stops of the gradient are kept where one would, and dropped elsewhere.

``stop_gradient`` of what no trained parameter and no float input leads to changes nothing, and so
does one behind which no float result is: positions, masks, indices, a rotary table made of
buffers. A source stops those too (`torch.no_grad` around whole blocks); a port need not say it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ivyport.core import dtype as dt
from ivyport.core.control import bodies, captured
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.passes.rewrite import substitute

STOP = "stop_gradient"


class Differentiable:
    """Which values a gradient can flow through, told by what they are made of.

    `roots` are the tensors that a gradient is taken of: trained parameters and float inputs.
    """

    def __init__(self, roots: Iterable[Value]) -> None:
        self._known: dict[Value, bool] = {v: carries(v) for v in roots}

    def add(self, root: Value) -> None:
        """Another tensor that a gradient is taken of, if it is of a float dtype."""
        self._known[root] = carries(root)

    def __call__(self, value: Value) -> bool:
        """Whether a gradient of `value` leads to one of a root."""
        pending = [value]
        while pending:
            current = pending[-1]
            if current in self._known:
                pending.pop()
                continue
            maker = current.producer
            if maker is None or maker.op == STOP or not carries(current):
                self._known[current] = False
                continue
            operands = [v for v in maker.values() if carries(v)]
            missing = [v for v in operands if v not in self._known]
            if missing and not any(self._known.get(v) for v in operands):
                pending += missing
            else:
                self._known[current] = any(self._known.get(v) for v in operands)
        return self._known[value]


def carries(value: Value) -> bool:
    """Whether the dtype of a value is one that gradients have."""
    dtype = value.type.dtype
    return dt.is_float(dtype) or dtype.startswith("complex")


def drop_stops(graph: Graph) -> None:
    """Remove the stops of `graph`, and of the bodies in it, that stop nothing, in place."""
    roots = [p.value for p in graph.params.values() if p.trained]
    _drop(graph, Differentiable([*graph.inputs, *roots]), list(graph.output_values()))


def _drop(graph: Graph, flows: Differentiable, results: list[Value]) -> None:
    for node in graph.nodes:
        for body in bodies(node):
            _drop_inside(node, body, flows)
        if node.op == "embedding" and not any(map(flows, node.values())):
            node.attrs["padding"] = None
    if not any(n.op == STOP for n in graph.nodes):
        return
    needed = _needed(graph, results)
    replaced: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = tuple(
            replaced.get(x, x) if isinstance(x, Value) else x for x in node.inputs
        )
        if node.op == STOP:
            (x,) = node.inputs
            assert isinstance(x, Value)
            if not flows(x) or node.output not in needed:
                replaced[node.output] = x
                for depth, name in node.output.names.items():
                    x.names.setdefault(depth, name)
                continue
        kept.append(node)
    if replaced:
        substitute(graph, kept, replaced)


def _drop_inside(node: Node, body: Graph, flows: Differentiable) -> None:
    """The same for a body: what it is handed counts as differentiable, captures as outside."""
    outside = {inner: outer for outer, inner in captured(node, body)}
    roots = [v for v in body.inputs if v not in outside or flows(outside[v])]
    _drop(body, Differentiable(roots), list(body.output_values()))


def _needed(graph: Graph, results: list[Value]) -> set[Value]:
    """Values whose gradient an output may ask for: a float result lies behind them."""
    updates = set(graph.updates.values())
    found = {v for v in results if carries(v) and v not in updates}
    for node in reversed(graph.nodes):
        if node.op != STOP and any(v in found for v in node.outputs if carries(v)):
            found.update(v for v in node.values() if carries(v))
        elif node.op == STOP and node.output in found:
            found.add(node.output)
    return found
