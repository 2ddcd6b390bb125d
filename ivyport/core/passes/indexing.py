"""Identities of indexing: chains of basic indices, and gathers along ranges."""

from __future__ import annotations

from typing import Any

from ivyport.core.build import Builder
from ivyport.core.dims import Dim, DimLike
from ivyport.core.ir import NewAxis, Node, Slice, Value
from ivyport.core.passes.match import constant, made_by
from ivyport.core.passes.rewrite import Rule

FULL = Slice()


def merge_indices(b: Builder, node: Node) -> Value | None:
    """``x[:, 0][None]`` is ``x[None, :, 0]``."""
    inner = made_by(node.inputs[0], "getitem")
    if inner is None or not isinstance(inner.inputs[0], Value):
        return None
    x = inner.inputs[0]
    pending = list(node.attrs["index"])
    result: list[Any] = []
    padded = list(inner.attrs["index"])
    consumed = sum(not isinstance(i, NewAxis) for i in padded)
    padded += [FULL] * (x.type.rank - consumed)
    for item in padded:
        if isinstance(item, int | Dim):
            result.append(item)  # this axis is gone: the outer index does not see it
            continue
        while pending and isinstance(pending[0], NewAxis):
            result.append(pending.pop(0))
        outer = pending.pop(0) if pending else FULL
        combined = _combine(item, outer)
        if combined is None:
            return None
        result += combined
    result += pending
    return b.getitem(x, index=_trim(result))


def _combine(inner: Any, outer: Any) -> list[Any] | None:
    """Index items that do `inner` and then `outer` on one axis; None if they do not join."""
    if isinstance(inner, NewAxis):
        if isinstance(outer, int):
            return []
        return [inner] if outer == FULL else None
    if outer == FULL:
        return [inner]
    if inner == FULL:
        return [outer]
    if inner.step != 1 or inner.start not in (None, 0):
        return None
    if isinstance(outer, int) and outer >= 0:
        return [outer] if isinstance(inner.stop, int) and outer < inner.stop else None
    return None


def _trim(index: list[Any]) -> tuple[Any, ...]:
    while index and index[-1] == FULL:
        index.pop()
    return tuple(index) or (FULL,)


def trim_index(b: Builder, node: Node) -> Value | None:
    """Trailing full slices say nothing."""
    index = node.attrs["index"]
    trimmed = _trim(list(index))
    if trimmed == index:
        return None
    return b.getitem(node.inputs[0], index=trimmed)


def slice_range(b: Builder, node: Node) -> Value | None:
    """``arange(n)[a:b]`` is ``arange(a, b)``; new axes stay an index."""
    line = made_by(node.inputs[0], "arange")
    if (
        line is None
        or line.attrs["step"] != 1
        or isinstance(line.attrs["start"], float)
    ):
        return None
    index = node.attrs["index"]
    cuts = [i for i in index if not isinstance(i, NewAxis)]
    if len(cuts) != 1 or not isinstance(cuts[0], Slice) or cuts[0] == FULL:
        return None
    cut, start = cuts[0], line.attrs["start"]
    bounds = (cut.start or 0, cut.stop)
    if cut.step != 1 or any(isinstance(x, int) and x < 0 for x in bounds):
        return None
    first = start + (cut.start or 0)
    last = line.attrs["stop"] if cut.stop is None else start + cut.stop
    made = b.arange(start=first, stop=last, step=1, dtype=line.attrs["dtype"])
    rest = tuple(FULL if i is cut else i for i in index)
    view = b.getitem(made, index=_trim(list(rest))) if len(rest) > 1 else made
    return view if view.type == node.output.type else None  # a stop behind the end


def shift_range(b: Builder, node: Node) -> Value | None:
    """``arange(n) + k`` is ``arange(k, n + k)``."""
    x, y = node.inputs
    line, offset = made_by(x, "arange"), constant(y)
    integers = isinstance(offset, int | Dim) and not isinstance(offset, bool)
    if line is None or not integers or line.attrs["step"] != 1 or isinstance(y, Value):
        return None
    if any(isinstance(line.attrs[k], float) for k in ("start", "stop")):
        return None
    start, stop = line.attrs["start"] + offset, line.attrs["stop"] + offset
    return b.arange(start=start, stop=stop, step=1, dtype=line.attrs["dtype"])


def _range_axis(value: Any, size: DimLike) -> int | None:
    """The axis along which `value` runs 0 ... size - 1 while it is constant elsewhere."""
    line = made_by(value, "arange")
    axis = 0
    if line is None:
        view = made_by(value, "getitem")
        line = made_by(view.inputs[0], "arange") if view else None
        if view is None or line is None:
            return None
        index = view.attrs["index"]
        if any(not isinstance(i, NewAxis) and i != FULL for i in index):
            return None
        axes = [i for i, item in enumerate(index) if item == FULL]
        axis = axes[0] if axes else value.type.rank - 1
    whole = line.attrs["start"] == 0 and line.attrs["step"] == 1
    return axis if whole and line.attrs["stop"] == size else None


def index_by_ranges(b: Builder, node: Node) -> Value | None:
    """``x[arange(B)[:, None, None], arange(S)]`` only adds axes: ``x[:, None, :]``."""
    x, *indices = node.inputs
    if not isinstance(x, Value) or len(indices) != x.type.rank:
        return None
    if any(not isinstance(i, Value) for i in indices):
        return None
    rank = node.output.type.rank
    places = []
    for position, i in enumerate(indices):
        assert isinstance(i, Value)
        axis = _range_axis(i, x.type.shape[position])
        if axis is None:
            return None
        places.append(axis + rank - i.type.rank)
    if places != sorted(set(places)):
        return None
    index = tuple(FULL if i in places else NewAxis() for i in range(rank))
    made = b.getitem(x, index=_trim(list(index)))
    return made if made.type == node.output.type else None


def gather_constant(b: Builder, node: Node) -> Value | None:
    """Picking from a tensor of one value gives that value."""
    source = made_by(node.inputs[0], "full")
    if source is None:
        return None
    type_ = node.output.type
    return b.full(shape=type_.shape, value=source.attrs["value"], dtype=type_.dtype)


def gather_rows(b: Builder, node: Node) -> Value | None:
    """Picking from a range gives the index itself."""
    source = node.inputs[0]
    axis, index = node.attrs["axis"], node.inputs[1]
    if not isinstance(source, Value) or not isinstance(index, Value):
        return None
    held = _range_axis(source, source.type.shape[axis])
    rank = source.type.rank
    if held != axis % rank or source.type.dtype != index.type.dtype:
        return None
    return index


def swap_index_permute(b: Builder, node: Node) -> Value | None:
    """A permutation that only moves axes of size one is an index with new axes."""
    x = node.inputs[0]
    if not isinstance(x, Value) or made_by(x, "getitem") is None:
        return None
    inner = x.producer
    assert inner is not None
    index = inner.attrs["index"]
    if any(i != FULL and not isinstance(i, NewAxis) for i in index):
        return None
    base = inner.inputs[0]
    assert isinstance(base, Value)
    padded = [*index, *[FULL] * (x.type.rank - len(index))]
    moved = [padded[a] for a in node.attrs["axes"]]
    kept = [a for a in node.attrs["axes"] if padded[a] == FULL]
    if kept != sorted(kept):
        return None
    return b.getitem(base, index=_trim(moved))


INDEX_RULES: dict[str, list[Rule]] = {
    "getitem": [merge_indices, trim_index, slice_range],
    "add": [shift_range],
    "index": [index_by_ranges],
    "take_along_axis": [gather_constant, gather_rows],
    "permute_dims": [swap_index_permute],
}
