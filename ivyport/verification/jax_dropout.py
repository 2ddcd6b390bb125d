"""Runs a JAX source, or a port to NNX, without its dropout.

Each library has one function or layer that everything else drops with. Those are
replaced while a model is traced; no code of the model is changed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr

# Where each library has its function, its attention and its layer.
_HAIKU = ("haiku", "haiku._src.basic")
_ATTENTION = ("flax.linen.attention", "flax.nnx.nn.attention")
_HELPER = "dropped"  # of ivyport.backends.jax._rt
_LAYERS = ("flax.linen", "flax.nnx")
#: What a dropout is called in a jaxpr, before its rate.
_TAG = "ivyport dropout "


@contextlib.contextmanager
def without_dropout(
    emitted: dict[str, Any] | None = None, *, scaled: bool = False
) -> Iterator[list[float]]:
    """Dropout of haiku, linen and nnx keeps everything, attention's own included.

    Where `scaled`, it scales what it keeps by 1 / (1 - rate), as it does when it drops.

    The list fills with the rate of each dropout that would have drawn, as it is traced.
    `emitted` are the names of a port's file, whose helper may drop too.
    """
    rates: list[float] = []
    with contextlib.ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        for module in _loaded(_HAIKU):
            put(module, "dropout", _kept(rates, scaled))
        for module in _loaded(_ATTENTION):
            weights = "dot_product_attention_weights"
            put(module, weights, _deterministic(vars(module)[weights], rates, scaled))
        for module in _loaded(_LAYERS):
            put(module.Dropout, "__call__", _same(rates, scaled))
        if emitted is not None and _HELPER in emitted:
            stack.callback(emitted.__setitem__, _HELPER, emitted[_HELPER])
            emitted[_HELPER] = _dropped(rates, scaled)
        yield rates


def _loaded(names: Iterable[str]) -> list[Any]:
    return [m for name in names if (m := sys.modules.get(name)) is not None]


def counted(run: Callable[..., Any], *arguments: Any) -> list[float]:
    """The rate of each dropout of `run`, which is traced: those of a scan once a step."""
    return list(_counted(jax.make_jaxpr(run)(*arguments).jaxpr))


def _counted(jaxpr: Jaxpr) -> Iterator[float]:
    for eqn in jaxpr.eqns:
        name = eqn.params.get("name")
        if eqn.primitive.name == "name" and str(name).startswith(_TAG):
            yield float(str(name).removeprefix(_TAG))
        steps = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for inner in _inside(list(eqn.params.values())):
            yield from list(_counted(inner)) * steps


def _inside(values: Iterable[Any]) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif type(value) in (tuple, list):
            yield from _inside(value)


def _kept_of(rates: list[float], x: Any, rate: Any, scaled: bool) -> Any:
    """What a dropout leaves that keeps everything; its rate is filed where it drops.

    A rate that is traced counts as one half.
    """
    try:
        known = float(rate)
    except (TypeError, jax.errors.ConcretizationTypeError):
        known = 0.5
    if known:
        rates.append(known)
        x = checkpoint_name(x, f"{_TAG}{known}")
    if not scaled:
        return x
    if isinstance(rate, int | float):
        return x / (1 - rate) if rate < 1 else jnp.zeros_like(x)
    return (x / (1 - rate)).astype(x.dtype)


def _dropped(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """The emitted helper that draws in eval mode too, of nothing."""

    def dropped(x: Any, rate: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        return _kept_of(rates, x, rate, scaled)

    return dropped


def _kept(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """`haiku.dropout` of nothing."""

    def dropout(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
        del rng, broadcast_dims
        return _kept_of(rates, x, rate, scaled)

    return dropout


def _same(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """A dropout layer that drops nothing."""

    def called(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # linen takes it by position too.
        given = args[0] if args else kwargs.get("deterministic")
        if layer.deterministic if given is None else given:
            return inputs
        return _kept_of(rates, inputs, layer.rate, scaled)

    return called


def _deterministic(
    function: Callable[..., Any], rates: list[float], scaled: bool
) -> Callable[..., Any]:
    """The function with its argument `deterministic` set."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        drops, rate = (
            not bound.arguments["deterministic"],
            bound.arguments["dropout_rate"],
        )
        bound.arguments["deterministic"] = True
        made = function(*bound.args, **bound.kwargs)
        return _kept_of(rates, made, rate, scaled) if drops else made

    return called
