"""Arrays that a function closes over: a port has them as constants, which do not train."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from ivyport.frontends.jax.structure import is_array

_SHOWN = 4


def closed_over(
    function: Callable[..., Any], constants: Mapping[str, np.ndarray]
) -> list[str]:
    """A note that names the floats among `constants`, the arrays that the trace closed over."""
    floats = [x for x in constants.values() if x.size > 1 and x.dtype.kind in "fV"]
    if not floats:
        return []
    names = dict(_held(function))
    shown = [
        names.get(_identity(x), f"{x.dtype}{list(x.shape)}") for x in floats[:_SHOWN]
    ]
    some = ", ".join(shown) + (", ..." if len(floats) > _SHOWN else "")
    return [
        f"The function closes over {len(floats)} arrays ({some}): the port has them as "
        "constants, which do not train. To port them as parameters, make what holds them the "
        "function's first argument and give it as params=."
    ]


def _identity(array: Any) -> tuple[Any, ...]:
    held = np.asarray(array)
    return held.dtype.name, held.shape, held.tobytes()


def _held(function: Callable[..., Any]) -> Iterator[tuple[Any, str]]:
    """Arrays in the variables that a function reads from outside, with their names."""
    inner = inspect.unwrap(function)
    try:
        found = inspect.getclosurevars(inner)
        outside = {**found.globals, **found.nonlocals}
    except TypeError:  # an object that is called
        outside = {type(inner).__name__: inner}
    for name, value in outside.items():
        for keys, leaf in jax.tree_util.tree_flatten_with_path(value)[0]:
            if is_array(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct):
                yield _identity(leaf), f"{name}{jax.tree_util.keystr(keys)}"
