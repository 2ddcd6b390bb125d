"""From emitted source to a live NNX module: compile it, build it abstractly, fill it in."""

from __future__ import annotations

import itertools
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ivyport.core.errors import WeightsError

Make = Callable[[], nnx.Module]
_COUNT = itertools.count()


def compile_source(source: str, name: str) -> types.ModuleType:
    """Emitted source as a module; tracebacks show its lines."""
    filename = f"<ivyport {name} {next(_COUNT)}>"
    module = types.ModuleType(f"modeling_{name}")
    module.__file__ = filename
    # Dataclasses and named tuples look their module up while they are made.
    sys.modules[module.__name__] = module
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
    exec(compile(source, filename, "exec"), module.__dict__)
    return module


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
    abstract = nnx.eval_shape(make)
    state = nnx.split(abstract, nnx.RngState, ...)[2]
    held = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(state)}
    names = {id(_at(abstract, path)): name for name, path in held.items()}
    return {
        target: target
        if target in held
        else names[id(_at(abstract, target.split(".")))]
        for target in targets
    }


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
    if found != expected:
        missing = sorted(expected.items() - found.items())
        extra = sorted(found.items() - expected.items())
        raise WeightsError(f"the port needs {missing} and was given {extra}")
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
