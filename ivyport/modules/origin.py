"""What a line of the source computes its numbers from: attributes and fields that it reads.

A number may be a quotient of a field (``config.width // 4``) that happens to equal another one, so
its value does not tell where it comes from. The line does, with what the function assigned before
to the names that it uses.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator

from ivyport.core.naming import syntax_tree

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Chain = tuple[str, ...]


def read_at(
    file: str, line: int, cls: str = ""
) -> tuple[frozenset[Chain], frozenset[Chain]]:
    """Chains of attributes (``("self", "config", "width")``) that a line reads.

    First those of its statement, then those too from which the function computed the names in it.
    Methods are those of the class `cls`, if it has them. Nothing for code that is not at hand.
    """
    found = _statement(file, line)
    if found is None:
        return frozenset(), frozenset()
    function, statement = found
    own = frozenset(_chains(statement))
    if function is None:
        return own, own
    return own, _slice(file, function, statement, cls)


def _slice(
    file: str, function: ast.AST, statement: ast.AST, cls: str
) -> frozenset[Chain]:
    """What a statement reads, by the names that it uses and the functions that it calls."""
    assigned, functions = _assigned(function), _functions(file)
    seen: set[str] = set()
    chains: set[Chain] = set()
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        found = {*_chains(node)}
        chains |= found
        called = {c[1] for c in found if c[0] == "self" and len(c) == 2}
        for name in {*_names(node)} | called:
            if name not in seen:
                seen.add(name)
                pending += assigned.get(name, [])
                pending += functions.get((cls, name)) or functions.get(("", name), [])
    return frozenset(chains)


@functools.lru_cache(maxsize=64)
def _functions(file: str) -> dict[tuple[str, str], list[ast.AST]]:
    """The functions and methods of a file by class and name; of any class by name alone."""
    found: dict[tuple[str, str], list[ast.AST]] = {}
    tree = syntax_tree(file)
    for node in ast.walk(tree) if tree is not None else ():
        cls = node.name if isinstance(node, ast.ClassDef) else ""
        for part in ast.iter_child_nodes(node):
            if isinstance(part, FUNCTIONS) and part.name not in ("forward", "__init__"):
                for key in {(cls, part.name), ("", part.name)}:
                    found.setdefault(key, []).append(part)
    return found


@functools.lru_cache(maxsize=4096)
def _statement(file: str, line: int) -> tuple[ast.AST | None, ast.AST] | None:
    """The function around a line, if there is one, and the line's statement."""
    tree = syntax_tree(file)
    if tree is None:
        return None
    function: ast.AST | None = None
    statement: ast.AST | None = None
    for node in ast.walk(tree):  # outer ones first
        if not isinstance(node, ast.stmt):
            continue
        if node.lineno <= line <= (node.end_lineno or node.lineno):
            statement = node
            function = node if isinstance(node, FUNCTIONS) else function
    if (
        statement is None
        or statement is function
        or isinstance(statement, ast.ClassDef)
    ):
        return None
    head = next(
        (h for n in ("test", "iter", "subject") if (h := getattr(statement, n, None))),
        statement,
    )
    return function, head


@functools.lru_cache(maxsize=1024)
def _assigned(function: ast.AST) -> dict[str, list[ast.AST]]:
    """What a function assigns to each name."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(function):
        targets: list[ast.AST] = []
        value: ast.AST | None = getattr(node, "value", None)
        if isinstance(node, ast.Assign):
            targets = [*node.targets]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            targets = [node.target]
        elif isinstance(node, ast.For):
            targets, value = [node.target], node.iter
        for target in targets:
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and value is not None:
                    found.setdefault(part.id, []).append(value)
    return found


def _names(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _chains(node: ast.AST) -> Iterator[Chain]:
    for part in ast.walk(node):
        names: list[str] = []
        inner: ast.AST = part
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name):
            yield (inner.id, *reversed(names))
