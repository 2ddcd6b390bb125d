"""The narrowest float that each output's values were rounded to on their way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ivyport.core.control import all_nodes, bodies, captured
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
    found = _flow(graph, {})
    return {
        path or "output": found[value]
        for path, value in _paths(graph.outputs, "")
        if found.get(value, value.type.dtype) != value.type.dtype
    }


def _flow(graph: Graph, given: Mapping[Value, str]) -> dict[Value, str]:
    """The dtype of every value of `graph` that has one; `given` are those of its inputs."""
    found = dict(given)
    for node in graph.nodes:
        if node.op == "mode":
            found.update(_by_mode(node, found))
            continue
        inherited = [found[x] for x in node.values() if x in found]
        dtype = _narrowest([*inherited, *_own(node)])
        if dtype is not None:
            found.update(dict.fromkeys(node.outputs, dtype))
    return found


def _by_mode(node: Node, found: Mapping[Value, str]) -> Iterator[tuple[Value, str]]:
    """Results of both modes in eval mode: what only train mode rounds allows eval mode nothing."""
    flows = []
    for branch in node.attrs["branches"]:
        inside = {y: found[x] for x, y in captured(node, branch) if x in found}
        flows.append((branch.outputs, _flow(branch, inside)))
    for position, value in enumerate(node.outputs):
        results = [(outputs[position], flow) for outputs, flow in flows]
        result, flow = next(r for r in results if r[0] is not None)
        if result in flow:
            yield value, flow[result]


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
