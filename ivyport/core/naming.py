"""Names of values, read off the source: the variable that a line of a method assigns.

A frontend knows, for each node, one stack frame a module's method. The last node made by a
statement carries what the statement assigns, so it gets that variable's name in that module.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import linecache


@dataclasses.dataclass(frozen=True)
class Frame:
    """One stack frame: the statement's first and last line, and the variables it assigns."""

    file: str
    line: int
    statement: tuple[int, int]
    targets: tuple[str, ...]

    def name(self, item: int | None) -> str | None:
        """The variable for the statement's value, or for item `item` of a tuple."""
        if len(self.targets) == 1:
            return self.targets[0]
        if item is not None and item < len(self.targets):
            return _useful(self.targets[item])
        named = [t for t in self.targets if _useful(t)]
        return named[0] if len(named) == 1 else None


def _useful(name: str) -> str | None:
    return name if name.strip("_") else None


@functools.lru_cache(maxsize=65536)
def frame_at(file: str, line: int) -> Frame:
    """The frame of code that runs at that line."""
    span, targets = _statements(file).get(line, ((line, line), ()))
    return Frame(file, line, span, targets)


@functools.lru_cache(maxsize=256)
def syntax_tree(file: str) -> ast.Module | None:
    """The code of a file, None where it is not at hand or is none."""
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return None


@functools.cache
def _statements(file: str) -> dict[int, tuple[tuple[int, int], tuple[str, ...]]]:
    """For each line the innermost simple statement on it and the variables it assigns."""
    tree = syntax_tree(file)
    if tree is None:
        return {}
    found: dict[int, tuple[tuple[int, int], tuple[str, ...]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not getattr(node, "body", None):
            span = (node.lineno, node.end_lineno or node.lineno)
            for line in range(span[0], span[1] + 1):
                found[line] = (span, _targets(node))
    return found


def _targets(statement: ast.stmt) -> tuple[str, ...]:
    target: ast.expr | None = None
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        target = statement.target
    if isinstance(target, ast.Tuple):
        return tuple(e.id if isinstance(e, ast.Name) else "_" for e in target.elts)
    if isinstance(target, ast.Name) and _useful(target.id):
        return (target.id,)
    return ()


@dataclasses.dataclass(frozen=True)
class Made:
    """Where a node was made: its module calls, its frames, its position in a tuple."""

    scope: tuple[object, ...]
    stack: tuple[Frame, ...]
    item: int | None = None


def assigned_names(nodes: list[Made]) -> list[dict[int, str]]:
    """For each node in order, the variable that it completes at each depth of the stack."""
    result: list[dict[int, str]] = []
    after = [*nodes[1:], Made((), ())] if nodes else []
    for node, following in zip(nodes, after, strict=True):
        names: dict[int, str] = {}
        for depth in range(min(len(node.scope), len(node.stack))):
            frame = node.stack[depth]
            name = frame.name(node.item)
            goes_on = _same_statement(node, following, depth) and node.item is None
            if name is not None and not goes_on:
                names[depth] = name
        result.append(names)
    return result


def _same_statement(node: Made, following: Made, depth: int) -> bool:
    if following.scope[: depth + 1] != node.scope[: depth + 1]:
        return False
    if len(following.stack) <= depth:
        return False
    one, other = node.stack[depth], following.stack[depth]
    return one.file == other.file and one.statement == other.statement
