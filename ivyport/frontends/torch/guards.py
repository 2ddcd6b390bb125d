"""What a capture took for granted of symbolic sizes: torch's guards, each with its line.

`torch.export` runs a model on symbolic sizes that have the example's values. Wherever the code
asks for a size (``if t % 2 == 0``), torch answers for the example and keeps the answer as a guard
of its shape environment. `GuardLog` writes them down while the capture runs, with the line of the
source that asked; `assumptions` turns them into checks that a port makes when it is called.

Source: ``ShapeEnv.evaluate_expr`` of ``torch/fx/experimental/symbolic_shapes.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import sympy
import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from ivyport.core.checks import Check, Line
from ivyport.core.errors import TraceError
from ivyport.frontends.lines import keeps
from ivyport.frontends.torch.naming import frames
from ivyport.frontends.torch.sizes import from_sympy

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent.parent)
_STANDARD = sysconfig.get_paths()["stdlib"]
# What these ask of a length of 1 (`q_length > 1`) picks a kernel or a shortcut for the same
# numbers: attention of one position is causal either way. `replay` tries that.
_ASIDE = ("site-packages/transformers/", str(Path(torch.__file__).parent / "nn"))
# torch asks here how a tensor lies in memory, which no port depends on.
_LAYOUT = frozenset(
    {
        "check_contiguous_sizes_strides",
        "is_contiguous",
        "is_contiguous_for_memory_format",
        "is_channels_last_contiguous",
        "is_channels_last_contiguous_2d",
        "is_channels_last_contiguous_3d",
        "are_strides_like_channels_last",
        "are_strides_like_channels_last_or_false",
        "is_non_overlapping_and_dense",
        "compute_elementwise_output_logical_to_physical_perm",
        "compute_elementwise_output_strides",
        "_reshape_view_helper_core_alg",
        "_compute_stride",
    }
)
_SQUEEZES = (
    torch.ops.aten.squeeze.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten.squeeze.dims,
)
_RELATIONS = {
    sympy.Eq: "==",
    sympy.Ne: "!=",
    sympy.StrictLessThan: "<",
    sympy.LessThan: "<=",
    sympy.StrictGreaterThan: ">",
    sympy.GreaterThan: ">=",
}

Guard = tuple[Any, Line | None]


class GuardLog:
    """A context that writes down guards as torch makes them.

    Beside torch's own guards it keeps what the source's code itself asked: torch takes sizes of 0
    and 1 for constants, and so answers ``if batch > 1`` without a guard. `aside` are such questions
    of libraries. Text that is made of a size and kept has the example's number in it, which fixes
    the size.
    """

    def __init__(self) -> None:
        self.guards: list[Guard] = []
        self.aside: list[Guard] = []
        self._counts: dict[int, int] = {}
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> GuardLog:
        log, evaluate = self, ShapeEnv.evaluate_expr

        def evaluate_expr(env: ShapeEnv, *args: Any, **kwargs: Any) -> Any:
            result = evaluate(env, *args, **kwargs)
            log._note(env)
            return result

        self._replace(ShapeEnv, "evaluate_expr", evaluate_expr)
        self._answered(torch.SymBool, "__bool__", lambda expr: expr)
        self._answered(torch.SymBool, "__int__", lambda expr: expr)
        self._answered(torch.SymInt, "__bool__", lambda expr: sympy.Ne(expr, 0))
        self._replace(math, "sqrt", _root(math.sqrt))
        self._replace(np, "sqrt", _root(np.sqrt))
        self._written("__str__", lambda size: str(int(size)))
        self._written("__repr__", lambda size: repr(int(size)))
        self._written("__format__", lambda size, spec: format(int(size), spec))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _replace(self, kind: Any, name: str, function: Any) -> None:
        if name in vars(kind):
            self._undo.callback(setattr, kind, name, vars(kind)[name])
        else:
            self._undo.callback(delattr, kind, name)
        setattr(kind, name, function)

    def _answered(self, kind: type, name: str, asked: Callable[[Any], Any]) -> None:
        """Write down what is true where the source turns a symbol into a yes or no."""
        original = getattr(kind, name)

        def answer(value: Any) -> Any:
            expr = value.node.expr
            result = original(value)
            caller = sys._getframe(1)
            file = caller.f_code.co_filename
            aside = any(part in file for part in _ASIDE)
            if aside or not file.startswith((_TORCH, _HERE)):
                found = self.aside if aside else self.guards
                holds = asked(expr) if result else sympy.Not(asked(expr))
                found.append((holds, _source_line(caller)[0]))
            return result

        self._replace(kind, name, answer)

    def _written(self, name: str, spell: Callable[..., str]) -> None:
        """Let the source's own code write sizes as numbers, where it keeps the text."""
        original = getattr(torch.SymInt, name)

        def write(size: Any, *spec: str) -> Any:
            caller = sys._getframe(1)
            file = caller.f_code.co_filename
            own = not file.startswith((_TORCH, _HERE)) and "site-packages" not in file
            if own and is_source(file) and keeps(file, caller.f_lineno):
                return spell(size, *spec)
            return original(size, *spec)

        self._replace(torch.SymInt, name, write)

    def _note(self, env: ShapeEnv) -> None:
        known = self._counts.get(id(env), 0)
        if len(env.guards) == known:
            return
        line, layout = _source_line(sys._getframe(2))
        for guard in env.guards[known:] if not layout else ():
            found = self.aside if _is_not_one(guard.expr) else self.guards
            found.append((guard.expr, line))
        self._counts[id(env)] = len(env.guards)


def _root(plain: Callable[..., Any]) -> Callable[..., Any]:
    """``math.sqrt``, which would fix a size, for the source's own code: it stays symbolic."""

    def root(x: Any, *args: Any, **kwargs: Any) -> Any:
        file = sys._getframe(1).f_code.co_filename
        symbolic = isinstance(x, torch.SymInt | torch.SymFloat)
        if symbolic and not file.startswith(_TORCH):
            return torch.sym_sqrt(x)
        return plain(x, *args, **kwargs)

    return root


def _source_line(frame: FrameType | None) -> tuple[Line | None, bool]:
    """The innermost line of the source; and whether torch asks for the layout in memory."""
    layout = False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_HERE) and code.co_filename != __file__:
            break
        if code.co_filename.startswith(_TORCH):
            layout = layout or code.co_name in _LAYOUT
        elif code.co_filename != __file__ and is_source(code.co_filename):
            return Line.at(code.co_filename, frame.f_lineno), layout
        frame = frame.f_back
    return None, layout


def source_line(frame: FrameType | None) -> Line | None:
    """The innermost line of the source in a frame or those that called it."""
    return _source_line(frame)[0]


def is_source(file: str) -> bool:
    """Whether a file is of the source or of a library, and none of Python's own."""
    installed = "site-packages" in file or not file.startswith(_STANDARD)
    return installed and not file.startswith("<")


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What a capture took for granted, in terms of named dimensions.

    `unclear` are dimensions about which torch guessed in a way that no check can say, with the
    line; they have to be constant. `doubtful` are conditions of libraries that may be harmless.
    """

    checks: tuple[Check, ...]
    unclear: Mapping[str, Line | None]
    doubtful: tuple[Check, ...] = ()


def assumptions(
    log: GuardLog, program: torch.export.ExportedProgram, names: Mapping[str, str]
) -> Assumed:
    """The guards of a finished capture as checks; `names` has torch's symbols."""
    env = _shape_env(program)
    if env is None:
        return Assumed((), {})
    checks: list[Check] = []
    unclear: dict[str, Line | None] = {}
    for expr, line in [*log.guards, *_squeezed(program)]:
        settled = env.replace(expr)
        for part in _parts(settled):
            if part is sympy.true or not part.free_symbols:
                continue
            # Sizes that depend on data are not those of inputs.
            if not all(str(s) in names for s in part.free_symbols):
                continue
            check = _check(part, dict(names), line)
            if check is None:
                found = sorted({names[str(s)] for s in part.free_symbols})
                unclear.setdefault(found[-1], line)
            else:
                checks.append(check)
    for expr, line in _sizes(program):
        known = sorted({names[str(s)] for s in expr.free_symbols if str(s) in names})
        if known and not _has_form(expr, dict(names)):
            unclear.setdefault(known[-1], line)
    return Assumed(tuple(checks), unclear, _doubtful(log, env, names))


def _sizes(program: torch.export.ExportedProgram) -> Iterator[Guard]:
    """The symbolic sizes of a program's tensors, each with a line that makes one."""
    found: dict[Any, Line | None] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for size in value.shape if isinstance(value, torch.Tensor) else ():
            if isinstance(size, torch.SymInt) and size.node.expr not in found:
                found[size.node.expr] = node_line(node)
    yield from found.items()


def _has_form(expr: Any, names: dict[str, str]) -> bool:
    """Whether a size of torch's can be said as one of ours."""
    try:
        from_sympy(expr, names)
    except TraceError:
        return False
    return True


def _doubtful(
    log: GuardLog, env: ShapeEnv, names: Mapping[str, str]
) -> tuple[Check, ...]:
    """What libraries asked, mostly whether a size is 1."""
    found: dict[str, Check] = {}
    for expr, line in log.aside:
        for part in _parts(env.replace(expr)):
            known = {str(s) for s in part.free_symbols} <= names.keys()
            check = _check(part, dict(names), line) if part.free_symbols else None
            if known and check is not None:
                found.setdefault(str(check), check)
    return tuple(found.values())


def _is_not_one(expr: Any) -> bool:
    """Whether a guard of torch is that a size is not 1, for which its kernels have shortcuts.

    It asks the same of all free sizes, without a guard.
    """
    if isinstance(expr, sympy.StrictGreaterThan | sympy.StrictLessThan):
        return bool(expr.lts == sympy.S.One)
    return isinstance(expr, sympy.Ne) and sympy.S.One in expr.args


def _shape_env(program: torch.export.ExportedProgram) -> ShapeEnv | None:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        mode = getattr(value, "fake_mode", None)
        if mode is not None:
            env: ShapeEnv | None = mode.shape_env
            return env
    return None


def _parts(expr: Any) -> Iterable[Any]:
    """The conditions of which all must hold."""
    if isinstance(expr, sympy.Not):
        inner = expr.args[0]
        if isinstance(inner, sympy.Or):
            return [p for a in inner.args for p in _parts(sympy.Not(a))]
    if isinstance(expr, sympy.And):
        return [p for a in expr.args for p in _parts(a)]
    return [expr]


def _check(expr: Any, names: dict[str, str], line: Line | None) -> Check | None:
    relation = next((r for kind, r in _RELATIONS.items() if type(expr) is kind), None)
    if relation is None:
        return None
    try:
        left, right = (from_sympy(side, names) for side in expr.args)
    except TraceError:
        return None
    return Check(left, relation, right, line)


def _squeezed(program: torch.export.ExportedProgram) -> list[Guard]:
    """`squeeze` drops axes of 1: that a symbolic one is kept holds for 2 and more."""
    found = []
    for node in program.graph.nodes:
        if node.target not in _SQUEEZES:
            continue
        shape = node.args[0].meta["val"].shape
        given = node.args[1] if len(node.args) > 1 else range(len(shape))
        axes = [given] if isinstance(given, int) else given
        for size in (shape[axis] for axis in axes):
            if isinstance(size, torch.SymInt):
                found.append((sympy.Ne(size.node.expr, 1), node_line(node)))
    return found


def node_line(node: fx.Node) -> Line | None:
    """The source's line that made a node."""
    stack = frames(node.meta.get("stack_trace") or "")
    return Line.at(stack[-1].file, stack[-1].line) if stack else None
