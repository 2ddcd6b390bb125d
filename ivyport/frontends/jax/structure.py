"""Nested values of a source (arguments and results), described without their containers.

`describe` copies plain containers, turns records (dataclasses, named tuples) into `Record` and
hands every array to a callback; `named_arrays` gives the arrays inside an argument their names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.export import is_symbolic_dim

from ivyport.core.ir import Record
from ivyport.frontends.nested import (
    Leaf,
    Opaque,
    named,
    qualified_name,
    record_fields,
)

ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
CONSTANTS = (int, float, bool, str, complex, type(None), np.dtype)


def is_array(value: Any) -> bool:
    """Whether `value` is an array of jax or numpy, a traced one, or the shape of one."""
    return isinstance(value, ARRAYS)


def named_arrays(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Arrays inside the argument `name`: itself, or `name_0`, `name_key` for nested ones."""
    return named(name, value, is_array)


def fill(name: str, value: Any, arrays: Mapping[str, Any]) -> Any:
    """`value` with each array inside replaced by the one that `named_arrays` calls so."""
    if is_array(value):
        return arrays[name]
    fields = record_fields(value)
    if fields is not None:
        new = {key: fill(f"{name}_{key}", item, arrays) for key, item in fields}
        if isinstance(value, tuple):
            return type(value)(**new)
        return dataclasses.replace(value, **new)
    if isinstance(value, Mapping):
        new = {k: fill(f"{name}_{k}", item, arrays) for k, item in value.items()}
        return new if type(value) is dict else type(value)(new)  # type: ignore[call-arg]
    if isinstance(value, tuple | list):
        return type(value)(
            fill(f"{name}_{i}", item, arrays) for i, item in enumerate(value)
        )
    return value


def describe(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copy `value` with each array replaced by `leaf(array)`.

    Numbers, strings, None and dtypes are kept, symbolic sizes are arrays; what is none of these
    becomes `Opaque`.
    """
    if is_array(value):
        return leaf(value)
    if is_symbolic_dim(value):
        return leaf(jnp.asarray(value))
    if isinstance(value, CONSTANTS):
        return value
    fields = record_fields(value)
    if fields is not None:
        items = tuple((name, describe(item, leaf)) for name, item in fields)
        return Record(qualified_name(type(value)), items)
    if isinstance(value, Mapping):
        return {str(key): describe(item, leaf) for key, item in value.items()}
    if isinstance(value, tuple | list):
        copied = [describe(item, leaf) for item in value]
        return copied if isinstance(value, list) else tuple(copied)
    return Opaque(qualified_name(type(value)))


def flatten(output: Any) -> tuple[Any, list[Any]]:
    """The structure of an output, with a `Leaf` for each array, and the arrays."""
    flat: list[Any] = []

    def leaf(value: Any) -> Leaf:
        flat.append(value)
        return Leaf(len(flat) - 1)

    return describe(output, leaf), flat
