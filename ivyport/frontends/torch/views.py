"""In-place operations, made functional: a write to a view reaches its base and its siblings."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node as FxNode

from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Slice, Value

aten = torch.ops.aten
VIEWS = {
    aten.view.default,
    aten.reshape.default,
    aten.transpose.int,
    aten.permute.default,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.default,
    aten.slice.Tensor,
    aten.select.int,
    aten.t.default,
    aten.alias.default,
    aten.detach.default,
    aten.flatten.using_ints,
    aten.unflatten.int,
    aten.view_as.default,
    aten.contiguous.default,
    aten.squeeze.dims,
    aten.narrow.default,
    aten.swapaxes.default,
    aten.swapdims.default,
    aten.movedim.int,
    aten.reshape_as.default,
    aten.mT.default,
    aten.numpy_T.default,
    aten.diagonal.default,
    aten.linalg_diagonal.default,
}
CUTS = {
    aten.split.Tensor,
    aten.split_with_sizes.default,
    aten.chunk.default,
    aten.unbind.int,
}


_WAY_OUT = (
    "write to the tensor itself (x[index] = value), or put the result together by torch.cat or "
    "torch.where"
)


class Views:
    """What each fx node stands for now, and which nodes look into the same memory."""

    def __init__(self, builder: Builder, lower: Callable[[FxNode], None]) -> None:
        self.builder = builder
        self.lower = lower
        self.env: dict[FxNode, Any] = {}
        self.base: dict[FxNode, FxNode] = {}
        self.stale: set[FxNode] = set()
        self.made: set[FxNode] = set()  # views that an operation without a rule makes

    def track(self, node: FxNode) -> None:
        """Remember that `node` is a view, if its operation makes one."""
        if node.target in VIEWS and isinstance(node.args[0], FxNode):
            self.base[node] = node.args[0]

    def alias(self, node: FxNode, other: Any) -> None:
        """Remember that `node` is the same memory as `other`.

        An item of a tuple is a view where the operation that made the tuple cuts its operand;
        otherwise (`topk`) it is memory of its own.
        """
        if not isinstance(other, FxNode):
            return
        if node.target is not operator.getitem or other.target in CUTS:
            self.base[node] = other

    def root(self, node: FxNode) -> FxNode:
        """The node that owns the memory."""
        while node in self.base:
            node = self.base[node]
        return node

    def read(self, node: FxNode) -> Any:
        """The value of a node, taken anew if its memory was written to."""
        if node in self.stale:
            self.stale.discard(node)
            base = self.base[node]
            self.read(base)
            if node.target in VIEWS or node in self.made:
                self.lower(node)
            else:
                self.env[node] = self.env[base]
        return self.env[node]

    def write(self, node: FxNode, new: Value) -> None:
        """Record that the memory of `node` now holds `new`.

        Raises:
            GraphError: the view cannot be written back (it is no index, reshape or transpose).
        """
        root = self.root(node)
        current, value = node, new
        written = {node: new}
        while current in self.base:
            base = self.base[current]
            value = self._write_back(self._taken(current), self.env[base], value)
            written[base] = value
            current = base
        self.env.update(written)
        for other in self.env:
            if other not in written and other in self.base and self.root(other) is root:
                self.stale.add(other)

    def _taken(self, node: FxNode) -> Value:
        """A view as it is taken of its base; it was written to before where it is not."""
        base = self.env[self.base[node]]
        view: Value = self.env[node]
        made = view is base or _is_taken(view, base)
        if not made and node.target in VIEWS:
            self.lower(node)
            view = self.env[node]
        return view

    def _write_back(self, view: Value, base: Value, new: Value) -> Value:
        if view is base:
            return new
        producer = view.producer
        if producer is None or not _is_taken(view, base):
            raise GraphError(
                f"a write to a view that cannot be followed to its base: {_WAY_OUT}"
            )
        if producer.op == "getitem":
            return self.builder.slice_update(base, new, index=producer.attrs["index"])
        if producer.op == "split":
            return self.builder.slice_update(base, new, index=_piece(producer, view))
        if producer.op == "reshape":
            return self.builder.reshape(new, shape=base.type.shape)
        if producer.op == "permute_dims":
            axes = producer.attrs["axes"]
            inverse = tuple(axes.index(i) for i in range(len(axes)))
            return self.builder.permute_dims(new, axes=inverse)
        if producer.op == "index" and view.type.shape == new.type.shape:
            return self.builder.index_update(base, new, *producer.inputs[1:])
        if producer.op == "stop_gradient":
            raise GraphError(
                "an in-place write through detach() or .data, which changes a tensor but not "
                "its gradient: write h = h + (new - h).detach() instead"
            )
        raise GraphError(f"a write through {producer.op}: {_WAY_OUT}")


def _is_taken(view: Value, base: Value) -> bool:
    """Whether a value is made of `base`, as an index or a reshape of it."""
    made = view.producer
    return made is not None and bool(made.inputs) and made.inputs[0] is base


def _piece(split: Node, view: Value) -> tuple[Slice, ...]:
    """The index of one piece of a split."""
    position = split.outputs.index(view)
    sizes, axis = split.attrs["sizes"], split.attrs["axis"]
    start: DimLike = 0
    for size in sizes[:position]:
        start = start + size
    axis %= view.type.rank
    return (*[Slice()] * axis, Slice(start, start + sizes[position]))
