"""A factory in the user's own code, found by its name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from ivyport.core.errors import SourceError


def find_factory(spec: str) -> object:
    """What `pkg.module:factory` names; modules of the working folder are found too.

    Raises `SourceError` where there is no such module or factory.
    """
    module_name, colon, attribute = spec.partition(":")
    parts = [*module_name.split("."), *attribute.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        raise SourceError(f"{spec!r} does not read as pkg.module:factory.")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
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
