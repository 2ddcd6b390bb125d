"""No bare exception leaves a public call: every one becomes an error of ivyport that says whose
it is and what to do.

Errors of the source's own code name its line; files that cannot be read or written, packages that
cannot be imported and memory that runs out are named as such; everything else is a defect of
ivyport, and says so with the place in ivyport and how to report it. The first exception is always
the cause, so that no traceback is lost.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.metadata
import random
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ivyport.core.errors import (
    DefectError,
    DependencyError,
    GraphError,
    IvyportError,
    SourceError,
    WeightsError,
    causes,
)

P = ParamSpec("P")
R = TypeVar("R")

_OURS = str(Path(__file__).parent)
_PACKAGES = ("torch", "transformers", "jax", "flax", "dm-haiku", "numpy", "safetensors")
_PATHS = sysconfig.get_paths()
# Where no source of the user's is written.
_LIBRARIES = tuple({_PATHS["stdlib"], _PATHS["platstdlib"]})
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
_MARK = "This is a defect of ivyport"
_INSTALLED = ("site-packages", "dist-packages")


def guarded(call: Callable[P, R]) -> Callable[P, R]:
    """A public call that raises errors of ivyport alone, and moves no random generator.

    What the caller's own `progress` raises goes through as it is.

    Raises:
        SourceError: the source's own code fails.
        WeightsError: a file cannot be read or written, or memory runs out.
        DependencyError: a package that is needed cannot be imported.
        DefectError: ivyport fails.
    """

    @functools.wraps(call)
    def guarded_call(*args: P.args, **kwargs: P.kwargs) -> R:
        own: list[BaseException] = []
        if callable(kwargs.get("progress")):
            kwargs["progress"] = _watched(kwargs["progress"], own)  # type: ignore[arg-type]  # kwargs of a ParamSpec are opaque
        try:
            with _same_random():
                return call(*args, **kwargs)
        except GraphError as error:
            # A public call may call another one, which has said so already.
            if _MARK in str(error):
                raise
            raise GraphError(f"{error}\n{_report()}") from error
        except IvyportError:
            raise
        # Whatever it is, it is explained and raised again.
        except Exception as error:
            if error in own:
                raise
            raise explained(error, call.__name__) from error

    return guarded_call


@contextlib.contextmanager
def _same_random() -> Iterator[None]:
    """Put the generators of Python and numpy back; what is imported draws from them too."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _watched(progress: Callable[..., Any], own: list[BaseException]) -> Any:
    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return progress(*args, **kwargs)
        except BaseException as error:
            own.append(error)
            raise

    return watched


def explained(error: BaseException, call: str) -> IvyportError:
    """What to raise for a foreign exception of the public call `call`."""
    text = f"{type(error).__name__}: {_brief(error)}"
    if isinstance(error, MemoryError):
        return WeightsError(
            f"the memory does not suffice ({text}). Port a smaller configuration of the model, "
            "or weights of a smaller dtype."
        )
    theirs = _frame(error, own=False)
    if theirs is not None:
        return SourceError(
            f"the source's code fails in ivyport.{call}: {text}{_place(theirs)}\n"
            "  Call it on the same inputs without ivyport: if it fails there too, correct the "
            "inputs or that line; if it does not, that line cannot run under a tracer."
        )
    if isinstance(error, OSError) and error.filename is not None:
        return WeightsError(
            f"{error.filename}: {error.strerror or error}. Give a path that can be read and "
            "written."
        )
    if isinstance(error, OSError) and error.errno in _DISK:
        # What fails in the middle of a write does not say of which file.
        return WeightsError(
            f"a file cannot be written: {error.strerror or error}. Nothing has changed: make "
            "room, or give a folder on another disk."
        )
    if isinstance(error, ImportError):
        name = error.name or "a package"
        return DependencyError(
            f"{name} cannot be imported ({text}). Install it, or the version that ivyport "
            "asks for (see the extras in its pyproject.toml)."
        )
    ours = _frame(error, own=True)
    where = "" if ours is None else _place(ours)
    return DefectError(f"ivyport.{call} fails with {text}{where}\n{_report()}")


def _brief(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else "no text"


def _frame(error: BaseException, *, own: bool) -> traceback.FrameSummary | None:
    """The innermost frame of ivyport; or of code that is no library, if that is further in."""
    for current in causes(error):
        frames = list(traceback.extract_tb(current.__traceback__))
        ours = [i for i, f in enumerate(frames) if f.filename.startswith(_OURS)]
        if not ours:
            continue
        if own:
            return frames[ours[-1]]
        theirs = [f for f in frames[ours[-1] + 1 :] if _is_users(f.filename)]
        if theirs:
            return theirs[-1]
    return None


def _is_users(file: str) -> bool:
    path = Path(file)
    if file.startswith((_OURS, "<")) or any(p in _INSTALLED for p in path.parts):
        return False
    return not file.startswith(_LIBRARIES) and path.is_file()


def _place(frame: traceback.FrameSummary) -> str:
    line = f"\n  at {frame.filename}:{frame.lineno} in {frame.name}"
    return line + (f"\n      {frame.line.strip()}" if frame.line else "")


def _report() -> str:
    held = [p for p in _PACKAGES if p.removeprefix("dm-") in sys.modules]
    versions = [f"{p} {importlib.metadata.version(p)}" for p in ("ivyport", *held)]
    return (
        f"  {_MARK} and not of your model. Please report it to ivyport's "
        "maintainers with this text, the traceback and the smallest model that shows it "
        f"({', '.join(versions)}).\n"
        "  Until it is mended: leave the module that it names out, and port the others."
    )


__all__ = ["explained", "guarded"]
