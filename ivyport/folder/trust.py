"""Whose code a folder holds: what this machine's ivyport emitted runs, anything else is asked for.

To load a port is to run its Python file, and to rebuild its source is to call the factory that
``port.json`` names. A folder may come from anywhere. For every port that is written, a digest of
both is kept in the user's state folder; a folder whose digest is not among them runs only with
``trust=True``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path

from ivyport.core.errors import SourceError

_emitted: set[str] = set()


def fingerprint(code: bytes, digest: str) -> str:
    """The digest of what would run: the file, and the class and the factory of the record.

    `digest` is that of the record.
    """
    return hashlib.sha256(hashlib.sha256(code).digest() + digest.encode()).hexdigest()


def remember(code: bytes, digest: str) -> None:
    """Note that this machine's ivyport emitted this.

    Where the state folder cannot be written, it is known to this process alone.
    """
    made = fingerprint(code, digest)
    if is_known(made):
        return
    _emitted.add(made)
    # RuntimeError: the user has no home.
    with contextlib.suppress(OSError, RuntimeError):
        path = state_file()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One short write at the end of the file is not torn apart by another process.
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, f"{made}\n".encode())
        finally:
            os.close(handle)


def is_known(made: str) -> bool:
    """Whether `remember` was told of it, by this process or an earlier one."""
    if made in _emitted:
        return True
    try:
        lines = state_file().read_text(encoding="ascii", errors="replace").split()
    except (OSError, RuntimeError):
        return False
    return made in lines


def demand_trust(file: Path, code: bytes, digest: str, *, trust: bool) -> None:
    """Let the code of a port's file run only where ivyport wrote it here, or the user says so.

    `digest` is that of the port's record.

    Raises:
        SourceError: neither is so.
    """
    if trust or is_known(fingerprint(code, digest)):
        return
    raise SourceError(
        f"{file} is Python code that would run with your rights, and this "
        "machine's ivyport did not write it (its folder comes from elsewhere, or its code "
        "was changed). Read that file; if you trust it, load the folder "
        "with trust=True (on the command line: --trust)."
    )


def state_file() -> Path:
    """Where digests are kept: the place of the system for a user's state."""
    home = Path.home
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home() / ".local" / "state")
    return base / "ivyport" / "emitted"
