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

# Where each library has its function, its attention and its layer.
_HAIKU = ("haiku", "haiku._src.basic")
_ATTENTION = ("flax.linen.attention", "flax.nnx.nn.attention")
_HELPER = "dropped"  # of ivyport.backends.jax._rt
_LAYERS = ("flax.linen", "flax.nnx")


@contextlib.contextmanager
def without_dropout(
    emitted: dict[str, Any] | None = None,
) -> Iterator[list[float]]:
    """Dropout of haiku, linen and nnx keeps everything, attention's own included.

    The list fills with the rate of each dropout that would have drawn, as it is traced.
    `emitted` are the names of a port's file, whose helper may drop too.
    """
    rates: list[float] = []
    with contextlib.ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        for module in _loaded(_HAIKU):
            put(module, "dropout", _kept(rates))
        for module in _loaded(_ATTENTION):
            weights = "dot_product_attention_weights"
            put(module, weights, _deterministic(vars(module)[weights], rates))
        for module in _loaded(_LAYERS):
            put(module.Dropout, "__call__", _same(rates))
        if emitted is not None and _HELPER in emitted:
            stack.callback(emitted.__setitem__, _HELPER, emitted[_HELPER])
            emitted[_HELPER] = _dropped(rates)
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


def _dropped(rates: list[float]) -> Callable[..., Any]:
    """The emitted helper that draws in eval mode too, of nothing."""

    def dropped(x: Any, rate: Any, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        _record(rates, rate)
        return x

    return dropped


def _kept(rates: list[float]) -> Callable[..., Any]:
    """`haiku.dropout` of nothing."""

    def dropout(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
        del rng, broadcast_dims
        _record(rates, rate)
        return x

    return dropout


def _same(rates: list[float]) -> Callable[..., Any]:
    """A dropout layer that drops nothing."""

    def called(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # linen takes it by position too.
        given = args[0] if args else kwargs.get("deterministic")
        if not (layer.deterministic if given is None else given):
            _record(rates, layer.rate)
        return inputs

    return called


def _deterministic(
    function: Callable[..., Any], rates: list[float]
) -> Callable[..., Any]:
    """The function with its argument `deterministic` set."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if not bound.arguments["deterministic"]:
            _record(rates, bound.arguments["dropout_rate"])
        bound.arguments["deterministic"] = True
        return function(*bound.args, **bound.kwargs)

    return called
