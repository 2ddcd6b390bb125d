"""Nested values of a traced model (arguments and results), described without their
containers.

A traced call passes tuples, dicts, dataclasses and Hugging Face `ModelOutput` objects
around. The lowering needs their *shape* (which field holds which tensor) but never the
classes themselves, so `describe` copies plain containers, turns every record class into
a `Record`, and hands each tensor or symbolic integer to a callback.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch


@dataclasses.dataclass(frozen=True)
class Record:
    """A dataclass, `ModelOutput` or named tuple: its class and its fields, None ones
    included.

    `cls` is the qualified class name; `fields` are (name, nested value) in declaration
    order.
    """

    cls: str
    fields: tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A tensor of the root output: position in the program's flat user outputs."""

    index: int


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value without an fx node: an object of another kind, or a tensor that is dead
    code.
    """

    cls: str


@dataclasses.dataclass(frozen=True)
class Size:
    """A symbolic integer that was passed as an argument; `expr` uses the trace's
    symbols.
    """

    expr: str


SCALARS = (int, float, bool, str, complex, type(None), torch.dtype, torch.device)
SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def qualified_name(cls: type) -> str:
    """`module.QualName` of a class, as `nn_module_stack` writes it."""
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copy `value` with tensors and symbolic integers replaced by `leaf(x)`.

    Tuples, lists and string-keyed mappings stay what they are; dataclasses,
    `ModelOutput`s and named tuples become `Record`; numbers, strings, None, dtypes and
    devices are kept; anything else becomes `Opaque`.
    """
    if isinstance(value, (torch.Tensor, *SYMBOLIC)):
        return leaf(value)
    if isinstance(value, SCALARS):
        return value
    fields = record_fields(value)
    if fields is not None:
        items = tuple((name, describe(item, leaf)) for name, item in fields)
        return Record(qualified_name(type(value)), items)
    if isinstance(value, torch.Size):
        return tuple(describe(item, leaf) for item in value)
    if isinstance(value, (tuple, list)):
        copied = [describe(item, leaf) for item in value]
        return copied if isinstance(value, list) else tuple(copied)
    if isinstance(value, Mapping):
        return {key: describe(item, leaf) for key, item in value.items()}
    return Opaque(qualified_name(type(value)))


def record_fields(value: Any) -> list[tuple[str, Any]] | None:
    """(name, value) of each field of a dataclass or named tuple; None for any other
    object.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple):
        names = getattr(type(value), "_fields", None)
        if names is not None:
            return list(zip(names, value, strict=True))
    return None


def walk(value: Any) -> Iterator[Any]:
    """Every leaf of a described value, in order."""
    if isinstance(value, Record):
        for _, item in value.fields:
            yield from walk(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from walk(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from walk(item)
    else:
        yield value


def named_tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors inside the argument `name`: itself, or `name_0`, `name_key` for nested
    ones.
    """
    if isinstance(value, torch.Tensor):
        yield name, value
        return
    fields = record_fields(value)
    if fields is not None:
        items: list[tuple[Any, Any]] = list(fields)
    elif isinstance(value, (tuple, list)) and not isinstance(value, torch.Size):
        items = list(enumerate(value))
    elif isinstance(value, Mapping):
        items = list(value.items())
    else:
        return
    for key, item in items:
        yield from named_tensors(f"{name}_{key}", item)
