"""From emitted source to a live NumPy model: compile it, build it, fill it in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ivyport.backends.compiling import (
    compile_source,
    demand_same,
    factory,
    load_source,
    on_save,
    opener,
)

Make = Callable[[], Any]

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
]


def settle_names(targets: Iterable[str], make: Make) -> dict[str, str]:
    """The name under which a file holds the array of each attribute path.

    They differ where one module is reached by several paths: the first one counts.
    """
    model = make()
    held = {id(holder[key]): name for name, (holder, key) in model.places().items()}
    return {target: held[id(_at(model, target.split(".")))] for target in targets}


def names(make: Make, targets: Iterable[str] = ()) -> set[str]:
    """The names of the model's arrays, each tied one once.

    `targets`, those that operations read, are among them.
    """
    return set(make().places())


def _at(model: Any, path: Iterable[str]) -> Any:
    for part in path:
        if isinstance(model, list):
            model = model[int(part)]
        else:
            model = model[part] if isinstance(model, dict) else vars(model)[part]
    return model


def fill(make: Make, arrays: Mapping[str, np.ndarray]) -> Any:
    """The model with copies of `arrays`.

    Raises:
        WeightsError: names or shapes differ, all of them listed.
    """
    model = make()
    places = model.places()
    demand_same(
        {name: np.shape(holder[key]) for name, (holder, key) in places.items()},
        {name: tuple(array.shape) for name, array in arrays.items()},
    )
    for name, (holder, key) in places.items():
        holder[key] = np.array(arrays[name], order="C")
    return model


def train_modules(model: Any, paths: Iterable[str], known: Collection[str]) -> None:
    """None are in train mode: such a source is refused before it is emitted."""


def state(model: Any) -> dict[str, np.ndarray]:
    """The model's arrays by name, each tied one once, as they are now."""
    places = model.places().items()
    return {name: np.asarray(holder[key]) for name, (holder, key) in places}


def namespace(model: Any) -> dict[str, Any]:
    """The names of the file that the model's class is in."""
    found: dict[str, Any] = type(model).__call__.__globals__
    return found
