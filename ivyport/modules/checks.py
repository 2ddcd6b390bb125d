"""The check of sizes with which a port's call begins."""

from __future__ import annotations

import ast
import keyword
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.checks import Check, Line
from ivyport.core.dims import Dim, DimLike, as_symbol, symbol, symbols
from ivyport.core.dtype import is_int
from ivyport.core.ir import Graph, Value
from ivyport.core.proofs import sides
from ivyport.core.tables import table_sizes

if TYPE_CHECKING:
    from ivyport.modules.body import Body
    from ivyport.modules.owner import Owner

SYMBOL_NAMES = {"batch": "B", "seq": "S", "decoder_seq": "T", "samples": "L"}


def shapes_check(graph: Graph, body: Body) -> list[ast.stmt]:
    """``check_shapes(ids=(ids, "int B S"), ...)``: ranks, constant sizes, sizes that are equal."""
    letters = _letters(graph)
    exprs, rows = body.exprs, table_sizes(graph)
    checked = {}
    for value, argument in zip(body.call.inputs, body.arguments, strict=True):
        axes = " ".join(
            _axis(size, letters, f"{argument}_{axis}")
            for axis, size in enumerate(value.type.shape)
        )
        if value in rows and is_int(value.type.dtype):
            axes = f"int {axes}".rstrip()
        item = [pyast.name(argument), ast.Constant(axes)]
        item += [ast.Constant(text) for text in _reasons(graph, value)]
        name = body.call.names.get(value, "")
        plain = name.isidentifier() and not keyword.iskeyword(name)
        checked[name if plain else argument] = pyast.tuple_of(item)
    return [_check(exprs.rt("check_shapes"), checked)] if checked else []


def _check(call: ast.expr, named: dict[str, ast.expr]) -> ast.stmt:
    """The call with keyword arguments of any name, ``self`` too."""
    assert isinstance(call, ast.Call)
    call.keywords += [ast.keyword(pyast.identifier(k), v) for k, v in named.items()]
    return ast.Expr(call)


def sizes_checks(graph: Graph, body: Body) -> list[ast.stmt]:
    """One ``check_sizes(T % 2 == 0, ...)`` a condition, and sizes that others give."""
    exprs = body.exprs.within(spell_dim=partial(_spell_symbol, body))
    owner = body.owner
    made = [_sizes_check(c, exprs, owner) for c in graph.checks if not c.trained]
    trained = [_sizes_check(c, exprs, owner) for c in graph.checks if c.trained]
    for value, argument in zip(body.call.inputs, body.arguments, strict=True):
        for axis, size in enumerate(value.type.shape):
            if isinstance(size, Dim) and as_symbol(size) is None:
                shape = pyast.attribute(pyast.name(argument), "shape")
                received = pyast.subscript(shape, ast.Constant(axis))
                made.append(_derived(f"{argument}_{axis}", received, size, exprs))
    if trained:
        made.append(ast.If(body.owner.training(), trained, []))
    return made


def _derived(own: str, received: ast.expr, size: Dim, exprs: Exprs) -> ast.stmt:
    """``right.shape[1] + L == 12`` for a size that others give."""
    plus, minus = sides(size)
    left = received if minus == 0 else exprs.binary("+", received, minus)
    condition = exprs.binary("==", left, plus)
    return _condition(condition, symbols(size), None, exprs, {own: received})


def _spell_symbol(body: Body, size: Dim) -> ast.expr | None:
    return None if as_symbol(size) is None else body.sizes.spelled(size)


def _sizes_check(check: Check, exprs: Exprs, owner: Owner) -> ast.stmt:
    """The check; a number that is a field of the configuration is spelled as that."""
    shown: list[Any] = []
    held: list[Any] = []
    limits: dict[str, ast.expr] = {}
    for side in (check.left, check.right):
        line = check.line.short() if check.line else "a size"
        bound = owner.bound(side, line) if isinstance(side, int) else None
        shown.append(side if bound is None else pyast.name(bound[0]))
        held.append(side if bound is None else bound[1])
        if bound is not None:
            limits[bound[0]] = bound[1]
    text = ast.unparse(exprs.binary(check.relation, *shown))
    condition = exprs.binary(check.relation, *held)
    return _condition(condition, check.symbols(), check.line, exprs, limits, text)


def _condition(
    condition: ast.expr,
    names: set[str],
    line: Line | None,
    exprs: Exprs,
    more: Mapping[str, ast.expr] | None = None,
    text: str = "",
) -> ast.stmt:
    given: dict[str, ast.expr] = {}
    for name in sorted(names):
        expr = exprs.const(symbol(name))
        given[expr.id if isinstance(expr, ast.Name) else name] = expr
    given |= more or {}
    texts = [text or ast.unparse(condition), *([line.short()] if line else [])]
    return _check(exprs.rt("check_sizes", condition, *texts), given)


def _letters(graph: Graph) -> dict[str, str]:
    """What each symbol is called: short names where they are not taken."""
    return {s: "int_" if s == "int" else SYMBOL_NAMES.get(s, s) for s in graph.dims}


def _axis(size: DimLike, letters: dict[str, str], own: str) -> str:
    if isinstance(size, int):
        return str(size)
    name = as_symbol(size)
    return own if name is None else letters.get(name, name)


def _reasons(graph: Graph, value: Value) -> list[str]:
    """Why axes of an input are constant, where the source's line is known."""
    lines = {
        line.short(): None
        for (name, axis), line in graph.fixed.items()
        if name == value.name and axis < value.type.rank
    }
    return list(lines)[:1]
