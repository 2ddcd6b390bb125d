"""Tables of positions: how long a sequence the rows of an embedding are enough for."""

from __future__ import annotations

from ivyport.core.checks import Check
from ivyport.core.dims import Dim, DimLike, symbols
from ivyport.core.ir import Graph, NewAxis, Scalar, Slice, Value

# These keep the largest element.
_KEEPS = frozenset({"astype", "getitem", "reshape", "broadcast_to", "permute_dims"})


def table_checks(graph: Graph) -> list[Check]:
    """``S <= 1024`` for an embedding of 1024 rows that is read at 0, 1, ... S - 1.

    Frameworks differ in what they do beyond a table: torch raises, JAX takes the last row.
    """
    found = []
    for node in graph.nodes:
        if node.op != "embedding":
            continue
        indices, weight = node.inputs
        assert isinstance(weight, Value)
        last, rows = _last(indices), weight.type.shape[0]
        if isinstance(last, Dim) and symbols(last) <= graph.dims.keys():
            found.append(Check(last + 1, "<=", rows))
    return found


def _last(x: object) -> DimLike | None:
    """The largest element of a range, perhaps moved or reshaped; None for anything else."""
    node = x.producer if isinstance(x, Value) else None
    if node is None:
        return None
    if node.op == "arange":
        start, stop, step = (node.attrs[k] for k in ("start", "stop", "step"))
        whole = step == 1 and isinstance(start, int | Dim)
        return stop - 1 if whole and isinstance(stop, int | Dim) else None
    if node.op == "getitem" and any(
        item not in (NewAxis(), Slice()) for item in node.attrs["index"]
    ):
        return None
    if node.op in _KEEPS:
        return _last(node.inputs[0])
    if node.op == "add":
        one, two = node.inputs
        moved = two.value if isinstance(two, Scalar) else None
        last = _last(one)
        return (
            last + moved if isinstance(moved, int | Dim) and last is not None else None
        )
    return None
