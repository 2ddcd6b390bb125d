"""Runs a JAX source in train mode without its dropout.

Each library has one function or layer that everything else drops with. Those are
replaced while a source is traced; no code of the source is changed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Where each library has its function, its attention and its layer.
_HAIKU = ("haiku", "haiku._src.basic")
_ATTENTION = ("flax.linen.attention", "flax.nnx.nn.attention")
_LAYERS = ("flax.linen", "flax.nnx")


@contextlib.contextmanager
def without_dropout() -> Iterator[None]:
    """Dropout of haiku, linen and nnx keeps everything, attention's own included."""
    with contextlib.ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        for module in _loaded(_HAIKU):
            put(module, "dropout", _kept)
        for module in _loaded(_ATTENTION):
            weights = "dot_product_attention_weights"
            put(module, weights, _deterministic(vars(module)[weights]))
        for module in _loaded(_LAYERS):
            put(module.Dropout, "__call__", _same)
        yield


def _loaded(names: Iterable[str]) -> list[Any]:
    return [m for name in names if (m := sys.modules.get(name)) is not None]


def _kept(rng: Any, rate: Any, x: Any, broadcast_dims: Any = ()) -> Any:
    """`haiku.dropout` of nothing."""
    del rng, rate, broadcast_dims
    return x


def _same(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A dropout layer that drops nothing."""
    del layer, args, kwargs
    return inputs


def _deterministic(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its argument `deterministic` set."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.arguments["deterministic"] = True
        return function(*bound.args, **bound.kwargs)

    return called
