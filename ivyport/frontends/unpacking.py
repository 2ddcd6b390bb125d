"""What a function calls the parts of its arguments: ``h, c = state`` names ``state[0]``."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from ivyport.core.arguments import labels
from ivyport.core.ir import Argument


def unpacked_names(function: Callable[..., Any]) -> dict[str, str]:
    """The variables that a function assigns parts of its arguments to, by the part's place.

    A place is written as Python does: ``state[0]``, ``batch['x']``, ``batch.x``. Empty where
    the source cannot be read.

    >>> def call(x, state):
    ...     h, c = state
    ...     return h
    >>> unpacked_names(call)
    {'state[0]': 'h', 'state[1]': 'c'}
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            for place, name in _pairs(node.targets[0], node.value):
                found.setdefault(place, name)
    return found


def name_parts(function: Callable[..., Any], arguments: Iterable[Argument]) -> None:
    """Give the tensors in arguments the names that the function gives them."""
    names = unpacked_names(function)
    for value, label in labels(arguments).items() if names else ():
        try:
            place = ast.unparse(ast.parse(label, mode="eval"))
        except SyntaxError:  # a key or a field that is no Python
            continue
        if place in names:
            value.names.setdefault(0, names[place])


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, str]]:
    if isinstance(target, ast.Name):
        return [(ast.unparse(value), target.id)] if _is_place(value) else []
    if not isinstance(target, ast.Tuple | ast.List):
        return []
    if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts):
        pairs = zip(target.elts, value.elts, strict=True)
        return [pair for one in pairs for pair in _pairs(*one)]
    if any(isinstance(part, ast.Starred) for part in target.elts):
        return []
    items = [
        ast.Subscript(value, ast.Constant(i), ast.Load())
        for i in range(len(target.elts))
    ]
    pairs = zip(target.elts, items, strict=True)
    return [pair for one in pairs for pair in _pairs(*one)]


def _is_place(value: ast.expr) -> bool:
    """Whether an expression is a part of a variable: attributes and constant indices of it."""
    inside = False
    while isinstance(value, ast.Attribute | ast.Subscript):
        constant = isinstance(value, ast.Attribute) or isinstance(
            value.slice, ast.Constant
        )
        if not constant:
            return False
        value, inside = value.value, True
    return inside and isinstance(value, ast.Name)
