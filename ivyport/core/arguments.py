"""Arguments of a source as JSON data, and the call of a port with arrays by name.

A port's record names each tensor flatly (``state_0``); its arguments say where each belongs:

    [{"name": "state", "kind": "positional", "structure": {"tuple": [{"input": "state_0"}, ...]}}]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ivyport.core.ir import Argument, Record, Value

Described = Sequence[Mapping[str, Any]]


def to_json(arguments: Iterable[Argument]) -> list[dict[str, Any]]:
    """The arguments as JSON data; tensors are ``{"input": name}``."""
    return [
        {
            "name": a.name,
            "kind": a.kind,
            "structure": _encode(a.structure),
            **({"default": a.default} if a.default else {}),
        }
        for a in arguments
    ]


def _encode(item: Any) -> Any:
    if isinstance(item, Value):
        return {"input": item.name}
    if isinstance(item, Record):
        fields = [[name, _encode(inner)] for name, inner in item.fields]
        return {"record": item.cls, "fields": fields}
    if isinstance(item, Mapping):
        return {"dict": [[_plain(k), _encode(v)] for k, v in item.items()]}
    if isinstance(item, tuple | list):
        kind = "list" if isinstance(item, list) else "tuple"
        return {kind: [_encode(inner) for inner in item]}
    return {"constant": _plain(item)}


def _plain(value: Any) -> Any:
    """A constant as JSON has it; what JSON lacks is text."""
    return value if isinstance(value, str | int | float | None) else str(value)


def call(
    described: Described | None, arrays: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """What a port is called with: positional and keyword arguments, from tensors by name.

    Arguments that are constants are left out: the port has them as defaults. So are those with a
    default whose tensor is missing. Without a description each tensor is an argument of its own.

    Raises:
        KeyError: another tensor is missing.
    """
    if not described:
        return [], dict(arrays)
    rest: list[Any] = []
    before: list[Any] = []
    keyword: dict[str, Any] = {}
    variadic = any(a["kind"] == "variadic" for a in described)
    for argument in described:
        structure = argument["structure"]
        if argument.get("default") and structure["input"] not in arrays:
            if variadic and argument["kind"] == "positional":
                before.append(None)
        elif argument["kind"] == "variadic":
            rest = list(_decode(structure, arrays))
        elif variadic and argument["kind"] == "positional":
            before.append(_decode(structure, arrays))
        elif any(True for _ in inputs(structure)):
            keyword[argument["name"]] = _decode(structure, arrays)
    return [*before, *rest], keyword


def optional(described: Described | None) -> list[str]:
    """Names of the tensors that a caller may leave out."""
    found = [a for a in described or () if a.get("default")]
    return [argument["structure"]["input"] for argument in found]


def inputs(structure: Mapping[str, Any]) -> Iterator[str]:
    """Names of the tensors in an encoded structure, in order."""
    if "input" in structure:
        yield structure["input"]
    pairs = structure.get("dict") or structure.get("fields") or []
    items = structure.get("tuple") or structure.get("list") or []
    for inner in [*(inner for _, inner in pairs), *items]:
        yield from inputs(inner)


def _decode(structure: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    if "input" in structure:
        return arrays[structure["input"]]
    if "record" in structure:
        fields = {name: _decode(item, arrays) for name, item in structure["fields"]}
        return SimpleNamespace(**fields)
    if "dict" in structure:
        return {key: _decode(item, arrays) for key, item in structure["dict"]}
    if "tuple" in structure:
        return tuple(_decode(item, arrays) for item in structure["tuple"])
    if "list" in structure:
        return [_decode(item, arrays) for item in structure["list"]]
    return structure["constant"]


def labels(arguments: Iterable[Argument]) -> dict[Value, str]:
    """Where a caller finds each tensor: ``state[0]``, ``batch["x"]``, ``batch.x``."""
    found: dict[Value, str] = {}

    def visit(item: Any, at: str) -> None:
        if isinstance(item, Value):
            found[item] = at
        elif isinstance(item, Record):
            for name, inner in item.fields:
                visit(inner, f"{at}.{name}")
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                text = f'"{key}"' if isinstance(key, str) else repr(key)
                visit(inner, f"{at}[{text}]")
        elif isinstance(item, tuple | list):
            for position, inner in enumerate(item):
                visit(inner, f"{at}[{position}]")

    for argument in arguments:
        visit(argument.structure, argument.name)
    return found


def shapes(
    arguments: Sequence[Argument], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[Value, list[int]]:
    """The sizes of the tensors in an example call, as far as it has them where they belong."""
    found: dict[Value, list[int]] = {}

    def visit(item: Any, given: Any) -> None:
        if isinstance(item, Value):
            if hasattr(given, "shape"):
                found[item] = [int(size) for size in given.shape]
        elif isinstance(item, Record):
            for name, inner in item.fields:
                visit(inner, getattr(given, name, None))
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                visit(inner, given.get(key) if isinstance(given, Mapping) else None)
        elif isinstance(item, tuple | list) and isinstance(given, tuple | list):
            for inner, part in zip(item, given, strict=False):
                visit(inner, part)

    for position, argument in enumerate(arguments):
        if argument.kind == "variadic":
            visit(argument.structure, tuple(args[position:]))
        elif argument.name in kwargs:
            visit(argument.structure, kwargs[argument.name])
        elif argument.kind == "positional" and position < len(args):
            visit(argument.structure, args[position])
    return found
