"""Building graphs: `Builder.layer_norm(x, scale, bias, axis=..., eps=...)` adds one typed node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ivyport.core import (  # the op tables register on import
    opdef,
    ops,
    ops_control,
    ops_creation,
    ops_custom,
    ops_lax,
    ops_linalg,
    ops_nn,
)
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Operand, Scalar, Scope, Source, Value

__all__ = [
    "Builder",
    "ops",
    "ops_control",
    "ops_creation",
    "ops_custom",
    "ops_lax",
    "ops_linalg",
    "ops_nn",
]


class Builder:
    """Appends nodes to a list; `scope` and `src` are stamped on what is added.

    >>> b = Builder()
    >>> x = Value(TensorType("float32", (2, 3)), "x")
    >>> b.permute_dims(x, axes=(1, 0)).type
    TensorType(dtype='float32', shape=(3, 2))
    """

    def __init__(self, nodes: list[Node] | None = None) -> None:
        self.nodes: list[Node] = [] if nodes is None else nodes
        self.scope: tuple[Scope, ...] = ()
        self.src: Source | None = None
        self.trains = False  # whether what is built is a graph of train mode

    def node(
        self, op: str, operands: tuple[Operand, ...], attrs: dict[str, Any]
    ) -> Node:
        """Add a node; operands may be Python numbers, which become `Scalar`.

        Raises:
            GraphError: unknown operation, wrong operands or attributes, or illegal types.
        """
        definition = opdef.get(op)
        wrapped = tuple(_operand(x) for x in operands)
        bound, attrs = definition.bind(wrapped, attrs)
        bound = tuple(_operand(x) for x in bound)
        try:
            types = definition.types(bound, attrs)
        except GraphError as error:
            where = f" at {self.src}" if self.src else ""
            raise GraphError(f"{op}: {error}{where}") from None
        node = Node(op, bound, attrs, (), self.scope, self.src)
        node.outputs = tuple(Value(t) for t in types)
        for value in node.outputs:
            value.producer = node
        self.nodes.append(node)
        return node

    def __getattr__(self, op: str) -> Callable[..., Any]:
        if op.startswith("__"):
            raise AttributeError(op)
        opdef.get(op)

        def add(*operands: Any, **attrs: Any) -> Any:
            outputs = self.node(op, operands, attrs).outputs
            return outputs[0] if len(outputs) == 1 else outputs

        return add

    # Conveniences that keep graphs minimal: an operation that changes nothing adds no node.

    def cast(self, x: Value, dtype: str) -> Value:
        """x as `dtype`; x itself if it already is."""
        return x if x.type.dtype == dtype else self.astype(x, dtype=dtype)

    def transpose(self, x: Value, axes: tuple[int, ...]) -> Value:
        """`permute_dims`, or x itself for the identity."""
        if axes == tuple(range(x.type.rank)):
            return x
        return self.permute_dims(x, axes=axes)

    def resize(self, x: Value, shape: tuple[DimLike, ...]) -> Value:
        """`reshape`, or x itself if the shape is its own."""
        return (
            x if x.type.shape == tuple(shape) else self.reshape(x, shape=tuple(shape))
        )

    def expand(self, x: Value, shape: tuple[DimLike, ...]) -> Value:
        """`broadcast_to`, or x itself if the shape is its own."""
        same = x.type.shape == tuple(shape)
        return x if same else self.broadcast_to(x, shape=tuple(shape))


def _operand(x: Any) -> Operand:
    if x is None or isinstance(x, Value | Scalar):
        return x
    if isinstance(x, bool | int | float) or type(x).__name__ == "Dim":
        return Scalar(x)
    raise GraphError(
        f"operand {x!r} is {type(x).__name__}: a Value, number or None is due"
    )
