"""Nested arguments and results of a source, before a frontend describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A tensor of the source's output: its position among the flat outputs."""

    index: int


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value of a kind that a port cannot hold, or a tensor that is dead code."""

    cls: str


def qualified_name(cls: type) -> str:
    """`module.QualName` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def record_fields(value: Any) -> list[tuple[str, Any]] | None:
    """(name, value) of each field of a dataclass or named tuple; None for other objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, tuple):
        names = getattr(type(value), "_fields", None)
        if names is not None:
            return list(zip(names, value, strict=True))
    return None


def named(
    name: str, value: Any, is_leaf: Callable[[Any], bool]
) -> Iterator[tuple[str, Any]]:
    """Leaves inside the argument `name`: itself, or `name_0`, `name_key` for nested ones."""
    if is_leaf(value):
        yield name, value
        return
    items: Iterable[tuple[Any, Any]] | None = record_fields(value)
    if items is None and isinstance(value, Mapping):
        items = value.items()
    elif items is None and isinstance(value, tuple | list):
        items = enumerate(value)
    for key, item in items or ():
        yield from named(f"{name}_{key}", item, is_leaf)
