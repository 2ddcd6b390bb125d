"""Rules for the operations of `ivyport.core.ops_lax`."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.jax.rules_array import PROMOTED
from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table
from ivyport.backends.spelling import colons, one_axis
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Value
from ivyport.core.ops import normalize
from ivyport.core.ops_nn import Pads, spatial_axes

RULES, emits = rule_table()


@emits("cbrt", "exp2", "signbit")
def numpy_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"jnp.{e.node.op}", x)


@emits("erfc", "lgamma", "digamma", "stop_gradient")
def lax_function(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call(f"jax.lax.{e.node.op}", x)


@emits("fmod", "nextafter")
def binary_function(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.call(f"jnp.{e.node.op}", x, y)


@emits("trunc_divide")
def trunc_divide(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    shapes = [v.type.shape for v in e.node.inputs if isinstance(v, Value)]
    if any(shape != e.out.shape for shape in shapes):
        return e.rt("trunc_divide", x, y)
    return e.call("jax.lax.div", x, y)


# ---- running reductions


@emits("cumulative_prod")
def cumulative_prod(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    dtype = e.dtype(e.out.dtype) if e.out.dtype in PROMOTED else OMIT
    return e.call("jnp.cumprod", x, axis=one_axis(axis, e.out.rank), dtype=dtype)


@emits("cumulative_max", "cumulative_min", "cumulative_logsumexp")
def running(e: Exprs, x: ast.expr, *, axis: int) -> ast.expr:
    function = "cum" + e.node.op.removeprefix("cumulative_")
    return e.call(f"jax.lax.{function}", x, axis=normalize(axis, e.out.rank))


# ---- slices at computed places


@emits("dynamic_slice")
def dynamic_slice(
    e: Exprs, x: ast.expr, *starts: ast.expr, sizes: tuple[DimLike, ...]
) -> ast.expr:
    # By default JAX counts negative starts from the end, which the graph has done itself.
    return e.call(
        "jax.lax.dynamic_slice",
        x,
        tuple(starts),
        tuple(sizes),
        allow_negative_indices=False,
    )


@emits("dynamic_update_slice")
def dynamic_update_slice(
    e: Exprs, x: ast.expr, values: ast.expr, *starts: ast.expr
) -> ast.expr:
    return e.call(
        "jax.lax.dynamic_update_slice",
        x,
        values,
        tuple(starts),
        allow_negative_indices=False,
    )


@emits("index_reduce")
def index_reduce(
    e: Exprs,
    x: ast.expr,
    values: ast.expr,
    *indices: ast.expr | None,
    mode: str,
    drop: bool,
) -> ast.expr:
    where = e.index(attribute(x, "at"), colons(indices))
    return e.method(where, mode, values)


# ---- windows


@emits("sum_pool")
def sum_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    layout: str,
) -> ast.expr:
    rank = e.out.rank
    space = spatial_axes(layout, rank)

    def spread(items: tuple[Any, ...], other: Any) -> tuple[Any, ...]:
        return tuple(
            items[space.index(i)] if i in space else other for i in range(rank)
        )

    return e.call(
        "jax.lax.reduce_window",
        x,
        0.0,
        e.name("jax.lax.add"),
        spread(kernel, 1),
        spread(stride, 1),
        spread(tuple(tuple(pair) for pair in padding), (0, 0)),
    )


# ---- randomness


def _key(e: Exprs) -> ast.expr:
    """A fresh key of the stream of the module that draws: ``self.noise()``."""
    if e.stream is None:
        raise GraphError(f"{e.node.op}: no layer gives it random numbers")
    return e.stream


@emits("random_uniform", "random_normal")
def random_floats(e: Exprs, *, shape: tuple[DimLike, ...], dtype: str) -> ast.expr:
    kind = OMIT if dtype == "float32" else e.dtype(dtype)
    function = e.node.op.removeprefix("random_")
    return e.call(f"jax.random.{function}", _key(e), tuple(shape), kind)


@emits("random_bernoulli")
def random_bernoulli(e: Exprs, p: ast.expr, *, shape: tuple[DimLike, ...]) -> ast.expr:
    return e.call("jax.random.bernoulli", _key(e), p, tuple(shape))
