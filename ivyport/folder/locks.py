"""A lock between processes: a file that is removed when the lock is given back.

The system gives it back by itself when its holder dies.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

#: What file systems say that have no locks.
_WITHOUT = {errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EBADF}


class Lock:
    """A lock that one process, and one `Lock` in it, can hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, *, wait: bool) -> bool:
        """Take the lock; without `wait` False where another one holds it.

        Where the system or its files have no locks, a lock that is waited for counts as held, and
        one that is not as another's.
        """
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                held = _locked(handle, wait)
                if held is False or (held is None and not wait):
                    os.close(handle)
                    return False
                # Its last holder may have removed the file after it was opened here.
                if _is_at(handle, self.path):
                    self._handle = handle
                    return True
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)

    def release(self) -> None:
        """Give the lock back and remove its file."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        try:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a path, waiting for it."""
    lock = Lock(path)
    lock.acquire(wait=True)
    try:
        yield
    finally:
        lock.release()


def _locked(handle: int, wait: bool) -> bool | None:
    """Whether the lock was taken; None where there are no locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _WITHOUT:
            return None
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), there)
