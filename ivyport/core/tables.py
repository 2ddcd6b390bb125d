"""Which inputs of a graph are rows of its tables: token ids."""

from __future__ import annotations

from ivyport.core.control import all_nodes
from ivyport.core.ir import Graph, Value

#: Operations whose results have the numbers of their operand.
SAME = ("astype", "reshape", "broadcast_to", "permute_dims", "getitem", "stop_gradient")


def table_sizes(graph: Graph) -> dict[Value, int]:
    """By input, how many rows the smallest table has that it is looked up in.

    Frameworks differ in what they make of others: torch raises, JAX gives NaN or another row.
    """
    found: dict[Value, int] = {}
    for node in all_nodes(graph):
        if node.op != "embedding":
            continue
        index, table = node.values()
        rows = table.type.shape[0]
        while index.producer is not None and index.producer.op in SAME:
            operand = index.producer.inputs[0]
            if not isinstance(operand, Value):
                break
            index = operand
        if index in graph.inputs and isinstance(rows, int):
            found[index] = min(rows, found.get(index, rows))
    return found
