"""What a source asked of symbolic sizes while it was captured.

JAX refuses an inequality that it cannot decide and takes an equality that it cannot decide for
false, whatever the example's sizes say; ``if size:`` is always true. `Asked` writes them down with
the source's line, so that they become what the example answers: a constraint of the capture and a
check of the port. A size that becomes text, that is looked up in a dict, or whose class is asked
for (``isinstance(size, int)``, ``type(size) is int``), has to be constant.

Source: https://docs.jax.dev/en/latest/export/shape_poly.html#comparison-of-symbolic-dimensions-is-partially-supported
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import sysconfig
from collections.abc import Mapping
from types import FrameType
from typing import Any

from jax._src.export import shape_poly
from jax.export import is_symbolic_dim

from ivyport.core.checks import Check, Line
from ivyport.core.dims import DimLike, evaluate
from ivyport.frontends.jax.errors import library_files
from ivyport.frontends.jax.sizes import to_dim
from ivyport.frontends.lines import keeps
from ivyport.frontends.shadowing import shadowed


@dataclasses.dataclass(frozen=True)
class Question:
    """A comparison that the symbols leave open; `relation` is ``==`` or ``>=``."""

    left: Any
    relation: str
    right: Any
    line: Line | None

    def answer(self, sizes: Mapping[str, int]) -> Check | None:
        """The comparison as it is for the example's sizes, None if it stays open."""
        left, right = _dim(self.left), _dim(self.right)
        a, b = evaluate(left, sizes), evaluate(right, sizes)
        if not isinstance(a, int) or not isinstance(b, int):
            return None
        if self.relation == "==":
            return Check(left, "==" if a == b else "!=", right, self.line)
        if isinstance(left, int):
            return Check(right, "<=" if a >= b else ">", left, self.line)
        return Check(left, ">=" if a >= b else "<", right, self.line)

    def constraint(self, sizes: Mapping[str, int]) -> str | None:
        """What JAX has to be told to answer as for the example's sizes."""
        check = self.answer(sizes)
        if check is None or check.relation == "!=":
            return None
        if check.relation in ("<", ">"):
            return f"{self.right} >= {self.left + 1}"
        relation = "==" if self.relation == "==" else ">="
        return f"{self.left} {relation} {self.right}"


class Asked:
    """A context in which the source's open questions about sizes are written down.

    `used` are sizes that the source's own code made text of or looked up, with the line.
    """

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.used: list[tuple[Any, Line]] = []
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Asked:
        kind = shape_poly._DimExpr
        asked, equal, decide = self, kind.__eq__, shape_poly._geq_decision
        libraries = library_files()

        def __eq__(one: Any, other: Any) -> bool:
            result = equal(one, other)
            frame = sys._getframe(1)
            # `!=` is written in terms of `==`.
            if frame.f_code.co_name == "__ne__" and frame.f_back is not None:
                frame = frame.f_back
            if result or frame.f_code.co_filename.startswith(libraries):
                return result
            if is_symbolic_dim(one - other if _comparable(one, other) else 0):
                asked.questions.append(Question(one, "==", other, _line(frame)))
            return result

        def _geq_decision(one: Any, other: Any, described: Any) -> bool:
            try:
                return bool(decide(one, other, described))
            except shape_poly.InconclusiveDimensionOperation:
                line = _source_line(sys._getframe(1), libraries)
                asked.questions.append(Question(one, ">=", other, line))
                raise

        def __bool__(size: Any) -> bool:
            frame = sys._getframe(1)
            if not frame.f_code.co_filename.startswith(libraries):
                asked.questions.append(Question(size, "==", 0, _line(frame)))
            return True

        power = kind.__pow__

        def __pow__(size: Any, exponent: Any, modulo: Any = None) -> Any:
            # As `size / 2`, which JAX computes with a traced number.
            if isinstance(exponent, float) and not exponent.is_integer():
                return size.__jax_array__() ** exponent
            return power(size, exponent, modulo)

        self._replace(kind, "__pow__", __pow__)
        self._replace(kind, "__eq__", __eq__)
        self._replace(shape_poly, "_geq_decision", _geq_decision)
        self._replace(kind, "__bool__", __bool__)
        for name in ("__str__", "__repr__", "__format__", "__hash__"):
            self._replace(kind, name, self._noted(getattr(kind, name), libraries))
        own = _own_modules(libraries)
        self._undo.enter_context(shadowed(own, "isinstance", self._isinstance))
        self._undo.enter_context(shadowed(own, "type", self._type()))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _replace(self, owner: Any, name: str, function: Any) -> None:
        if name in vars(owner):
            self._undo.callback(setattr, owner, name, vars(owner)[name])
        else:
            self._undo.callback(delattr, owner, name)
        setattr(owner, name, function)

    def _noted(self, original: Any, libraries: tuple[str, ...]) -> Any:
        """The method, which writes down whether the source's own code calls it."""

        def method(size: Any, *args: Any) -> Any:
            frame = sys._getframe(1)
            file = frame.f_code.co_filename
            if not file.startswith(libraries) and _is_own(file):
                text = original.__name__ != "__hash__"
                if not text or keeps(file, frame.f_lineno):
                    self.used.append((size, _line(frame)))
            return original(size, *args)

        return method

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        """`isinstance` in the source's modules: a size is an integer there, and here it is none."""
        if is_symbolic_dim(value) and isinstance(0, kinds):
            self.used.append((value, _line(sys._getframe(1))))
        return isinstance(value, kinds)

    def _type(self) -> type:
        """`type` in the source's modules, where it is called with a size, too."""
        used = self.used

        class Kind(type):
            def __call__(cls, *args: Any, **kwargs: Any) -> Any:
                if len(args) == 1 and is_symbolic_dim(args[0]):
                    used.append((args[0], _line(sys._getframe(1))))
                return type(*args, **kwargs)

            def __instancecheck__(cls, value: Any) -> bool:
                return isinstance(value, type)

            def __subclasscheck__(cls, kind: Any) -> bool:
                return issubclass(kind, type)

        class Shown(type, metaclass=Kind):
            pass

        return Shown

    @property
    def refused(self) -> Question | None:
        """The inequality that JAX refused to decide, if the last question is one."""
        last = self.questions[-1] if self.questions else None
        return last if last is not None and last.relation == ">=" else None

    def equalities(self) -> list[Question]:
        """The equalities that JAX took for false."""
        return [q for q in self.questions if q.relation == "=="]


def _is_own(file: str) -> bool:
    """Whether a file is the user's: none of an installed package or of Python's own."""
    return "site-packages" not in file and not file.startswith(_STANDARD)


def _own_modules(libraries: tuple[str, ...]) -> list[dict[str, Any]]:
    """The names of each module that is the user's."""
    found = []
    for name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", {})
        file = names.get("__file__") or ("" if name == "__main__" else None)
        own = isinstance(file, str) and _is_own(file) and not file.startswith(libraries)
        if own:
            found.append(names)
    return found


_STANDARD = sysconfig.get_paths()["stdlib"]


def _comparable(one: Any, other: Any) -> bool:
    if is_symbolic_dim(other):
        return bool(one.scope is other.scope)
    return isinstance(other, int)


def _dim(size: Any) -> DimLike:
    return to_dim(size)


def _source_line(frame: FrameType | None, libraries: tuple[str, ...]) -> Line | None:
    while frame is not None:
        if not frame.f_code.co_filename.startswith(libraries):
            return _line(frame)
        frame = frame.f_back
    return None


def _line(frame: FrameType) -> Line:
    return Line.at(frame.f_code.co_filename, frame.f_lineno)
