"""Nested values of a source (arguments and results), described without their containers.

`describe` copies plain containers, turns records (dataclasses, named tuples) into `Record` and
hands every array to a callback; `named_arrays` gives the arrays inside an argument their names.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.export import is_symbolic_dim

from ivyport.core.errors import InputError
from ivyport.core.ir import Record
from ivyport.frontends.jax.sizes import to_dim
from ivyport.frontends.nested import (
    Leaf,
    Node,
    Opaque,
    named,
    qualified_name,
    record_fields,
    refill,
)

ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
CONSTANTS = (int, float, bool, str, complex, type(None), np.dtype)


def is_array(value: Any) -> bool:
    """Whether `value` is an array of jax or numpy, a traced one, or the shape of one."""
    return isinstance(value, ARRAYS)


def named_arrays(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Arrays inside the argument `name`: itself, or `name_0`, `name_key` for nested ones."""
    return named(name, value, is_array)


def opened(source: str, name: str, value: Any) -> Any:
    """`value` with a `Node` for each object of a class that is registered as a pytree.

    Raises:
        InputError: such an object does not name its parts.
    """

    def node(item: Any) -> Any:
        pairs, tree = jax.tree_util.tree_flatten_with_path(
            item, is_leaf=lambda x: x is not item
        )
        keys = [key for (key,), _ in pairs]
        if not all(isinstance(key, jax.tree_util.GetAttrKey) for key in keys):
            raise InputError(
                f"argument '{name}' of {source} holds a {type(item).__name__}, a pytree that "
                "does not name its parts: register the class with "
                "jax.tree_util.register_pytree_with_keys and GetAttrKey, or give a dict"
            )
        items = tuple(
            (k.name, opened(source, name, x))
            for k, (_, x) in zip(keys, pairs, strict=True)
        )
        return Node(qualified_name(type(item)), items, tree)

    return refill(value, _is_custom, node)


def closed(value: Any) -> Any:
    """`value` with the objects that `opened` took apart."""

    def whole(node: Any) -> Any:
        return node.tree.unflatten([closed(item) for _, item in node.items])

    return refill(value, lambda x: isinstance(x, Node), whole)


def _is_custom(value: Any) -> bool:
    """Whether an object is a pytree of its own class, with arrays in it."""
    plain = (Mapping, tuple, list, *ARRAYS, *CONSTANTS)
    if isinstance(value, plain) or record_fields(value) is not None:
        return False
    leaves = jax.tree.leaves(value)
    return not any(x is value for x in leaves) and any(map(is_array, leaves))


def describe(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copy `value` with each array replaced by `leaf(array)`.

    Numbers, strings, None and dtypes are kept, symbolic sizes become the graph's; what is none of
    these becomes `Opaque`.
    """
    if is_array(value):
        return leaf(value)
    if is_symbolic_dim(value):
        return to_dim(value)
    if isinstance(value, enum.Enum):
        return describe(value.value, leaf)
    if isinstance(value, CONSTANTS):
        return value
    fields = record_fields(value)
    if fields is not None:
        cls = value.cls if isinstance(value, Node) else qualified_name(type(value))
        items = tuple((name, describe(item, leaf)) for name, item in fields)
        return Record(cls, items, isinstance(value, Mapping))
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
