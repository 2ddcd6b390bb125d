"""What is demanded of every hostile file: data or one error of ours, soon, and nothing run."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any

from ivyport.core.errors import IvyportError

SECONDS = 5
#: What runs something, by the names of Python's audit events.
RUNS = ("exec", "import", "os.system", "os.exec", "os.fork", "os.posix_spawn", "ctypes")
RUNS = (*RUNS, "subprocess.Popen", "os.remove", "os.rename", "socket.connect", "pickle")
LONGEST = 60_000

_LIBRARIES = {*sys.stdlib_module_names, "numpy", "ml_dtypes", "safetensors"}
_PATHS = sysconfig.get_paths()
_INSTALLED_AT = ("<frozen", _PATHS["stdlib"], _PATHS["platlib"], _PATHS["purelib"])

_watched: list[list[str] | None] = [None]
_installed: list[bool] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _watched[0]
    if seen is None or not event.startswith(RUNS):
        return
    # Python and the packages load parts of themselves when they are first needed.
    if event == "import" and str(arguments[0]).partition(".")[0] in _LIBRARIES:
        return
    if event == "exec" and arguments[0].co_filename.startswith(_INSTALLED_AT):
        return
    seen.append(f"{event} {arguments[:1]!r}")


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """The audit events of `RUNS` that happen meanwhile."""
    if not _installed:
        sys.addaudithook(_audit)
        _installed.append(True)
    _watched[0] = seen = []
    try:
        yield seen
    finally:
        _watched[0] = None


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in what takes longer."""

    def over(*_: Any) -> None:
        raise TimeoutError(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attacked(read: Callable[[], Any], *, run: bool = False) -> Any:
    """What `read` gives, or the text of its error; anything else fails the test.

    `run` says that reading may import and run what ivyport itself runs.
    """
    with watched() as seen, limited(SECONDS):
        try:
            found = read()
        except IvyportError as error:
            found = str(error)
            assert found.isprintable() or found.replace("\n", "").isprintable(), found
            assert len(found) < LONGEST, f"{len(found)} characters"
    assert run or not seen, seen
    return found


def peak() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
