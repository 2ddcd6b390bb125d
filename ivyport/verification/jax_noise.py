"""Runs a function of JAX arrays with every random draw fixed at one quantile.

All draws of `jax.random` are made of random bits. Where each of those is the same number, a
uniform draw is the quantile, a normal one that of the normal distribution, a Bernoulli draw
is true where its probability is greater, and a permutation is the identity. An integer, which
JAX makes of several draws, is the quantile of what it may be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from ivyport.verification.sides import NotFixed

#: Primitives that draw and are not made of `random_bits`.
_OPAQUE = frozenset({"random_gamma", "rng_uniform", "rng_bit_generator"})


def fixed(function: Callable[..., Any], quantile: float) -> Callable[..., Any]:
    """`function` of arrays in nested structures, with its draws fixed; it can be traced.

    Raises:
        NotFixed: when called, where something draws that cannot be fixed.
    """

    def call(*arguments: Any) -> Any:
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        steady = closed.replace(jaxpr=_rewritten(closed.jaxpr, quantile, loops=False))
        results = jaxpr_as_fun(steady)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return call


def _rewritten(jaxpr: Jaxpr, quantile: float, *, loops: bool) -> Jaxpr:
    """The jaxpr with constants for its random bits, in all that it calls.

    In `loops` that end by what they compute nothing may be drawn: those that draw until a
    number is accepted would not end.
    """
    return jaxpr.replace(eqns=[_equation(e, quantile, loops) for e in jaxpr.eqns])


def _equation(eqn: JaxprEqn, quantile: float, loops: bool) -> JaxprEqn:
    name = eqn.primitive.name
    if name in _OPAQUE or (name == "random_bits" and loops):
        where = "a loop that ends by its data" if loops else name
        raise NotFixed(f"it draws random numbers by {where}")
    if name == "random_bits":
        made = _constant(eqn.params["bit_width"], eqn.params["shape"], quantile)
        return made.replace(outvars=eqn.outvars)
    loops = loops or name == "while"
    if eqn.params.get("name") == "_randint":
        return eqn.replace(params={**eqn.params, "jaxpr": _integers(eqn, quantile)})

    def visit(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            return value.replace(jaxpr=visit(value.jaxpr))
        if isinstance(value, Jaxpr):
            return _rewritten(value, quantile, loops=loops)
        return type(value)(map(visit, value)) if type(value) in (tuple, list) else value

    return eqn.replace(params={key: visit(v) for key, v in eqn.params.items()})


def _integers(eqn: JaxprEqn, quantile: float) -> ClosedJaxpr:
    """What a draw of integers calls: ``low + floor((high - low) * quantile)``."""
    given = eqn.params["jaxpr"].jaxpr.debug_info.arg_names or ()
    [out] = eqn.outvars

    def integers(key: Any, *bounds: Any) -> Any:
        named = dict(zip(given[1:], bounds, strict=True))
        low, high = named["minval"], named["maxval"]
        span = jnp.maximum(high - low, 1).astype(
            np.float32
        )  # an empty range has its lower bound
        drawn = jnp.floor(span * quantile)
        return jnp.broadcast_to(low + drawn.astype(out.aval.dtype), out.aval.shape)

    made: ClosedJaxpr = jax.make_jaxpr(integers)(*(x.aval for x in eqn.invars))
    return made


def _constant(width: int, shape: tuple[int, ...], quantile: float) -> JaxprEqn:
    """An equation whose result is one number of so many bits everywhere."""
    dtype = np.dtype(f"uint{width}")
    bits = np.asarray(int(quantile * 2**width), dtype)

    def full(number: Any) -> Any:
        if not shape:  # a broadcast of a scalar to a scalar is no equation
            return jax.lax.bitwise_or(number, number)
        return jax.lax.broadcast_in_dim_p.bind(
            number, shape=shape, broadcast_dimensions=(), sharding=None
        )

    jaxpr = jax.make_jaxpr(full)(bits).jaxpr
    [eqn] = jaxpr.eqns
    return eqn.replace(invars=[Literal(bits, jaxpr.invars[0].aval)] * len(eqn.invars))
