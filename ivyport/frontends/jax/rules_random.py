"""Randomness: keys vanish, draws become operations that draw from the target's own stream."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.random.html)

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from ivyport.core import dtype as dt
from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Value
from ivyport.core.passes.match import constant
from ivyport.frontends.jax.registry import (
    Found,
    JaxBuilder,
    Key,
    lowers,
    names,
)
from ivyport.frontends.jax.rules_named import equations

# Primitives that give keys when they are given keys.
PLUMBING = frozenset(
    {
        *("random_wrap", "random_unwrap", "random_split", "random_fold_in"),
        *("random_clone", "random_seed", "copy", "copy_p", "stop_gradient"),
        *("slice", "squeeze", "reshape", "broadcast_in_dim", "concatenate", "pad"),
        *("transpose", "rev", "dynamic_slice", "gather", "split", "stack", "unstack"),
        *("dynamic_update_slice", "scatter", "select_n", "optimization_barrier"),
        "convert_element_type",
    }
)
# Primitives that give numbers.
DRAWS = frozenset({"random_bits", "cond", "scan", "while"})


@lowers("random_wrap")
def wrap(b: JaxBuilder, *operands: Found, **params: Any) -> Key:
    """A key of raw data that the caller gives."""
    return Key(b.out.shape)


@lowers("random_seed", "random_clone", "random_fold_in", "random_split")
def seed(b: JaxBuilder, *operands: Found, **params: Any) -> Key:
    """A key made of numbers that a call computes."""
    return Key(b.out.shape, own=True)


@lowers("random_bits")
def random_bits(b: JaxBuilder, key: Found, *, bit_width: int, shape: Any) -> Value:
    if isinstance(key, Key):
        _demand_given(key)
    raise GraphError(
        "random bits as such: draws are ported that are made of uniform, normal, Bernoulli, Gumbel "
        "and integer ones, choices and permutations; draw outside of the model and pass the "
        "array as an argument"
    )


# Functions that draw: their names are theirs under `jax.grad` too, which has no part in keys.
DRAWN = ("_uniform", "_normal", "_bernoulli", "_randint", "_shuffle")


def _draws_anew(operands: tuple[Found, ...]) -> bool:
    """Whether it is one draw of a key of the caller's.

    The bits of the source's own key are constants of the body, whatever its bounds are.
    """
    if not operands or not isinstance(operands[0], Key):
        return False
    _demand_given(operands[0])
    return operands[0].shape == () and operands[0].value is None


def _demand_given(key: Key) -> None:
    """Numbers of a key of the source's own have to be those numbers.

    Raises:
        GraphError: the key is made of what only a call knows.
    """
    if key.own and key.value is None:
        raise GraphError(
            "a draw of a key that the source makes of data, of a counter or in a loop: the "
            "numbers follow from it, and no other framework draws them; make the key outside "
            "and pass it as an argument, or pass the numbers"
        )


def _bounds(body: ClosedJaxpr, operands: tuple[Found, ...]) -> list[Found]:
    """The lower and the upper bound; given by name, they come in the order of their names."""
    info = body.jaxpr.debug_info
    given = (info.arg_names if info is not None else None) or ()
    bounds = list(operands[1:])
    return bounds[::-1] if given[1:2] == ("maxval",) else bounds


@names("_uniform")
def uniform(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``uniform(key, low, high)``: low + (high - low) * u, u in [0, 1)."""
    type_ = b.out
    if len(operands) != 3 or not dt.is_float(type_.dtype):
        return None
    low, high = _bounds(body, operands)
    if _draws_anew(operands):
        drawn = b.random_uniform(shape=type_.shape, dtype=type_.dtype)
    elif isinstance(operands[0], Key) and operands[0].value is not None:
        return _between(b, operands[0].value, low, high)
    else:
        return None
    if (constant(low), constant(high)) == (0, 1):
        return drawn
    if isinstance(low, Scalar) and isinstance(high, Scalar):
        spans = float(high.value) - float(low.value)  # type: ignore[arg-type]  # bounds of a draw are numbers
        return b.add(b.multiply(drawn, Scalar(spans)), Scalar(float(low.value)))  # type: ignore[arg-type]  # as above
    if isinstance(low, Key) or isinstance(high, Key):
        raise GraphError("a PRNG key is no bound")
    low, high = (b.cast(b.tensor(x, i), type_.dtype) for i, x in ((1, low), (2, high)))
    return b.add(b.multiply(drawn, b.subtract(high, low)), low)


def _between(b: JaxBuilder, key: Any, low: Found, high: Found) -> Value:
    """Numbers of the source's own key between bounds that are computed."""
    type_ = b.out
    b.lowering.draws.demand_constant(type_.shape)
    if isinstance(low, Key) or isinstance(high, Key):
        raise GraphError("a PRNG key is no bound")
    given = b.lowering.draws.numbers(
        jax.random.uniform(key, type_.shape, np.dtype(type_.dtype))
    )
    assert not isinstance(given, Key)
    low, high = (b.cast(b.tensor(x, i), type_.dtype) for i, x in ((1, low), (2, high)))
    spread = b.multiply(b.tensor(given, 0), b.subtract(high, low))
    return b.maximum(low, b.add(spread, low))


@names("_normal")
def normal(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``normal(key)``: mean 0, variance 1."""
    if not _draws_anew(operands) or len(operands) != 1 or not dt.is_float(b.out.dtype):
        return None
    return b.random_normal(shape=b.out.shape, dtype=b.out.dtype)


@names("_bernoulli")
def bernoulli(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``bernoulli(key, p)``: true with probability p."""
    if not _draws_anew(operands) or len(operands) != 2 or b.out.dtype != "bool":
        return None
    return b.random_bernoulli(operands[1], shape=b.out.shape)


@names("_randint")
def randint(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``randint(key, low, high)``: integers in [low, high), or low where that is empty."""
    if not _draws_anew(operands) or len(operands) != 3:
        return None
    low, high = _bounds(body, operands)
    if isinstance(low, Key) or isinstance(high, Key):
        raise GraphError("a PRNG key is no bound")
    type_ = b.out
    uniform = b.random_uniform(shape=type_.shape, dtype="float32")
    if isinstance(low, Scalar) and isinstance(high, Scalar):
        span = int(high.value) - int(low.value)  # type: ignore[arg-type]  # bounds are integers
        if span > 2**24:
            raise GraphError(f"randint of {span} numbers: up to 2**24 are drawn")
        last = Scalar(float(max(span - 1, 0)))
        drawn = b.floor(b.multiply(uniform, Scalar(float(max(span, 1)))))
        whole = b.cast(b.clip(drawn, max=last.value), type_.dtype)
        return whole if low.value == 0 else b.add(whole, Scalar(int(low.value)))  # type: ignore[arg-type]  # as above
    low, high = (b.cast(b.tensor(x, i), type_.dtype) for i, x in ((1, low), (2, high)))
    span_ = b.maximum(b.subtract(high, low), Scalar(1))
    drawn = b.floor(b.multiply(uniform, b.cast(span_, "float32")))
    whole = b.minimum(b.cast(drawn, type_.dtype), b.subtract(span_, Scalar(1)))
    return b.add(low, whole)


@names("_shuffle")
def shuffle(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """``permutation(key, x, axis)``: in the order of as many numbers as there are elements."""
    if not _draws_anew(operands) or len(operands) != 2:
        return None
    if not isinstance(operands[1], Value):
        return None
    sorts = [e for e in equations(body) if e.primitive.name == "sort"]
    if not sorts:  # of no more than one element
        return operands[1]
    axis = sorts[0].params["dimension"]
    uniform = b.random_uniform(shape=b.out.shape, dtype="float32")
    order = b.sort(uniform, axis=axis, stable=True)[1]
    return b.take_along_axis(operands[1], order, axis=axis)
