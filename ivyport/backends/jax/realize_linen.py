"""From emitted source to a live linen module and its variables."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen, traverse_util

from ivyport.backends.compiling import (
    compile_source,
    factory,
    load_source,
    opener,
    with_averages,
)

Make = Callable[[], linen.Module]
Ported = tuple[linen.Module, Mapping[str, Any]]

__all__ = [
    "Make",
    "compile_source",
    "factory",
    "fill",
    "load_source",
    "names",
    "namespace",
    "on_save",
    "opener",
    "settle_names",
    "state",
    "train_modules",
]


def settle_names(targets: Iterable[str], make: Make) -> dict[str, str]:
    """The name that the variables have for each: its own, for each has one path."""
    return {target: target for target in targets}


def names(make: Make, targets: Iterable[str]) -> set[str]:
    """The names of all variables, given those that operations read."""
    return with_averages(targets, ".")


def fill(make: Make, arrays: Mapping[str, np.ndarray]) -> Ported:
    """The module, and `arrays` as its variables."""
    flat = {name: jnp.asarray(array) for name, array in arrays.items()}
    return make(), traverse_util.unflatten_dict(flat, sep=".")


def train_modules(ported: Ported, paths: Iterable[str], known: Collection[str]) -> None:
    """Nothing: a linen module has one flag for all of its parts."""


def state(ported: Ported) -> dict[str, np.ndarray]:
    """The variables by name, as they are now."""
    flat = traverse_util.flatten_dict(dict(ported[1]), sep=".")
    return {name: np.asarray(array) for name, array in flat.items()}


def namespace(ported: Ported) -> dict[str, Any]:
    """The names of the file that the module's class is in."""
    return inspect.unwrap(type(ported[0]).__call__).__globals__


def on_save(
    module: types.ModuleType, cls: str, save: Callable[[Ported, str], None]
) -> None:
    """Let the class save by `save`: in memory there are no files beside its own to copy."""
    model = vars(module)[cls]
    model.save_pretrained = lambda self, variables, folder: save(
        (self, variables), folder
    )
