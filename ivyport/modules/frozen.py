"""What the source freezes, and the constructor of which class freezes it in the port.

A module all of whose parameters are frozen is frozen as a whole, by the innermost class above it
whose instances all agree: twelve adapters freeze their base layer in their own constructor, a
model that freezes the first six of its twelve blocks does that in its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ivyport.modules.classes import ClassDef, Library
from ivyport.modules.instances import Instance, all_instances


@dataclasses.dataclass(frozen=True)
class Frozen:
    """One thing that a constructor freezes, by its path below the class's own module.

    `param` tells a parameter from a module; the path of the module itself is empty.
    """

    path: str
    param: bool = False


def frozen_by_class(top: Instance, library: Library) -> dict[str, list[Frozen]]:
    """What the constructor of each class freezes, by the class's name, in source order."""
    everything = all_instances(top)
    if all(p.trainable for i in everything for p in i.params.values()):
        return {}
    whole = {i.path for i in everything if _is_frozen(i)}
    inside = {
        _join(i.path, name)
        for i in everything
        for name, param in i.params.items()
        if not param.trainable
    }
    found: dict[str, list[Frozen]] = {}
    for holders, thing in _outermost(top, [], whole):
        definition, chosen = _owner(holders, thing, library, whole | inside)
        kept = found.setdefault(definition.name, [])
        if chosen not in kept:
            kept.append(chosen)
    return found


def _is_frozen(instance: Instance) -> bool:
    """Whether a module has parameters and none of them, nor of its parts, is trained."""
    held = [
        p
        for part in all_instances(instance)
        for p in part.params.values()
        if p.kind == "parameter"
    ]
    return bool(held) and not any(p.trainable for p in held)


def _outermost(
    instance: Instance, above: list[Instance], whole: set[str]
) -> Iterable[tuple[list[Instance], Frozen]]:
    """Frozen modules and parameters by absolute path, with the modules that could say so."""
    if instance.path in whole:
        yield above or [instance], Frozen(instance.path)
        return
    around = above if instance.layer is not None else [*above, instance]
    for name, param in instance.params.items():
        if not param.trainable:
            yield around, Frozen(_join(instance.path, name), param=True)
    for child in instance.children.values():
        yield from _outermost(child, around, whole)


def _owner(
    holders: list[Instance], thing: Frozen, library: Library, frozen: set[str]
) -> tuple[ClassDef, Frozen]:
    """The innermost class that freezes this in each of its instances."""
    for holder in reversed(holders):
        definition = library.of[holder]
        path = holder.relative(thing.path) if thing.path != holder.path else ""
        if all(_covered(_join(i.path, path), frozen) for i in definition.instances):
            return definition, Frozen(path, thing.param)
    raise AssertionError("the root is the only instance of its class")


def _covered(path: str, frozen: set[str]) -> bool:
    """Whether a path is frozen, by itself or with a module around it."""
    while path not in frozen:
        if not path:
            return False
        path = path.rpartition(".")[0]
    return True


def _join(path: str, name: str) -> str:
    return ".".join(part for part in (path, name) if part)


def first_index(path: str) -> tuple[str, str, str]:
    """``("layers", "3", "attention")`` of ``layers.3.attention``; the rest empty if none."""
    parts = path.split(".")
    at = next((i for i, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[:at]), ".".join(parts[at : at + 1]), ".".join(parts[at + 1 :])
