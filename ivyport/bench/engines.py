"""The engines: how each runs the model, and which of them this installation has."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable
from pathlib import Path

from ivyport.core.errors import InputError
from ivyport.targets import TARGETS, resolve_target

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
_JAX = "ivyport.bench.jax_engine:load"
_FLAX = "ivyport.bench.flax_engine:load"


@dataclasses.dataclass(frozen=True)
class Engine:
    """One way to run a case's model, in a process of its own.

    name: as in a results file.
    label: for people.
    framework: whose device and precision settings it follows, ``torch`` or ``jax``.
    packages: what must be importable.
    loader: ``module:function`` that its worker calls with a `session.Job`.
    port: the target whose port it runs, None for one that runs the source itself.
    path: folders that its worker puts in front of `sys.path`.
    """

    name: str
    label: str
    framework: str
    packages: tuple[str, ...]
    loader: str
    port: str | None = None
    path: tuple[str, ...] = ()

    @property
    def is_baseline(self) -> bool:
        """Whether it is one of torch's own modes that speed-ups are over."""
        return self.name == EAGER or self.name.partition(":")[0] == COMPILE

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [p for p in self.packages if importlib.util.find_spec(p) is None]


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
        found.append(Engine(name, label, "torch", ("torch", "transformers"), _TORCH))
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

    Raises InputError for a target that ivyport has not, or that no engine runs yet.
    """
    found: list[Engine] = []
    for given in targets:
        target = resolve_target(given)
        if target == "jax":
            packages: tuple[str, ...] = ("jax", "flax", "safetensors")
            label = "port to JAX, jax.jit"
            found.append(Engine("jax", label, "jax", packages, _JAX, "jax"))
            if scan_layers:
                label = "port to JAX, scanned layers"
                found.append(Engine(SCAN, label, "jax", packages, _JAX, "jax"))
        elif target == "torch":
            label = "port to torch, eager"
            packages = ("torch", "safetensors")
            found.append(Engine("torch", label, "torch", packages, _TORCH, "torch"))
        else:
            runnable = sorted({"jax", "torch"} & set(TARGETS.values()))
            raise InputError(
                f"--to {given!r}: no engine runs ports to {target} yet; there are: "
                f"{', '.join(runnable)}."
            )
    if scan_layers and not any(engine.name == SCAN for engine in found):
        raise InputError("--scan-layers is about ports to JAX: add --to jax.")
    return list(dict.fromkeys(found))
