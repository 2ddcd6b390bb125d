"""The narrowest float that each output's values were rounded to on their way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ivyport.core.control import all_nodes, bodies
from ivyport.core.ir import Graph, Node, Record, Value

#: Narrow floats, those with fewer digits first.
NARROW_FLOATS = ("bfloat16", "float16")
#: Operations that move numbers and round none.
MOVES = frozenset(
    {
        "reshape", "permute_dims", "getitem", "concat", "stack", "split", "take", "flip",
        "take_along_axis", "embedding", "broadcast_to", "expand_dims", "squeeze", "tile",
        "repeat", "where", "full", "stop_gradient", "roll", "sort", "maximum", "minimum",
    }
)  # fmt: skip


def roundings(graph: Graph) -> dict[str, str]:
    """The dtype by the path of an output (``hidden_states.0``), where that is a wider one.

    Weights that are narrow and computed with in float32 do not count: nothing is rounded
    but what an operation makes.
    """
    found: dict[Value, str] = {}
    for node in graph.nodes:
        inherited = [found[x] for x in node.values() if x in found]
        dtype = _narrowest([*inherited, *_own(node)])
        if dtype is not None:
            found.update(dict.fromkeys(node.outputs, dtype))
    return {
        path or "output": found[value]
        for path, value in _paths(graph.outputs, "")
        if found.get(value, value.type.dtype) != value.type.dtype
    }


def _own(node: Node) -> Iterator[str]:
    for inner in (node, *(n for body in bodies(node) for n in all_nodes(body))):
        if inner.op not in MOVES:
            yield from (v.type.dtype for v in inner.outputs)


def _narrowest(dtypes: list[str]) -> str | None:
    return next((narrow for narrow in NARROW_FLOATS if narrow in dtypes), None)


def _paths(structure: Any, path: str) -> Iterator[tuple[str, Value]]:
    if isinstance(structure, Value):
        yield path, structure
        return
    items: Any = ()
    if isinstance(structure, Record):
        items = structure.fields
    elif isinstance(structure, dict):
        items = structure.items()
    elif isinstance(structure, list | tuple):
        items = enumerate(structure)
    for key, inner in items:
        yield from _paths(inner, f"{path}.{key}" if path else str(key))
