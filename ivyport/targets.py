"""What a port needs: the names that `--to` accepts and the packages of each extra."""

from __future__ import annotations

import dataclasses
import importlib.util

from ivyport.core.errors import DependencyError, InputError

#: Every accepted name and the target it stands for; `jax` is Flax NNX.
TARGETS: dict[str, str] = {
    "jax": "jax",
    "nnx": "jax",
    "torch": "torch",
    "pytorch": "torch",
}


@dataclasses.dataclass(frozen=True)
class Described:
    """What a target is called, and the packages that a port to it needs."""

    title: str
    packages: tuple[str, ...]


#: How files and model cards speak of each target.
DESCRIBED: dict[str, Described] = {
    "jax": Described("Flax NNX", ("jax", "flax", "numpy", "safetensors")),
    "torch": Described("PyTorch", ("torch", "numpy", "safetensors")),
}

#: The packages to import that each optional extra installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "jax": ("jax", "flax"),
    "haiku": ("jax", "haiku"),
    "flax": ("jax", "flax"),
    "hf": ("transformers",),
}


def resolve_target(to: str) -> str:
    """The canonical name of a target (`nnx` is `jax`).

    Raises `InputError` for any other name, and lists the names that exist.
    """
    if to in TARGETS:
        return TARGETS[to]
    available = ", ".join(sorted(set(TARGETS.values())))
    aliases = ", ".join(f"{a} = {t}" for a, t in TARGETS.items() if a != t)
    raise InputError(
        f"no target {to!r}. This version ports to: {available} (aliases: {aliases})."
    )


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
