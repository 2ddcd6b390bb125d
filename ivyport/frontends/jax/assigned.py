"""Names of values from the lines that made them: the engine with an eye on tracebacks.

An equation's traceback holds every Python frame. The frames of `ScopeTable.run` cut it at the
module calls; the first frame of the source in each piece is the module's method, the next ones are
helpers.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from pathlib import Path
from typing import Any

import jax

from ivyport.core.ir import Scope, Value
from ivyport.core.naming import Frame, Made, assigned_names, frame_at
from ivyport.frontends.jax.lower import MARK, Env, Lowering

Pieces = tuple[
    tuple[Frame, ...], ...
]  # one of each depth: the method's frame, then helpers

_HERE = str(Path(__file__).parent)
_BOUNDARIES = ("ScopeTable.run", "traced_call")
# Between a module call and the module's method: machinery of the libraries, no source.
_MACHINERY = (
    "/haiku/_src/module.py",
    "/haiku/_src/transform.py",
    "/haiku/_src/multi_transform.py",
    "/haiku/_src/stateful.py",
    "/haiku/_src/base.py",
    "/flax/linen/module.py",
    "/flax/linen/transforms.py",
    "/flax/core/",
    "/flax/nnx/transforms/",
    "/flax/nnx/graphlib.py",
    "/flax/nnx/pytreelib.py",
)
_LIBRARY = (
    str(Path(jax.__file__).parent),
    str(Path(contextlib.__file__)),
    str(Path(functools.__file__)),
    str(Path(threading.__file__)),
)


@functools.lru_cache(maxsize=4096)
def _skipped(file: str) -> bool:
    return file.startswith((_HERE, *_LIBRARY)) or any(m in file for m in _MACHINERY)


def pieces(traceback: Any) -> Pieces:
    """The source's frames of an equation, by the depth of their module call."""
    found: list[list[Frame]] = []
    for raw in reversed(traceback.frames if traceback is not None else ()):
        file = raw.file_name
        if file.startswith(_HERE) and raw.function_name.endswith(_BOUNDARIES):
            found.append([])
        elif found and not _skipped(file):
            found[-1].append(frame_at(file, raw.line_num))
    return tuple(tuple(piece) for piece in found)


class NamingLowering(Lowering):
    """The engine; afterwards values know the variables that held them in the source."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._enclosing: list[Pieces] = []
        self._made: list[tuple[tuple[Scope, ...], Pieces, int | None]] = []
        self._values: list[Value] = []

    def run(self, count: int | None = None) -> list[Any]:
        """Lower every equation; the flat outputs, named."""
        outputs = super().run(count)
        self._name()
        return outputs

    def _equation(self, eqn: Any, env: Env) -> None:
        own = pieces(eqn.source_info.traceback)
        stale = bool(self._enclosing) and not _inside(own, self._enclosing[-1])
        here = self._enclosing[-1] if stale else own
        self._enclosing.append(here)
        try:
            super()._equation(eqn, env)
        finally:
            self._enclosing.pop()
        if eqn.primitive.name == MARK or stale:
            return
        stack = self.builder.scope
        several = len(eqn.outvars) > 1
        for position, var in enumerate(eqn.outvars):
            value = env.get(var)
            if isinstance(value, Value) and value.producer is not None:
                self._made.append((stack, here, position if several else None))
                self._values.append(value)

    def _name(self) -> None:
        """Names by the methods' own lines first, then by those of helpers."""
        deepest = max((len(p) for _, here, _ in self._made for p in here), default=0)
        for level in range(deepest):
            made = [
                Made(_at(stack, here, level), _frames(here, level), item)
                for stack, here, item in self._made
            ]
            for value, names in zip(self._values, assigned_names(made), strict=True):
                for depth, name in names.items():
                    value.names.setdefault(depth, name)


def _inside(own: Pieces, enclosing: Pieces) -> bool:
    """Whether the frames are those of a call of `enclosing`, not of an earlier trace.

    jax keeps the jaxprs of inner functions, with the tracebacks of their first caller.
    """
    if len(own) < len(enclosing):
        return False
    outer, last = enclosing[:-1], enclosing[-1:]
    if own[: len(outer)] != outer:
        return False
    return not last or own[len(outer)][: len(last[0])] == last[0]


_NO_FRAME = Frame("", 0, (0, 0), ())


def _frames(here: Pieces, level: int) -> tuple[Frame, ...]:
    return tuple(p[level] if level < len(p) else _NO_FRAME for p in here)


def _at(stack: tuple[Scope, ...], here: Pieces, level: int) -> tuple[object, ...]:
    """Helpers run apart if their callers' lines differ."""
    outer = [p[:level] for p in here] + [()] * len(stack)
    return tuple(zip(stack, outer, strict=False))
