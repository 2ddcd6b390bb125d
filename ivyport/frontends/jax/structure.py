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


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array of the output: its position among the flat outputs."""

    index: int


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value of a kind that a port cannot hold."""

    cls: str


ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
CONSTANTS = (int, float, bool, str, complex, type(None), np.dtype)


def qualified_name(cls: type) -> str:
    """`module.QualName` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def is_array(value: Any) -> bool:
    """Whether `value` is an array of jax or numpy, a traced one, or the shape of one."""
    return isinstance(value, ARRAYS)


def record_fields(value: Any) -> list[tuple[str, Any]] | None:
    """(name, value) of each field of a dataclass or named tuple; None for other objects."""
    if isinstance(value, (*ARRAYS, type)):
        return None
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple):
        names = getattr(type(value), "_fields", None)
        if names is not None:
            return list(zip(names, value, strict=True))
    return None


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    fields = record_fields(value)
    if fields is not None:
        return list(fields)
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple | list):
        return list(enumerate(value))
    return None


def named_arrays(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Arrays inside the argument `name`: itself, or `name_0`, `name_key` for nested ones."""
    if is_array(value):
        yield name, value
        return
    for key, item in _items(value) or ():
        yield from named_arrays(f"{name}_{key}", item)


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


def rebuild(structure: Any, leaf: Callable[[int], Any]) -> Any:
    """The structure with each `Leaf` replaced by `leaf(index)`."""
    if isinstance(structure, Leaf):
        return leaf(structure.index)
    if isinstance(structure, Record):
        fields = tuple((k, rebuild(v, leaf)) for k, v in structure.fields)
        return Record(structure.cls, fields)
    if isinstance(structure, dict):
        return {k: rebuild(v, leaf) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(rebuild(v, leaf) for v in structure)
    return structure


def opaque(structure: Any) -> Iterator[str]:
    """Classes of the values that a port cannot hold."""
    if isinstance(structure, Opaque):
        yield structure.cls
    elif isinstance(structure, Record):
        for _, item in structure.fields:
            yield from opaque(item)
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from opaque(item)
    elif isinstance(structure, list | tuple):
        for item in structure:
            yield from opaque(item)
