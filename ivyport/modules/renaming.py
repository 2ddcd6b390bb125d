"""Renaming in a finished method: variables that hide what the body calls, exact arguments."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Sequence

from ivyport.backends import pyast


def unshadow(statements: list[ast.stmt], arguments: Sequence[str]) -> list[str]:
    """Rename, in place, variables that are called like a function which the body calls.

    Returns the arguments under their new names.
    """
    nodes = [n for s in statements for n in ast.walk(s)]
    loops = {
        n.target.id
        for n in nodes
        if isinstance(n, ast.For) and isinstance(n.target, ast.Name)
    }
    functions = [n.func for n in nodes if isinstance(n, ast.Call)]
    called = {f.id for f in functions if isinstance(f, ast.Name)} - loops
    names = [n for n in nodes if isinstance(n, ast.Name)]
    inner = [n for n in nodes if isinstance(n, ast.arg)]  # of local functions
    variables = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    variables |= {n.arg for n in inner}
    renamed = list(arguments)
    for name in sorted(called & {*variables, *renamed}):
        taken = {n.id for n in names} | {n.arg for n in inner} | set(renamed)
        new = _fresh(name, taken)
        for node in names:
            if node.id == name and not any(node is f for f in functions):
                node.id = new
        for argument in inner:
            if argument.arg == name:
                argument.arg = new
        renamed = [new if a == name else a for a in renamed]
    return renamed


def restore_names(
    statements: list[ast.stmt], arguments: Sequence[str], wanted: Sequence[str]
) -> tuple[list[str], set[str]]:
    """Give arguments the names that callers use, also those that mean something else here.

    Returns the arguments, and the global names that they hide: the body, changed in place, uses
    these as ``_name``.
    """
    result, hidden = list(arguments), set()
    for position, (exact, name) in enumerate(zip(wanted, arguments, strict=True)):
        plain = exact.isidentifier() and not keyword.iskeyword(exact)
        if exact == name or not plain or exact in ("self", *result):
            continue
        nodes = [n for s in statements for n in ast.walk(s)]
        names = [n for n in nodes if isinstance(n, ast.Name)]
        result[position] = exact
        inner = {n.arg for n in nodes if isinstance(n, ast.arg)}
        local = {n.id for n in names if isinstance(n.ctx, ast.Store)} | inner
        if all(n.id != exact for n in names) and exact not in local:
            _rename(nodes, name, exact)
            continue
        if exact in local:
            _rename(
                nodes, exact, _fresh(exact, {n.id for n in names} | {*local, *result})
            )
        else:
            hidden.add(exact)
            _rename(nodes, exact, f"_{exact}")
        statements.insert(0, pyast.assign(name, pyast.name(exact)))
    return result, hidden


def _fresh(name: str, taken: set[str]) -> str:
    count = 2
    while f"{name}_{count}" in taken:
        count += 1
    return f"{name}_{count}"


def _rename(nodes: Sequence[ast.AST], old: str, new: str) -> None:
    """Rename a variable, and arguments of local functions that are called so."""
    for node in nodes:
        if isinstance(node, ast.Name) and node.id == old:
            node.id = new
        elif isinstance(node, ast.arg) and node.arg == old:
            node.arg = new
