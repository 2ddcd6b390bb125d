"""Turns exceptions of a capture into errors that name the module and the line."""

from __future__ import annotations

import dataclasses
import re
import sys
import traceback
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np

from ivyport.core.errors import InputError, IvyportError, TraceError, causes

_HERE = str(Path(__file__).parent)
_KEPT_LINES = 4
_GUARD = re.compile(r"Symbolic dimension comparison ('.+?' [<>=!]+ '.+?') is inconclus")
# Code between the user's and jax: no line of it says what the source did.
_LIBRARIES = ("jaxlib", "contextlib", "functools")


def library_files() -> tuple[str, ...]:
    """Prefixes of the files of jax, numpy and this package: where no source is written."""
    folders = [str(Path(jax.__file__).parent), str(Path(np.__file__).parent), _HERE]
    for name in _LIBRARIES:
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            is_package = origin.name == "__init__.py"
            folders.append(str(origin.parent if is_package else origin))
    return (*folders, "<frozen", "<string>")


def source_frame(
    error: BaseException, skipped: tuple[str, ...] = ()
) -> traceback.FrameSummary | None:
    """The innermost frame of the source, or of a library between it and jax."""
    skipped = (*library_files(), *skipped)
    for current in causes(error):
        frames = list(traceback.extract_tb(current.__traceback__))
        first = next(
            (i for i, f in enumerate(frames) if f.filename.startswith(_HERE)), -1
        )
        inside = [f for f in frames[first + 1 :] if not f.filename.startswith(skipped)]
        if inside:
            return inside[-1]
    return None


def place(error: BaseException, skipped: tuple[str, ...] = ()) -> str:
    """The source's line of an error, as lines of a message; empty if it has none."""
    frame = source_frame(error, skipped) or source_frame(error)
    if frame is None:
        return ""
    line = f"\n  at {frame.filename}:{frame.lineno} in {frame.name}"
    return line + (f"\n      {frame.line.strip()}" if frame.line else "")


def is_missing_rng(error: BaseException) -> bool:
    """Whether a library asked for a random key that it was not given."""
    kinds = _loaded(
        ("haiku._src.base", "MissingRNGError"), ("flax.errors", "InvalidRngError")
    )
    return isinstance(error, kinds)


def _loaded(*names: tuple[str, str]) -> tuple[type[BaseException], ...]:
    """Exception classes of those modules that the process has loaded."""
    found = ((sys.modules.get(module), name) for module, name in names)
    return tuple(getattr(module, name) for module, name in found if module is not None)


def is_guard(error: BaseException) -> bool:
    """Whether Python code had to know the size of a symbolic dimension."""
    inconclusive = jax.errors.InconclusiveDimensionOperation
    return any(isinstance(e, inconclusive) for e in causes(error)) or any(
        isinstance(e, TypeError) and "DimExpr" in str(e) for e in causes(error)
    )


def is_data_dependent(error: BaseException) -> bool:
    """Whether Python code had to know the value of a traced array."""
    kinds = (
        jax.errors.ConcretizationTypeError,
        jax.errors.NonConcreteBooleanIndexError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    )
    return isinstance(error, kinds)


def missing_rng(error: BaseException, name: str) -> InputError:
    """The error for a source that needs a random key and got none."""
    specs = [find_spec(library) for library in ("haiku", "flax")]
    libraries = tuple(str(Path(s.origin).parent) for s in specs if s and s.origin)
    return InputError(
        f"{name} draws random numbers and got no key.{place(error, libraries)}\n"
        "  Give one: rng=jax.random.key(0). The port draws from its own framework's "
        "generator; the key only lets the source run."
    )


@dataclasses.dataclass(frozen=True)
class Circumstances:
    """What was going on when a capture failed.

    `where` is the dotted path of the module that was running (None: none was), `mode` is ``eval``,
    ``train`` or ``init``, `inputs` describes the example inputs, `symbols` are the symbolic axes
    (dimension, input, axis).
    """

    name: str
    mode: str
    inputs: str
    where: str | None = None
    symbols: tuple[tuple[str, str, int], ...] = ()

    @property
    def module(self) -> str:
        """The module that was running, in words."""
        return f"module '{self.where}' of {self.name}" if self.where else self.name


def trace_error(error: BaseException, at: Circumstances) -> IvyportError:
    """What to raise for a failed capture."""
    if is_missing_rng(error):
        return missing_rng(error, at.name)
    if at.symbols and is_guard(error):
        return _guard_error(error, at)
    if is_data_dependent(error):
        return TraceError(
            f"control flow of {at.module} depends on the values of arrays ({at.mode} mode)."
            f"{place(error)}\n  {brief(error)}\n"
            "  Write the branch with jnp.where or jax.lax.cond, or decide it with a "
            "Python argument."
        )
    return TraceError(
        f"{at.module} could not be captured in {at.mode} mode.{place(error)}\n"
        f"  {brief(error)}\n  inputs: {at.inputs}\n"
        "  If it runs on these inputs in jax, the code at that line is not traceable; "
        "otherwise correct the inputs."
    )


def _names(symbols: Iterable[tuple[str, str, int]]) -> str:
    listed = ", ".join(f"'{s}'" for s in dict.fromkeys(s for s, _, _ in symbols))
    return f"dimension {listed}"


def _static(symbols: Iterable[tuple[str, str, int]]) -> dict[str, dict[int, None]]:
    dims: dict[str, dict[int, None]] = {}
    for _, leaf, axis in symbols:
        dims.setdefault(leaf, {})[axis] = None
    return dims


def _guard_error(error: BaseException, at: Circumstances) -> TraceError:
    text = "\n".join(str(e) for e in causes(error))
    found = _GUARD.search(text)
    expression = found.group(1) if found else brief(error)
    named = [s for s in at.symbols if re.search(rf"\b{re.escape(s[0])}\b", expression)]
    # numpy and math only say that a size is no number: any of them may be meant.
    guilty = named or list(at.symbols)
    return TraceError(
        f"{at.module} needs the size of {_names(guilty)} while it is traced "
        f"({at.mode} mode).{place(error)}\n  condition: {expression}\n"
        f"  Give dims={_static(guilty)!r} for a port with the example's size there, or write "
        "the line without asking for the size."
    )


def brief(error: BaseException) -> str:
    """An error's class and its first lines."""
    text = str(error).strip() or type(error).__name__
    # Where this package's own function is defined says nothing about the source.
    lines = [part for part in text.splitlines() if part.strip()]
    kept = [part for part in lines if _HERE not in part][:_KEPT_LINES]
    return f"{type(error).__name__}: " + "\n    ".join(kept)
