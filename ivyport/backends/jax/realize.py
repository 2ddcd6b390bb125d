"""From emitted source to a live NNX module: compile it, build it abstractly, fill it in."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ivyport.backends.compiling import (
    compile_source,
    demand_same,
    load_source,
    on_save,
    opener,
)

Make = Callable[[], nnx.Module]

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


def factory(module: types.ModuleType, cls: str, config: str | None) -> Make:
    """A function that builds the class `cls` with its default configuration."""
    model = vars(module)[cls]
    if config is None:
        return lambda: model(rngs=nnx.Rngs(0))
    values = vars(module)[config]()
    return lambda: model(values, rngs=nnx.Rngs(0))


def settle_names(targets: Iterable[str], make: Make) -> dict[str, str]:
    """The name that the model's state has for each attribute path.

    They differ where one module is reached by several paths: NNX keeps the first.
    """
    abstract = _abstract(make)
    state = nnx.split(abstract, nnx.RngState, ...)[2]
    held = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(state)}
    names = {id(_at(abstract, path)): name for name, path in held.items()}
    return {
        target: target
        if target in held
        else names[id(_at(abstract, target.split(".")))]
        for target in targets
    }


def names(make: Make, targets: Iterable[str] = ()) -> set[str]:
    """The names of the model's parameters and buffers, each tied one once.

    `targets`, those that operations read, are among them.
    """
    state = nnx.split(_abstract(make), nnx.RngState, ...)[2]
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)}


@functools.lru_cache(maxsize=1)
def _abstract(make: Make) -> Any:
    """The model without arrays; one is kept, for what is asked of it one after the other."""
    return nnx.eval_shape(make)


def _at(model: Any, path: Iterable[Any]) -> Any:
    for part in path:
        model = model[int(part)] if str(part).isdigit() else vars(model)[str(part)]
    return model


def fill(make: Make, arrays: Mapping[str, np.ndarray]) -> nnx.Module:
    """The model with `arrays` as parameters and buffers, in eval mode.

    No parameter is initialised at random first; only the dropout keys are computed.

    Raises:
        WeightsError: names or shapes differ, all of them listed.
    """
    graphdef, rngs, state = nnx.split(nnx.eval_shape(make), nnx.RngState, ...)
    variables = {".".join(map(str, p)): (p, v) for p, v in nnx.to_flat_state(state)}
    expected = {name: tuple(v.shape) for name, (_, v) in variables.items()}
    found = {name: tuple(a.shape) for name, a in arrays.items()}
    demand_same(expected, found)
    filled = nnx.from_flat_state(
        {
            path: variable.replace(jnp.asarray(arrays[name]))
            for name, (path, variable) in variables.items()
        }
    )
    if nnx.to_flat_state(rngs):
        rngs = jax.jit(lambda: nnx.state(make(), nnx.RngState))()
    model: nnx.Module = nnx.merge(graphdef, rngs, filled)
    model.eval()
    return model


def train_modules(
    model: nnx.Module, paths: Iterable[str], known: Collection[str]
) -> None:
    """Put single modules in train mode, with the dropouts of their own code.

    `known` are the paths of all modules that the source has.
    """
    for path in paths:
        module = _at(model, path.split(".") if path else [])
        own = [
            child
            for name, child in vars(module).items()
            if isinstance(child, nnx.Dropout)
            and f"{path}.{name}".lstrip(".") not in known
        ]
        for each in (module, *own):
            for name in ("deterministic", "use_running_average"):
                if name in vars(each):
                    setattr(each, name, False)


def state(model: nnx.Module) -> dict[str, np.ndarray]:
    """The model's parameters and buffers by name, each tied one once, as they are now."""
    held = nnx.split(model, nnx.RngState, ...)[2]
    flat = nnx.to_flat_state(held)
    return {".".join(map(str, path)): np.asarray(v[...]) for path, v in flat}


def namespace(model: nnx.Module) -> dict[str, Any]:
    """The names of the file that the model's class is in."""
    return type(model).__init__.__globals__
