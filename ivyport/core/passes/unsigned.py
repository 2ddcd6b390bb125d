"""Unsigned integers for targets that compute with signed ones (torch has hardly a kernel).

uint16 and uint32 are held as int64, in which every sum and product of two of them, taken modulo
2 ** 16 or 2 ** 32, is the unsigned one; inputs and outputs of the model keep their types.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.control import all_nodes, bodies
from ivyport.core.ir import Call, Graph, Node, Scalar, Value, map_structure
from ivyport.core.ops_custom import within_functions

LARGEST = {"uint16": 2**16 - 1, "uint32": 2**32 - 1}
WRAPS = frozenset(
    {"add", "subtract", "multiply", "negative", "square", "pow", "bitwise_left_shift",
     "bitwise_invert", "sum", "prod", "cumulative_sum", "cumulative_prod", "index_update",
     "index_reduce", "scatter"}
)  # fmt: skip
"""Operations whose result may leave the range of their operands."""


def widen_unsigned(graph: Graph) -> None:
    """Hold uint16 and uint32 as int64."""
    values = [*graph.inputs, *(p.value for p in graph.params.values())]
    nodes = list(all_nodes(graph))
    values += [v for n in nodes for v in n.outputs]
    values += [v for n in nodes for body in bodies(n) for v in body.inputs]
    if any(v.type.dtype in LARGEST for v in values):
        _Widening(graph, top=True).run()


def _widen_inside(graph: Graph) -> None:
    _Widening(graph, top=False).run()


class _Widening:
    """One graph, or one body of control flow, rebuilt node by node."""

    def __init__(self, graph: Graph, *, top: bool) -> None:
        self.graph, self.top = graph, top
        self.builder = Builder([])
        self.replaced: dict[Value, Value] = {}
        self.unsigned: dict[Value, str] = {}  # what values were before

    def run(self) -> None:
        graph = self.graph
        if graph.nodes:
            self.builder.scope = graph.nodes[0].scope[:1]
        for value in [*graph.inputs, *(p.value for p in graph.params.values())]:
            if value.type.dtype not in LARGEST:
                continue
            self.unsigned[value] = value.type.dtype
            if self.top:
                self.replaced[value] = self.builder.cast(value, "int64")
            else:
                value.type = value.type.with_dtype("int64")
        for node in graph.nodes:
            self._node(node)
        graph.nodes = self.builder.nodes
        graph.outputs = map_structure(self._output, graph.outputs)
        graph.updates = {path: self._output(v) for path, v in graph.updates.items()}
        graph.calls = [
            Call(c.stack, [(name, self._new(v)) for name, v in c.args], c.alias)
            for c in graph.calls
        ]

    def _new(self, value: Value) -> Value:
        return self.replaced.get(value, value)

    def _output(self, value: Value) -> Value:
        new = self._new(value)
        if not self.top or value not in self.unsigned:
            return new
        if value.producer is None:
            return value
        return self.builder.cast(new, self.unsigned[value])

    def _node(self, node: Node) -> None:
        b = self.builder
        b.scope, b.src = node.scope, node.src
        sources = [
            self.unsigned.get(x) if isinstance(x, Value) else None for x in node.inputs
        ]
        node.inputs = tuple(
            self._new(x) if isinstance(x, Value) else x for x in node.inputs
        )
        for body in bodies(node):
            _widen_inside(body)
        within_functions([node], _widen_inside)
        if node.op == "astype" and node.output.type.dtype in LARGEST:
            self._cast(node, sources[0])
            return
        if node.attrs.get("dtype") in LARGEST:
            node.attrs["dtype"] = "int64"
        b.nodes.append(node)
        for value in node.outputs:
            dtype = value.type.dtype
            if dtype not in LARGEST:
                continue
            self.unsigned[value] = dtype
            value.type = value.type.with_dtype("int64")
            if node.op in WRAPS:
                self._replace(value, self._wrapped(value, dtype))
            if node.op == "leading_zeros":
                unused = 64 - LARGEST[dtype].bit_length()
                self._replace(value, b.subtract(value, Scalar(unused)))

    def _cast(self, node: Node, source: str | None) -> None:
        """To an unsigned type: integers wrap around, floats become the nearest."""
        b, x, dtype = self.builder, node.inputs[0], node.output.type.dtype
        assert isinstance(x, Value)
        if dt.is_float(x.type.dtype):
            held = b.astype(x, dtype="int64", saturate=node.attrs["saturate"])
            made = b.clip(held, min=0, max=LARGEST[dtype])
        elif source is not None and LARGEST[source] <= LARGEST[dtype]:
            made = x
        else:
            made = self._wrapped(b.cast(x, "int64"), dtype)
        self.unsigned[node.output] = dtype
        self._replace(node.output, made)

    def _wrapped(self, value: Value, dtype: str) -> Value:
        made: Value = self.builder.bitwise_and(value, Scalar(LARGEST[dtype]))
        return made

    def _replace(self, old: Value, new: Value) -> None:
        self.replaced[old] = new
        if new.producer is not None:
            for depth, name in old.names.items():
                new.names.setdefault(depth, name)
