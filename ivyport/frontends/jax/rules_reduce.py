"""Reductions, running reductions and order."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax.extend.core import Jaxpr

from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Value
from ivyport.frontends.jax.registry import JaxBuilder, lowers
from ivyport.frontends.jax.sizes import dtype_name

Number = Value | Scalar
REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_prod": "prod",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_or": "any",
    "reduce_and": "all",
}
ON_BOOL = {"max": "any", "min": "all"}
CUMULATIVE = {
    "cumsum": "cumulative_sum",
    "cumprod": "cumulative_prod",
    "cummax": "cumulative_max",
    "cummin": "cumulative_min",
    "cumlogsumexp": "cumulative_logsumexp",
}


def _reduction(op: str) -> Callable[..., Value]:
    def rule(b: JaxBuilder, x: Number, *, axes: tuple[int, ...]) -> Value:
        x = b.tensor(x)
        boolean = x.type.dtype == "bool"
        if op in ("any", "all") and not boolean:
            raise GraphError(f"bitwise {op} of integers")
        if not axes:
            return x
        name = ON_BOOL.get(op, op) if boolean else op
        return b.node(
            name, (x,), {"axis": tuple(int(a) for a in axes), "keepdims": False}
        ).output

    return rule


for _primitive, _op in REDUCTIONS.items():
    lowers(_primitive)(_reduction(_op))


# What a computation of one equation combines two numbers with, and how much of them.
MONOIDS = {
    "add": ("sum", "add"),
    "mul": ("prod", "multiply"),
    "max": ("max", "maximum"),
    "min": ("min", "minimum"),
    "or": ("any", "logical_or"),
    "and": ("all", "logical_and"),
}


def monoid(body: Jaxpr) -> str:
    """The primitive of a computation that only combines its two arguments.

    Raises:
        GraphError: it does anything else.
    """
    (eqn,) = body.eqns if len(body.eqns) == 1 else (None,)
    if eqn is None or eqn.primitive.name not in MONOIDS:
        raise GraphError("a computation that is no sum, product, maximum or minimum")
    if eqn.outvars != body.outvars or set(eqn.invars) != set(body.invars):
        raise GraphError("a computation that does not combine its arguments alone")
    return eqn.primitive.name


@lowers("reduce")
def reduce(
    b: JaxBuilder, *operands: Number, computation: Any, dimensions: Any, jaxpr: Any
) -> Value:
    """`lax.reduce` with a computation of its own, and a first value."""
    if len(operands) != 2:
        raise GraphError("a reduction of several operands at once")
    name, combine = MONOIDS[monoid(jaxpr.jaxpr)]
    if (name in ("any", "all")) != (b.out.dtype == "bool"):
        raise GraphError(f"{name} of {b.out.dtype}")
    x = b.tensor(operands[0])
    if dimensions:
        axes = tuple(int(d) for d in dimensions)
        x = b.node(name, (x,), {"axis": axes, "keepdims": False}).output
    return b.node(combine, (x, operands[1]), {}).output


def _extreme(op: str) -> Callable[..., Value]:
    def rule(
        b: JaxBuilder, x: Value, *, axes: tuple[int, ...], index_dtype: Any
    ) -> Value:
        (axis,) = axes
        attrs = {"axis": int(axis), "keepdims": False}
        found = b.node(op, (b.tensor(x),), attrs).output
        return b.cast(found, dtype_name(index_dtype))

    return rule


for _op in ("argmax", "argmin"):
    lowers(_op)(_extreme(_op))


def _cumulative(op: str) -> Callable[..., Value]:
    def rule(b: JaxBuilder, x: Value, *, axis: int, reverse: bool) -> Value:
        axes = (int(axis),)
        x = b.flip(x, axis=axes) if reverse else x
        x = b.node(op, (x,), {"axis": int(axis)}).output
        return b.flip(x, axis=axes) if reverse else x

    return rule


for _primitive, _op in CUMULATIVE.items():
    lowers(_primitive)(_cumulative(_op))


@lowers("sort")
def sort(
    b: JaxBuilder, *xs: Value, dimension: int, is_stable: bool, num_keys: int
) -> tuple[Value, ...]:
    """All operands in the order of the first `num_keys`, lexicographically."""
    axis = int(dimension)
    if len(xs) == 1:
        return (b.sort(xs[0], axis=axis, stable=False)[0],)
    if num_keys == 1:
        first, order = b.sort(xs[0], axis=axis, stable=bool(is_stable))
        return (first, *(_ordered(b, x, order, axis) for x in xs[1:]))
    order = None
    for key in reversed(xs[:num_keys]):  # stable sorts, the least significant key first
        key = key if order is None else b.take_along_axis(key, order, axis=axis)
        _, step = b.sort(key, axis=axis, stable=True)
        order = step if order is None else b.take_along_axis(order, step, axis=axis)
    assert order is not None
    return tuple(_ordered(b, x, order, axis) for x in xs)


def _ordered(b: JaxBuilder, x: Value, order: Value, axis: int) -> Value:
    """x in that order; where x counts along the axis it is the order itself."""
    if x.type.dtype in ("int32", "int64") and _counts(x, axis):
        return b.cast(order, x.type.dtype)
    return b.take_along_axis(x, order, axis=axis)


def _counts(x: Value, axis: int) -> bool:
    rank = x.type.rank
    node = x.producer
    while node is not None and node.op in ("reshape", "broadcast_to"):
        source = node.inputs[0]
        assert isinstance(source, Value)
        shape = source.type.shape
        placed = tuple(d if i == axis else 1 for i, d in enumerate(x.type.shape))
        if len(shape) == rank and shape not in (placed, x.type.shape):
            return False
        if len(shape) != rank and node.output.type.shape != placed:
            return False
        node = source.producer
    if node is None or node.op != "arange":
        return False
    return node.attrs["start"] == 0 and node.attrs["step"] == 1


@lowers("top_k")
def top_k(b: JaxBuilder, x: Value, *, k: Any, axis: int) -> tuple[Value, Value]:
    values, indices = b.topk(x, k=b.size(k), axis=int(axis), largest=True, stable=True)
    return values, b.cast(indices, b.outs[1].dtype)
