"""What ``port.json`` says of a port: one typed record, read and written here alone.

Files of a port that run without ivyport read what they need of ``port.json`` themselves
(`ivyport.backends.files`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ivyport.core.arguments import Described
from ivyport.core.checks import RELATIONS, Check
from ivyport.core.errors import GraphError, WeightsError
from ivyport.folder import manifest
from ivyport.folder.manifest import FORMAT, PORT, read_port
from ivyport.weights.mapping import WeightMap


@dataclasses.dataclass(frozen=True)
class InputRecord:
    """One array that a port takes.

    Attributes:
        name: of the input in the graph.
        dtype: such as ``int32``.
        shape: for people, ``(B, S)``.
        at: where it is among the arguments, ``state.h``.
        example: its sizes in the example, None where they are not known.
        below: it holds rows of a table of that many, None where it is no index.
    """

    name: str
    dtype: str
    shape: str
    at: str
    example: tuple[int, ...] | None = None
    below: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        example = None if self.example is None else list(self.example)
        told = {"name": self.name, "dtype": self.dtype, "shape": self.shape}
        below = {} if self.below is None else {"below": self.below}
        return {**told, "at": self.at, "example": example, **below}

    @classmethod
    def from_json(cls, value: Any) -> InputRecord:
        """The record of a JSON object; KeyError, TypeError or ValueError for anything else."""
        example = value.get("example")
        below = value.get("below")
        return cls(
            name=_text(value["name"]),
            dtype=_text(value["dtype"]),
            shape=_text(value["shape"]),
            at=_text(value.get("at", value["name"])),
            example=None if example is None else tuple(map(_size, example)),
            below=None if below is None else _size(below),
        )


@dataclasses.dataclass(frozen=True)
class PortRecord:
    """What is known of a port, but for its code, its configuration and its arrays.

    Attributes:
        ivyport: the version that made it.
        target: a name of `ivyport.targets.TARGETS`.
        file: the emitted file, ``modeling_<name>.py``.
        cls: the class in it, the function for a target without classes.
        config: the class of the configuration, None where there is none.
        source: what was ported, and how it is built again (`ivyport.zoo.origin`).
        weights: how its tensors are made of the source's.
        modules: its modules by the paths of the source's.
        notes: what had to be given up, for people.
        free: the symbolic axes of each input.
        inputs: the arrays that it takes.
        arguments: what its callers give (`ivyport.core.arguments`).
        dims: the least and the greatest size of each symbol, None where there is no such.
        rounded: the dtype of outputs that a wider one was rounded to, by their paths.
        checks: what sizes must satisfy, as `ivyport.core.checks.Check.to_json` says it.
        versions: of the packages that it was made with.
        built_in: fields of ``config.json`` that its code does not follow.
        as_ported: a checksum of each weight when it was made.
        compared: what was compared when it was made, in words; None where a report says it.
        verified: whether it held when it was verified, None where it was not.
        ported_weights: the digest of its weights when it was made.
        files: size and digest of each file of its folder.
        digest: of the record itself.
    """

    ivyport: str
    target: str
    file: str
    cls: str
    config: str | None
    source: Mapping[str, Any]
    weights: WeightMap
    modules: Mapping[str, str]
    notes: tuple[str, ...] = ()
    free: Mapping[str, Mapping[int, str]] = dataclasses.field(default_factory=dict)
    inputs: tuple[InputRecord, ...] = ()
    arguments: Described = ()
    dims: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    rounded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    checks: tuple[Mapping[str, str], ...] = ()
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    built_in: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    as_ported: Mapping[str, str] = dataclasses.field(default_factory=dict)
    compared: str | None = None
    verified: bool | None = None
    ported_weights: str | None = None
    files: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """``port.json``; the format is the one that `read` takes."""
        free = {i: {str(a): n for a, n in x.items()} for i, x in self.free.items()}
        told = {
            "format": FORMAT,
            "ivyport": self.ivyport,
            "target": self.target,
            "file": self.file,
            "class": self.cls,
            "config": self.config,
            "source": dict(self.source),
            "versions": dict(self.versions),
            "inputs": [i.to_json() for i in self.inputs],
            "arguments": list(self.arguments),
            "free": free,
            "dims": {name: list(limits) for name, limits in self.dims.items()},
            "rounded": dict(self.rounded),
            "checks": [dict(check) for check in self.checks],
            "modules": dict(self.modules),
            "notes": list(self.notes),
            "weights": self.weights.to_json(),
            "built_in": dict(self.built_in),
            "as_ported": dict(self.as_ported),
            "compared": self.compared,
            "verified": self.verified,
            "ported_weights": self.ported_weights,
            "files": {name: dict(held) for name, held in self.files.items()},
            "digest": self.digest,
        }
        unsaid = ("compared", "ported_weights")
        return {k: v for k, v in told.items() if v is not None or k not in unsaid}

    @classmethod
    def from_json(cls, path: Path, told: Mapping[str, Any]) -> PortRecord:
        """The record of ``port.json`` at `path`, whose names `read_port` has looked at.

        Raises:
            SourceError: a part of it has another kind than it must have.
            WeightsError: the weight map contradicts itself.
        """
        decode = {**_DECODE, "weights": WeightMap.from_json}
        names = {"cls": "class"}
        values = {}
        for field in dataclasses.fields(cls):
            key = names.get(field.name, field.name)
            if key not in told:
                if field.default is _MISSING and field.default_factory is _MISSING:
                    raise manifest.damaged(path, f"without {key}")
                continue
            try:
                values[field.name] = decode[field.name](told[key])
            except WeightsError as error:
                raise WeightsError(f"{path}: {error}") from error
            except _WRONG as error:
                raise manifest.damaged(path, f"{key} is not what it was") from error
        return cls(**values)

    @classmethod
    def read(cls, folder: Path) -> PortRecord:
        """What a saved port says of itself.

        Raises:
            SourceError: the folder is no port, one of another ivyport, or damaged.
            WeightsError: the weight map contradicts itself.
        """
        return cls.from_json(folder / PORT, read_port(folder))


_MISSING = dataclasses.MISSING
#: What a value of another kind than is due makes of its reader.
_WRONG = (
    KeyError, TypeError, ValueError, AttributeError, SyntaxError, RecursionError, GraphError,
)  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where text is due")
    return value


def _maybe(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind(value)


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r} where a size is due")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where true or false is due")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where an object is due")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {name: _text(held) for name, held in _table(value).items()}


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where a list is due")
    return value


def _limits(value: Any) -> dict[str, tuple[Any, ...]]:
    limits = {name: tuple(_list(pair)) for name, pair in _table(value).items()}
    for pair in limits.values():
        least, most = pair
        _size(least)
        _maybe(_size)(most)
    return limits


def _checks(value: Any) -> tuple[dict[str, str], ...]:
    checks = tuple(_texts(item) for item in _list(value))
    for check in checks:
        Check.from_json(check)
        RELATIONS[check["relation"]]  # KeyError for another one
    return checks


def _arguments(value: Any) -> list[dict[str, Any]]:
    for item in _list(value):
        _text(item["name"])
        _text(item["kind"])
        _table(item["structure"])
    return value


_DECODE: dict[str, Callable[[Any], Any]] = {
    "ivyport": _text,
    "target": _text,
    "file": _text,
    "cls": _text,
    "config": _maybe(_text),
    "source": _table,
    "modules": _texts,
    "notes": lambda value: tuple(map(_text, _list(value))),
    "free": lambda value: {
        name: {int(axis): _text(symbol) for axis, symbol in _table(axes).items()}
        for name, axes in _table(value).items()
    },
    "inputs": lambda value: tuple(map(InputRecord.from_json, _list(value))),
    "arguments": _arguments,
    "dims": _limits,
    "rounded": _texts,
    "checks": _checks,
    "versions": _texts,
    "built_in": _table,
    "as_ported": _texts,
    "compared": _text,
    "verified": _maybe(_flag),
    "ported_weights": _text,
    "files": _table,
    "digest": _text,
}
