"""Functions that emitted JAX files copy where torch has another derivative at a single point."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "absolute",
    "atan2",
    "clamp",
    "difference",
    "first_max",
    "first_min",
    "leaky_relu",
    "multiplied_at",
    "power",
    "root",
    "std",
    "vector_norm",
]


def absolute(x: jax.Array) -> jax.Array:
    """|x| whose slope at 0 is 0, as torch has it, and not 1."""
    return jnp.where(x == 0, jnp.zeros_like(x), jnp.abs(x))


def difference(x: jax.Array, y: jax.Array) -> jax.Array:
    """x - y, exactly 0 where both are equal, under jit too.

    XLA does not round a product that it subtracts, so that x * w - x * w is not 0.
    """
    found = x - y
    return jnp.where(x == y, found - jax.lax.stop_gradient(found), found)


def leaky_relu(x: jax.Array, negative_slope: float = 0.01) -> jax.Array:
    """x where positive, else negative_slope * x; at 0 too, as torch has it."""
    return jnp.where(x > 0, x, negative_slope * x)


def clamp(
    x: jax.Array, *, min: float | None = None, max: float | None = None
) -> jax.Array:
    """jnp.clip(x, min, max) whose slope at a bound is 1, as torch has it, and not 0.5."""
    bounds = [bound for bound in (min, max) if bound is not None]
    inside = jnp.isin(x, jnp.asarray(bounds, x.dtype))
    return jnp.where(inside, x, jnp.clip(x, min, max))


def first_max(x: jax.Array, axis: int = 0, *, keepdims: bool = False) -> jax.Array:
    """The maximum along an axis; of equal ones the first gets the gradient, as in torch."""
    found = jnp.take_along_axis(x, jnp.argmax(x, axis, keepdims=True), axis)
    return found if keepdims else found.squeeze(axis)


def first_min(x: jax.Array, axis: int = 0, *, keepdims: bool = False) -> jax.Array:
    """The minimum along an axis; of equal ones the first gets the gradient, as in torch."""
    found = jnp.take_along_axis(x, jnp.argmin(x, axis, keepdims=True), axis)
    return found if keepdims else found.squeeze(axis)


def atan2(y: jax.Array, x: jax.Array) -> jax.Array:
    """The angle of (x, y); the origin has no gradient, as in torch."""
    origin = (x == 0) & (y == 0)
    angle = jnp.atan2(*jax.lax.stop_gradient((y, x)))
    return jnp.where(origin, angle, jnp.atan2(y, jnp.where(origin, 1, x)))


def multiplied_at(
    x: jax.Array, where: tuple[jax.Array, ...], values: jax.Array | float
) -> jax.Array:
    """x.at[where].mul(values) with a gradient, which JAX has for distinct places alone."""

    @jax.custom_jvp
    def product(
        x: jax.Array, where: tuple[jax.Array, ...], values: jax.Array
    ) -> jax.Array:
        return x.at[where].mul(values)

    def derivative(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
        (x, where, v), (dx, _, dv) = primals, tangents
        found = x.at[where].mul(v)
        # What a factor is multiplied with; a single zero leaves out itself.
        zeros = jnp.zeros_like(x).at[where].add((v == 0).astype(x.dtype))
        lone = (v == 0) & (zeros[where] == 1)
        others = x.at[where].mul(jnp.where(lone, 1, v))[where]
        rest = jnp.where(lone, others, found[where] / jnp.where(v == 0, 1, v))
        of_x = jnp.ones_like(x).at[where].mul(v)
        return found, (dx * of_x).at[where].add(dv * rest)

    product.defjvp(derivative)
    shape = jnp.broadcast_shapes(*(index.shape for index in where))
    return product(x, where, jnp.broadcast_to(jnp.asarray(values, x.dtype), shape))


def power(x: jax.Array, y: jax.Array) -> jax.Array:
    """x ** y whose slope by x is 0 for y = 0, as torch has it, also where x is 0."""
    return jnp.where(y == 0, jax.lax.stop_gradient(x), x) ** y


def root(x: jax.Array, power: float = 0.5) -> jax.Array:
    """x ** power whose slope at 0 is 0, as torch has it, and not infinite."""
    return jnp.where(x == 0, 0, jnp.where(x == 0, 1, x) ** power)


def std(
    x: jax.Array,
    axis: int | tuple[int, ...] | None = None,
    *,
    keepdims: bool = False,
    ddof: float = 0,
) -> jax.Array:
    """The standard deviation; equal elements have no gradient, as in torch."""
    return root(x.var(axis, keepdims=keepdims, ddof=ddof))


def vector_norm(
    x: jax.Array,
    axis: int | tuple[int, ...] | None = None,
    *,
    keepdims: bool = False,
    ord: float = 2,
) -> jax.Array:
    """(sum |x|^ord)^(1/ord); a vector of zeros has no gradient, as in torch."""
    if ord == 2:
        return root(jnp.square(x).sum(axis, keepdims=keepdims))
    size = jnp.where(x == 0, 0, jnp.abs(x))
    if ord == 1:
        return size.sum(axis, keepdims=keepdims)
    return root(root(size, ord).sum(axis, keepdims=keepdims), 1 / ord)
