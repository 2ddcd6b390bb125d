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

# Where each library has its function, its attention and its layer.
_HAIKU = ("haiku", "haiku._src.basic")
_ATTENTION = ("flax.linen.attention", "flax.nnx.nn.attention")
_HELPER = "dropped"  # of ivyport.backends.jax._rt
_LAYERS = ("flax.linen", "flax.nnx")


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


def _record(rates: list[float], rate: Any) -> None:
    """File a rate that is a number; a traced one counts as one half."""
    try:
        rate = float(rate)
    except (TypeError, jax.errors.ConcretizationTypeError):
        rate = 0.5
    if rate:
        rates.append(rate)


def _by_rate(x: Any, rate: Any, scaled: bool) -> Any:
    """What a dropout leaves that keeps everything."""
    if not scaled:
        return x
    if isinstance(rate, int | float):
        return x / (1 - rate) if rate < 1 else jnp.zeros_like(x)
    return (x / (1 - rate)).astype(x.dtype)


def _dropped(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """The emitted helper that draws in eval mode too, of nothing."""

    def dropped(x: Any, rate: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        _record(rates, rate)
        return _by_rate(x, rate, scaled)

    return dropped


def _kept(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """`haiku.dropout` of nothing."""

    def dropout(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
        del rng, broadcast_dims
        _record(rates, rate)
        return _by_rate(x, rate, scaled)

    return dropout


def _same(rates: list[float], scaled: bool) -> Callable[..., Any]:
    """A dropout layer that drops nothing."""

    def called(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # linen takes it by position too.
        given = args[0] if args else kwargs.get("deterministic")
        if not (layer.deterministic if given is None else given):
            _record(rates, layer.rate)
            return _by_rate(inputs, layer.rate, scaled)
        return inputs

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
        if drops:
            _record(rates, rate)
        bound.arguments["deterministic"] = True
        made = function(*bound.args, **bound.kwargs)
        return _by_rate(made, rate, scaled) if drops else made

    return called
