"""The targets of ports: a record each, and the packages of the optional extras."""

from __future__ import annotations

import importlib.util
from typing import Any

from ivyport.core.errors import DependencyError, InputError
from ivyport.targets.haiku import HAIKU
from ivyport.targets.linen import LINEN
from ivyport.targets.nnx import NNX
from ivyport.targets.numpy import NUMPY
from ivyport.targets.record import Engine, Target
from ivyport.targets.torch import TORCH

#: Every target by its name.
TARGETS: dict[str, Target] = {
    record.name: record for record in (NNX, LINEN, HAIKU, TORCH, NUMPY)
}

#: The packages to import that each optional extra installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "jax": ("jax", "flax"),
    "haiku": ("jax", "haiku"),
    "flax": ("jax", "flax"),
    "hf": ("transformers",),
    "numpy": ("numpy", "safetensors"),
}

__all__ = [
    "EXTRAS",
    "TARGETS",
    "Engine",
    "Target",
    "module_of",
    "require",
    "resolve_target",
    "target_of",
]


def resolve_target(to: str) -> Target:
    """The target of a name or an alias (`nnx` is `jax`).

    Raises `InputError` for any other name, and lists the names that exist.
    """
    for record in TARGETS.values():
        if to in (record.name, *record.aliases):
            return record
    aliases = ", ".join(f"{a} = {t.name}" for t in TARGETS.values() for a in t.aliases)
    raise InputError(
        f"no target {to!r}. This version ports to: {', '.join(sorted(TARGETS))} "
        f"(aliases: {aliases})."
    )


def target_of(ported: Any) -> Target | None:
    """The target that a live model is a port to; nothing is imported to tell."""
    return next((t for t in TARGETS.values() if t.holds(ported)), None)


def module_of(ported: Any) -> Any:
    """The module of a live model: its first part where it consists of several."""
    target = target_of(ported)
    if target is None or target.parts == 1:
        return ported
    # A haiku function is a tuple, too; what it applies is its own.
    return getattr(ported[0], "apply", ported[0]) if target.parts > 2 else ported[0]


def require(*extras: str) -> None:
    """Check, without importing anything, that the packages of `extras` are installed.

    Raises `DependencyError` naming every missing package and the one command to run.
    """
    missing = {
        extra: absent
        for extra in extras
        if (absent := [p for p in EXTRAS[extra] if importlib.util.find_spec(p) is None])
    }
    if missing:
        packages = ", ".join(
            dict.fromkeys(p for names in missing.values() for p in names)
        )
        command = f"pip install 'ivyport[{','.join(missing)}]'"
        raise DependencyError(f"not installed: {packages}. Run: {command}")
