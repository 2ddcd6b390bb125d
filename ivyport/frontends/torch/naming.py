"""Names of values, read off the source: the variable that a line of `forward` assigns.

`torch.export` keeps, for each node, one stack frame a module's forward. The last node made by a
statement carries what the statement assigns, so it gets that variable's name in that module.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import linecache
import re

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


@dataclasses.dataclass(frozen=True)
class Frame:
    """One stack frame; `statement` is the first and last line of the statement there."""

    file: str
    line: int
    statement: tuple[int, int]
    target: str | None


@functools.cache
def _statements(file: str) -> dict[int, tuple[tuple[int, int], str | None]]:
    """For each line the innermost simple statement on it and the variable it assigns."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[int, tuple[tuple[int, int], str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not getattr(node, "body", None):
            span = (node.lineno, node.end_lineno or node.lineno)
            for line in range(span[0], span[1] + 1):
                found[line] = (span, _target(node))
    return found


def _target(statement: ast.stmt) -> str | None:
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        target = statement.target
    if isinstance(target, ast.Tuple) and target.elts:
        target = target.elts[0]
    if isinstance(target, ast.Name) and target.id != "_":
        return target.id
    return None


@functools.lru_cache(maxsize=65536)
def frames(trace: str) -> tuple[Frame, ...]:
    """The frames of a ``stack_trace``, outermost first."""
    result = []
    for match in _FRAME.finditer(trace):
        file, line = match["file"], int(match["line"])
        span, target = _statements(file).get(line, ((line, line), None))
        result.append(Frame(file, line, span, target))
    return tuple(result)


def assigned_names(
    traces: list[tuple[tuple[object, ...], tuple[Frame, ...]]],
) -> list[dict[int, str]]:
    """For each node, the variable that it completes at each depth of the module stack.

    Args:
        traces: for each node in order its scope stack and its frames.
    """
    result: list[dict[int, str]] = []
    for position, (scope, stack) in enumerate(traces):
        following = traces[position + 1] if position + 1 < len(traces) else ((), ())
        names: dict[int, str] = {}
        for depth in range(min(len(scope), len(stack))):
            frame = stack[depth]
            same = (
                following[0][: depth + 1] == scope[: depth + 1]
                and len(following[1]) > depth
                and following[1][depth].file == frame.file
                and following[1][depth].statement == frame.statement
            )
            if frame.target and not same:
                names[depth] = frame.target
        result.append(names)
    return result
