"""What becomes of a value that a line of the source makes."""

from __future__ import annotations

import ast
import functools

from ivyport.core.naming import syntax_tree


@functools.cache
def _statements(file: str) -> list[tuple[int, int, bool]]:
    """First and last line of each simple statement, and whether it does away with its value."""
    tree = syntax_tree(file)
    if tree is None:
        return []
    return [
        (node.lineno, node.end_lineno or node.lineno, isinstance(node, _THROWN))
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and not hasattr(node, "body")
    ]


_THROWN = (ast.Expr, ast.Raise, ast.Assert)


def keeps(file: str, line: int) -> bool:
    """Whether text that a line makes may be used: it is not for a log, a print or an error."""
    found = [
        thrown for first, last, thrown in _statements(file) if first <= line <= last
    ]
    return not found or not all(found)
