"""Two folders trade places in one step, where the system can do that.

Linux: renameat2 with RENAME_EXCHANGE, https://man7.org/linux/man-pages/man2/rename.2.html
macOS: renamex_np with RENAME_SWAP, https://keith.github.io/xcode-man-pages/renamex_np.2.html
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_SWAP = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV}


def exchange(one: Path, other: Path) -> bool:
    """Swap two existing paths of one file system; False where this cannot be done at once.

    Raises:
        OSError: either is missing, or may not be moved.
    """
    call = _call(os.fsencode(one), os.fsencode(other))
    if call is None:
        return False
    if call == 0:
        return True
    if call in _CANNOT:
        return False
    raise OSError(call, os.strerror(call), str(other))


def _call(one: bytes, other: bytes) -> int | None:
    """The error number, 0 for none, None where the system has no such call."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform.startswith("linux"):
            failed = libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _SWAP)
        elif sys.platform == "darwin":
            failed = libc.renamex_np(one, other, _SWAP)
        else:
            return None
    except (AttributeError, OSError, TypeError):
        return None
    return ctypes.get_errno() if failed else 0
