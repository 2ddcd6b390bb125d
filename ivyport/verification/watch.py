"""Records what the modules of a port return while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from ivyport.verification.compare import Array, flatten
from ivyport.verification.sides import Record


class Watcher:
    """Wraps the methods of classes while a model runs.

    Args:
        paths: the source path of each watched module, by the module's id.
        record: called as the calls end.
        read: a framework's tensor as a numpy array.
        call: the method that a library's own layers are run by.
        library: the package of those layers; of classes elsewhere every public method
            is watched.
    """

    def __init__(
        self,
        paths: Mapping[int, str],
        record: Record,
        read: Callable[[Any], Array],
        *,
        call: str,
        library: str,
    ) -> None:
        self._paths = paths
        self._record = record
        self._read = read
        self._call = call
        self._library = library
        self._counts: dict[str, int] = {}
        self._running: set[int] = set()
        #: The source path of the innermost module that raised.
        self.failed: str | None = None

    @contextlib.contextmanager
    def patched(self, classes: set[type]) -> Iterator[None]:
        """Replace the methods of `classes`, and put them back."""
        before: list[tuple[type, str, Any]] = []
        try:
            for cls in classes:
                for name, method in self._methods(cls).items():
                    before.append((cls, name, vars(cls).get(name)))
                    setattr(cls, name, self._wrap(method))
            yield
        finally:
            # Backwards: a class may inherit from another one of them.
            for cls, name, own in reversed(before):
                delattr(cls, name) if own is None else setattr(cls, name, own)

    def _methods(self, cls: type) -> dict[str, FunctionType]:
        found: dict[str, FunctionType] = {}
        for base in cls.__mro__:
            emitted = base.__module__.partition(".")[0] != self._library
            for name, value in vars(base).items():
                wanted = name == self._call or (emitted and not name.startswith("_"))
                if wanted and isinstance(value, FunctionType):
                    found.setdefault(name, value)
        return found

    def _wrap(self, method: FunctionType) -> Callable[..., Any]:
        def wrapped(module: Any, *args: Any, **kwargs: Any) -> Any:
            path = self._paths.get(id(module))
            # A method that calls another of the same object is one call.
            if path is None or id(module) in self._running:
                return method(module, *args, **kwargs)
            self._running.add(id(module))
            done = False
            try:
                result = method(module, *args, **kwargs)
                done = True
            finally:
                self._running.discard(id(module))
                if not done and self.failed is None:
                    self.failed = path
            call = self._counts.get(path, 0)
            self._counts[path] = call + 1
            arrays = flatten(result).arrays().values()
            self._record(path, call, [self._read(a) for a in arrays])
            return result

        return wrapped
