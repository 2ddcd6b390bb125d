"""Nested arguments and results of a source, before a frontend describes them."""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ivyport.core.ir import Argument, Record, leaves, map_leaves, walk


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A tensor of the source's output: its position among the flat outputs."""

    index: int


@dataclasses.dataclass(frozen=True)
class Opaque:
    """A value of a kind that a port cannot hold, or a tensor that is dead code."""

    cls: str


@dataclasses.dataclass(frozen=True)
class Node:
    """An object that a framework takes apart: its class and named parts, and its `tree`."""

    cls: str
    items: tuple[tuple[str, Any], ...]
    tree: Any


def qualified_name(cls: type) -> str:
    """`module.QualName` of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def record_fields(value: Any) -> list[tuple[str, Any]] | None:
    """(name, value) of each field of a dataclass or named tuple; None for other objects."""
    if isinstance(value, Node):
        return list(value.items)
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


def refill(
    value: Any, is_leaf: Callable[[Any], bool], new: Callable[[Any], Any]
) -> Any:
    """A copy of a nested value, of the same classes, with `new(leaf)` for each leaf."""
    if is_leaf(value):
        return new(value)
    fields = record_fields(value)
    if fields is not None:
        made = {name: refill(item, is_leaf, new) for name, item in fields}
        if isinstance(value, Node):
            return dataclasses.replace(value, items=tuple(made.items()))
        if isinstance(value, tuple):
            return type(value)(**made)
        if isinstance(value, Mapping):  # a ModelOutput: its fields are its items
            return type(value)(**made)
        copied = copy.copy(value)
        for name, item in made.items():
            object.__setattr__(copied, name, item)
        return copied
    if isinstance(value, Mapping):
        items = {key: refill(item, is_leaf, new) for key, item in value.items()}
        if type(value) is dict:
            return items
        copied = copy.copy(value)
        if not hasattr(copied, "__setitem__"):
            return type(value)(items)  # type: ignore[call-arg]  # a container of the user's own
        for key, item in items.items():
            copied[key] = item
        return copied
    if isinstance(value, tuple | list):
        return type(value)(refill(item, is_leaf, new) for item in value)
    return value


# ---- the arguments of one call


@dataclasses.dataclass(frozen=True)
class Given:
    """An argument of a call: its name, how the signature takes it, its value.

    `kind` is ``positional``, ``keyword`` or ``variadic`` (`value` is then the tuple);
    `by_position` says that the caller gave it so, `nameless` that there is no other way.
    """

    name: str
    kind: str
    value: Any
    by_position: bool = False
    nameless: bool = False


def given_arguments(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[Given]:
    """The arguments of a call in the signature's order, those of ``**kwargs`` by their names.

    Raises:
        TypeError: they do not fit.
    """
    bound = signature.bind(*args, **kwargs)
    found = []
    for position, (name, value) in enumerate(bound.arguments.items()):
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            found += [Given(key, "keyword", item) for key, item in value.items()]
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            found.append(Given(name, "variadic", tuple(value), True))
        elif kind is inspect.Parameter.KEYWORD_ONLY:
            found.append(Given(name, "keyword", value))
        else:
            nameless = kind is inspect.Parameter.POSITIONAL_ONLY
            by_position = position < len(args)
            found.append(Given(name, "positional", value, by_position, nameless))
    return found


def as_call(given: Iterable[Given]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments that bind to `given` again.

    What must be positional is: the nameless, and whatever stands before ``*args``.
    """
    given = list(given)
    last = max((i for i, g in enumerate(given) if g.kind == "variadic"), default=-1)
    args: list[Any] = []
    keyword: dict[str, Any] = {}
    for position, one in enumerate(given):
        if one.kind == "variadic":
            args += one.value
        elif one.nameless or (one.kind == "positional" and position < last):
            args.append(one.value)
        else:
            keyword[one.name] = one.value
    return tuple(args), keyword


def leaf_names(
    given: Iterable[Given], is_leaf: Callable[[Any], bool]
) -> list[tuple[str, Any]]:
    """Every leaf with a name of its own, an identifier: ``state_0``, ``batch_x``."""
    pairs = [pair for g in given for pair in named(g.name, g.value, is_leaf)]
    taken: set[str] = set()
    found = []
    for name, leaf in pairs:
        base = re.sub(r"\W", "_", name)
        own, count = base, 2
        while own in taken:
            own, count = f"{base}_{count}", count + 1
        taken.add(own)
        found.append((own, leaf))
    return found


def described(
    given: Iterable[Given], describe: Callable[[Any], Any]
) -> tuple[list[Argument], list[str]]:
    """The arguments that a port takes, and notes about those that it cannot take.

    `describe` turns a value into a structure of values and constants. An argument that is a
    constant, given by name, is a keyword argument.
    """
    arguments, notes = [], []
    for one in given:
        structure = map_leaves(_constant, describe(one.value))
        foreign = sorted({x.cls for x in walk(structure) if isinstance(x, Opaque)})
        if foreign:
            whole = not any(True for _ in leaves(structure))
            notes.append(
                f"Argument '{one.name}' {'is' if whole else 'holds'} a "
                f"{', '.join(foreign)}, which the port has built in and does not take."
            )
            if whole:
                continue
            structure = _without_opaque(structure)
        argument = Argument(one.name, one.kind, structure)
        if argument.is_constant and one.kind == "positional" and not one.by_position:
            argument = dataclasses.replace(argument, kind="keyword")
        arguments.append(argument)
    return arguments, notes


def _constant(value: Any) -> Any:
    """Enumerations by value, numpy's numbers as Python's."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    return value


def _without_opaque(item: Any) -> Any:
    """The structure without fields and entries that a port cannot hold; None in sequences."""
    if isinstance(item, Record):
        # A field that is left out of a tuple would move those after it.
        fields = tuple(
            (k, _without_opaque(v))
            for k, v in item.fields
            if not (item.skips_none and isinstance(v, Opaque))
        )
        return dataclasses.replace(item, fields=fields)
    if isinstance(item, dict):
        return {k: _without_opaque(v) for k, v in item.items() if type(v) is not Opaque}
    if isinstance(item, tuple | list):
        return type(item)(_without_opaque(v) for v in item)
    return None if isinstance(item, Opaque) else item


__all__ = [
    "Given",
    "Leaf",
    "Node",
    "Opaque",
    "Record",
    "as_call",
    "described",
    "given_arguments",
    "leaf_names",
    "named",
    "qualified_name",
    "record_fields",
    "refill",
]
