"""A factory in the user's own code, found by its name."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from ivyport.core.errors import FactoryError, IvyportError, SourceError
from ivyport.core.shown import printable

_PATHS = sysconfig.get_paths()
_MOST = 4000  # characters of a traceback, its end


@contextlib.contextmanager
def theirs(spec: str) -> Iterator[None]:
    """Say of what the user's own code raises that it is theirs, with its traceback.

    Raises:
        FactoryError: anything but an error of ivyport was raised.
    """
    try:
        yield
    except IvyportError:
        raise
    except Exception as error:
        own = str(Path(__file__).parent.parent)
        frames = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if not frame.filename.startswith((own, "<frozen importlib"))
        ]
        lines = traceback.format_list(frames) + traceback.format_exception_only(error)
        raise FactoryError(
            f"{spec}: your own code raises, before ivyport has anything to do:\n"
            + printable("".join(lines)[-_MOST:]).rstrip()
        ) from error


def _refuse_standard(spec: str, module: str) -> None:
    """No module of Python's own makes models, and some end the process."""
    if module not in sys.stdlib_module_names:
        return
    found = importlib.util.find_spec(module)
    origin = None if found is None else found.origin
    standard = tuple({_PATHS["stdlib"], _PATHS["platstdlib"]})
    if origin in (None, "built-in", "frozen") or str(origin).startswith(standard):
        raise SourceError(f"{spec}: {module} is Python's own and makes no model.")


def find_factory(spec: str) -> object:
    """What `pkg.module:factory` names; modules of the working folder are found too.

    Raises `SourceError` where there is no such module or factory, `FactoryError` where the
    module raises.
    """
    module_name, colon, attribute = spec.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise SourceError(f"{spec!r} does not read as pkg.module:factory.")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    _refuse_standard(spec, parts[0])
    with theirs(spec):
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise SourceError(
                f"{spec}: no module {error.name!r} here or among the installed packages."
            ) from error
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            public = ", ".join(n for n in dir(found) if not n.startswith("_"))
            raise SourceError(f"{spec}: no {part!r} there, only: {public}.") from error
    return found
