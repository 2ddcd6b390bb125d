"""Rules that all targets share: Python's own operators, and methods of the same name.

Each package of a target puts its own rules over these.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from ivyport.backends.pyast import Exprs, rule_table
from ivyport.backends.spelling import demand_bool, demand_float, is_hole, tidy
from ivyport.core.dims import Dim, DimLike, as_symbol
from ivyport.core.errors import GraphError

RULES, emits = rule_table()

INFIX = {
    "add": "+",
    "subtract": "-",
    "difference": "-",
    "multiply": "*",
    "floor_divide": "//",
    "remainder": "%",
    "pow": "**",
    "matmul": "@",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "bitwise_xor": "^",
    "bitwise_left_shift": "<<",
    "bitwise_right_shift": ">>",
}
LOGICAL = {"logical_and": "&", "logical_or": "|", "logical_xor": "^"}


def _infix(operator: str) -> Callable[..., ast.expr]:
    def rule(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
        return e.binary(operator, x, y)

    return rule


def _logical(operator: str) -> Callable[..., ast.expr]:
    def rule(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
        demand_bool(e)
        return e.binary(operator, x, y)

    return rule


for _op, _operator in INFIX.items():
    emits(_op)(_infix(_operator))
for _op, _operator in LOGICAL.items():
    emits(_op)(_logical(_operator))


@emits("divide")
def divide(e: Exprs, x: ast.expr, y: ast.expr) -> ast.expr:
    demand_float(e)
    return e.binary("/", x, y)


@emits("negative")
def negative(e: Exprs, x: ast.expr) -> ast.expr:
    return e.unary("-", x)


@emits("logical_not")
def logical_not(e: Exprs, x: ast.expr) -> ast.expr:
    demand_bool(e)
    return e.unary("~", x)


@emits("bitwise_invert")
def bitwise_invert(e: Exprs, x: ast.expr) -> ast.expr:
    return e.unary("~", x)


@emits("reshape")
def reshape(e: Exprs, x: ast.expr, *, shape: tuple[DimLike, ...]) -> ast.expr:
    # One computed size becomes -1; a named one (B, S) reads better as its name.
    computed = [
        i for i, d in enumerate(shape) if isinstance(d, Dim) and not as_symbol(d)
    ]
    # Beside a 0 any size would do for -1.
    if len(computed) == 1 and -1 not in shape and 0 not in shape:
        shape = tuple(-1 if i == computed[0] else d for i, d in enumerate(shape))
    return e.method(x, "reshape", *(shape or ((),)))


@emits("getitem")
def getitem(e: Exprs, x: ast.expr, *, index: tuple[Any, ...]) -> ast.expr:
    items = tidy(index, e.type(0).shape)
    return e.index(x, items) if items else x


@emits("dropout")
def dropout(
    e: Exprs, x: ast.expr, *, rate: float, broadcast: tuple[int, ...], always: bool
) -> ast.expr:
    if e.dropout_module is not None:
        return e.call(e.dropout_module, x)
    if rate == 0.0 and not is_hole(rate):
        return x
    raise GraphError(f"dropout of {rate} has no layer to draw from")
