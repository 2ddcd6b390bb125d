"""From emitted source to a Python module, and what filling a model in checks: all targets."""

from __future__ import annotations

import itertools
import linecache
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ivyport.core.errors import SourceError, WeightsError

Shapes = Mapping[str, tuple[int, ...]]
_COUNT = itertools.count()


def compile_source(source: str, name: str) -> types.ModuleType:
    """Emitted source as a module; tracebacks show its lines."""
    filename = f"<ivyport {name} {next(_COUNT)}>"
    module = types.ModuleType(f"modeling_{name}")
    module.__file__ = filename
    # Dataclasses and named tuples look their module up while they are made.
    sys.modules[module.__name__] = module
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
    # Without the imports of this module from `__future__`: a saved file has none of them.
    code = compile(source, filename, "exec", dont_inherit=True)
    exec(code, module.__dict__)
    return module


def load_source(file: Path, name: str, code: bytes) -> types.ModuleType:
    """A source file as a module; `code` is what was read of it, and is what runs.

    No bytecode is written into its folder, nor read: it may be of an older port.

    Raises:
        SourceError: it is no Python.
    """
    try:
        compiled = compile(code, str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise SourceError(f"{file} is no Python source: {error}") from error
    module = types.ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module
    exec(compiled, module.__dict__)
    return module


def factory(
    module: types.ModuleType, cls: str, config: str | None
) -> Callable[[], Any]:
    """A function that builds the class `cls` with its default configuration."""
    model = vars(module)[cls]
    if config is None:
        return lambda: model()
    values = vars(module)[config]()
    return lambda: model(values)


def demand_same(expected: Shapes, found: Shapes) -> None:
    """Demand equal names and shapes.

    Raises:
        WeightsError: listing what the port lacks and what it has no place for.
    """
    if found != expected:
        missing = sorted(expected.items() - found.items())
        extra = sorted(found.items() - expected.items())
        raise WeightsError(f"the port needs {missing} and was given {extra}")


def opener(module: types.ModuleType, cls: str) -> Callable[..., Any] | None:
    """What loads a saved folder by the model's class; None where the file has no such thing."""
    found: Callable[..., Any] | None = getattr(
        vars(module).get(cls), "from_pretrained", None
    )
    return found


def on_save(
    module: types.ModuleType, cls: str, save: Callable[[Any, str], None]
) -> None:
    """Let the class save by `save`: in memory there are no files beside its own to copy."""
    vars(module)["save_pretrained"] = lambda model, folder, *_: save(model, folder)


def with_averages(targets: Iterable[str], separator: str) -> set[str]:
    """Names of tensors, and of what haiku's running averages hold beside what is read of them."""
    found = set(targets)
    for target in list(found):
        holder, _, name = target.rpartition(separator)
        if name == "average" and holder.endswith("_ema"):
            found |= {f"{holder}{separator}{other}" for other in ("counter", "hidden")}
    return found
