"""The engines: how each runs the model, and which of them this installation has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from ivyport.core.errors import InputError
from ivyport.targets import Engine, resolve_target

EAGER, COMPILE = "eager", "compile"
COMPILE_MODES: tuple[str, ...] = ("reduce-overhead", "max-autotune")
BASELINES: tuple[str, ...] = (
    EAGER,
    COMPILE,
    *(f"{COMPILE}:{mode}" for mode in COMPILE_MODES),
)
SCAN = "jax-scan"
FLAX = "flax"
#: What ports are compared with: torch's modes, of which the best makes the speed-up, and
#: the Flax classes that people wrote by hand.
COMPARED: tuple[str, ...] = (*BASELINES, FLAX)

_TORCH = "ivyport.bench.torch_engine:load"
_FLAX = "ivyport.bench.flax_engine:load"


def baselines(names: Iterable[str]) -> list[Engine]:
    """The torch modes of these names: ``eager``, ``compile``, ``compile:<mode>``.

    Raises InputError for another name.
    """
    found = []
    for name in names:
        if name not in BASELINES:
            raise InputError(
                f"--baseline {name!r} is none of: {', '.join(BASELINES)}. "
                "Separate several with commas."
            )
        mode = name.partition(":")[2]
        label = f"torch.compile{f', {mode}' if mode else ''}"
        label = "torch eager" if name == EAGER else label
        packages = ("torch", "transformers")
        engine = Engine(name, label, "torch", packages, _TORCH, is_baseline=True)
        found.append(dataclasses.replace(engine, compiles=name != EAGER))
    return found


def hand_written(folder: Path) -> Engine:
    """The engine of transformers 4's Flax classes, installed in a folder of their own.

    Raises InputError where the folder holds no transformers, or one without Flax classes.
    """
    package = folder / "transformers"
    if not (package / "modeling_flax_utils.py").is_file():
        raise InputError(
            f"--flax {folder}: no transformers with Flax classes there. Install the last "
            "one: pip install --no-deps --target FOLDER transformers==4.55.4 "
            "tokenizers==0.21.4 huggingface-hub==0.34.4 requests urllib3"
        )
    return Engine(
        FLAX,
        "hand-written Flax (transformers 4), jax.jit",
        "jax",
        ("jax", "flax"),
        _FLAX,
        path=(str(folder.resolve()),),
    )


def ports(targets: Iterable[str], *, scan_layers: bool = False) -> list[Engine]:
    """The engines that run ports to these targets; `jax-scan` too with `scan_layers`.

    Raises InputError for a target that ivyport has not, or that no engine runs.
    """
    found: list[Engine] = []
    for given in targets:
        target = resolve_target(given)
        if not target.engines:
            raise InputError(f"--to {given!r}: no engine runs ports to {target.title}.")
        found += [e for e in target.engines if scan_layers or not e.scans]
    if scan_layers and not any(engine.scans for engine in found):
        raise InputError("--scan-layers is about ports to JAX: add --to jax.")
    return list(dict.fromkeys(found))


__all__ = [
    "BASELINES",
    "COMPARED",
    "COMPILE",
    "EAGER",
    "FLAX",
    "SCAN",
    "Engine",
    "baselines",
    "hand_written",
    "ports",
]
