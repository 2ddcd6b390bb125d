"""Runs a function of JAX arrays with every random draw fixed at one quantile.

All draws of `jax.random` are made of random bits. Where each of those is the same number, a
uniform draw is the quantile, a normal one that of the normal distribution, a Bernoulli draw
is true where its probability is greater, and a permutation is the identity. An integer, which
JAX makes of several draws, is the quantile of what it may be.

What is drawn of a key that no argument has a part in is no draw but a constant of the function,
and stays what it is: a key of the caller's has to be an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        varying = [True] * len(closed.jaxpr.invars)
        jaxpr, _ = _rewritten(closed.jaxpr, varying, quantile, loops=False)
        steady = closed.replace(jaxpr=jaxpr)
        results = jaxpr_as_fun(steady)(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return call


def _rewritten(
    jaxpr: Jaxpr, varying: Sequence[bool], quantile: float, *, loops: bool
) -> tuple[Jaxpr, list[bool]]:
    """The jaxpr with constants for its random bits, in all that it calls.

    `varying` says which of its inputs the caller gives; the result says it of the outputs. In
    `loops` that end by what they compute nothing may be drawn: those that draw until a number
    is accepted would not end.
    """
    known = {v for v, varies in zip(jaxpr.invars, varying, strict=True) if varies}
    equations = []
    for eqn in jaxpr.eqns:
        flags = [not isinstance(x, Literal) and x in known for x in eqn.invars]
        made, found = _equation(eqn, flags, quantile, loops)
        known.update(v for v, varies in zip(made.outvars, found, strict=True) if varies)
        equations.append(made)
    results = [not isinstance(x, Literal) and x in known for x in jaxpr.outvars]
    return jaxpr.replace(eqns=equations), results


def _equation(
    eqn: JaxprEqn, flags: list[bool], quantile: float, loops: bool
) -> tuple[JaxprEqn, list[bool]]:
    """The equation with its draws fixed, and which of its results the caller's inputs vary."""
    name, varies = eqn.primitive.name, [any(flags)] * len(eqn.outvars)
    if name == "rng_uniform" or (name in _OPAQUE and flags[0]):
        raise NotFixed(f"it draws random numbers by {name}")
    if name == "random_bits" and flags[0]:
        if loops:
            raise NotFixed("it draws random numbers by a loop that ends by its data")
        made = _constant(eqn.params["bit_width"], eqn.params["shape"], quantile)
        return made.replace(outvars=eqn.outvars), varies
    if eqn.params.get("name") == "_randint" and flags[0]:
        params = {**eqn.params, "jaxpr": _integers(eqn, quantile)}
        return eqn.replace(params=params), varies
    if name == "scan":
        return _scan(eqn, flags, quantile, loops)
    if name == "while":
        return _while(eqn, flags, quantile)
    found: list[list[bool]] = []

    def visit(value: Any) -> Any:
        if isinstance(value, ClosedJaxpr):
            return value.replace(jaxpr=visit(value.jaxpr))
        if isinstance(value, Jaxpr):
            given = flags[1:] if name == "cond" else flags
            if len(given) != len(value.invars):
                given = [any(flags)] * len(value.invars)
            inner, results = _rewritten(value, given, quantile, loops=loops)
            found.append(results)
            return inner
        return type(value)(map(visit, value)) if type(value) in (tuple, list) else value

    made = eqn.replace(params={key: visit(v) for key, v in eqn.params.items()})
    if not found or any(len(results) != len(varies) for results in found):
        return made, varies
    chosen = name == "cond" and flags[0]
    return made, [chosen or any(each) for each in zip(*found, strict=True)]


def _scan(
    eqn: JaxprEqn, flags: list[bool], quantile: float, loops: bool
) -> tuple[JaxprEqn, list[bool]]:
    first, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    body, flags = eqn.params["jaxpr"], list(flags)
    while True:
        made, results = _rewritten(body.jaxpr, flags, quantile, loops=loops)
        carry = flags[first : first + carried]
        after = [a or b for a, b in zip(carry, results, strict=False)]
        if after == carry:
            params = {**eqn.params, "jaxpr": body.replace(jaxpr=made)}
            return eqn.replace(params=params), results
        flags[first : first + carried] = after


def _while(
    eqn: JaxprEqn, flags: list[bool], quantile: float
) -> tuple[JaxprEqn, list[bool]]:
    of_cond, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
    own, consts = flags[:of_cond], flags[of_cond : of_cond + of_body]
    carry = flags[of_cond + of_body :]
    while True:
        test, ends = _rewritten(cond.jaxpr, [*own, *carry], quantile, loops=True)
        made, results = _rewritten(body.jaxpr, [*consts, *carry], quantile, loops=True)
        after = [a or b or any(ends) for a, b in zip(carry, results, strict=True)]
        if after == carry:
            params = {
                **eqn.params,
                "cond_jaxpr": cond.replace(jaxpr=test),
                "body_jaxpr": body.replace(jaxpr=made),
            }
            return eqn.replace(params=params), carry
        carry = after


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
