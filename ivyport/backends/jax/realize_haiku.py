"""From emitted source to a live haiku function, its parameters and its state."""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import haiku as hk
import jax.numpy as jnp
import numpy as np

from ivyport.backends.compiling import compile_source, load_source, with_averages

Make = Callable[[], hk.TransformedWithState]
Ported = tuple[hk.TransformedWithState, Mapping[str, Any], Mapping[str, Any]]
# The names of the file that a function was made of, by its `apply`.
_FILES: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()

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


def factory(module: types.ModuleType, cls: str, config: str | None) -> Make:
    """A function that makes the transformed call of the model."""

    def make() -> hk.TransformedWithState:
        made = vars(module)["transformed"]()
        _FILES[made.apply] = vars(module)
        return made

    return make


def opener(module: types.ModuleType, cls: str) -> Callable[..., Any] | None:
    """What loads a saved folder; None where the file has no such thing."""
    load = vars(module).get("load")
    if load is None:
        return None

    def opened(folder: Any, changed: bool = False) -> Ported:
        ported: Ported = load(folder, changed)
        _FILES[ported[0].apply] = vars(module)
        return ported

    return opened


def settle_names(targets: Iterable[str], make: Make) -> dict[str, str]:
    """The name that the trees have for each: its own, for each has one path."""
    return {target: target for target in targets}


def names(make: Make, targets: Iterable[str]) -> set[str]:
    """The names of all tensors, given those that operations read."""
    return with_averages(targets, "/")


def fill(make: Make, arrays: Mapping[str, np.ndarray]) -> Ported:
    """The function, and `arrays` as its parameters and state."""
    return make(), *nested({name: jnp.asarray(a) for name, a in arrays.items()})


def nested(flat: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and state of named tensors, ``params/model/~/up/w``."""
    trees: dict[str, dict[str, Any]] = {"params": {}, "state": {}}
    for path, value in flat.items():
        kind, _, rest = path.partition("/")
        module, _, name = rest.rpartition("/")
        trees[kind].setdefault(module, {})[name] = value
    return trees["params"], trees["state"]


def flattened(params: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """Named tensors of parameters and state."""
    return {
        f"{kind}/{module}/{name}": value
        for kind, tree in (("params", params), ("state", state))
        for module, held in tree.items()
        for name, value in held.items()
    }


def train_modules(ported: Ported, paths: Iterable[str], known: Collection[str]) -> None:
    """Nothing: a call has one flag for all of the model."""


def state(ported: Ported) -> dict[str, np.ndarray]:
    """Parameters and state by name, as they are now."""
    flat = flattened(*ported[1:])
    return {name: np.asarray(array) for name, array in flat.items()}


def namespace(ported: Ported) -> dict[str, Any]:
    """The names of the file that the function is of."""
    return _FILES[ported[0].apply]


def on_save(
    module: types.ModuleType, cls: str, save: Callable[[Ported, str], None]
) -> None:
    """Let the file's `save` write by `save`: in memory it has no folder to copy from."""

    def saved(params: Any, state: Any, folder: str) -> None:
        made = vars(module)["transformed"]()
        remembered = next(f for f, names in _FILES.items() if names is vars(module))
        save((made._replace(apply=remembered), params, state), folder)

    vars(module)["save"] = saved
