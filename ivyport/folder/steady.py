"""Reading a folder that may be replaced meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ivyport.core.errors import IvyportError, SourceError
from ivyport.folder.manifest import PORT
from ivyport.folder.replace import settled

T = TypeVar("T")
#: A folder that is replaced oftener than this while it is read is given up.
_TRIES = 20


def steady(folder: Path, read: Callable[[], T]) -> T:
    """What `read` finds in a folder that stays the same while it is read.

    Raises:
        SourceError: it never does.
    """
    for _ in range(_TRIES):
        before = _held(folder)
        try:
            found = read()
        except (IvyportError, OSError):
            if _held(folder) == before:
                raise
            continue
        if _held(folder) == before:
            return found
    raise SourceError(f"{folder} is replaced again and again while it is read")


def _held(folder: Path) -> bytes | None:
    """A digest of ``port.json``, which differs for every port."""
    settled(folder)
    with contextlib.suppress(OSError):
        return hashlib.sha256((folder / PORT).read_bytes()).digest()
    return None
