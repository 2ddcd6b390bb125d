"""Rules for the operations of `ivyport.core.ops_linalg`, and for counts of bits."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.pyast import OMIT, Exprs, attribute, rule_table

RULES, emits = rule_table()


@emits("lu")
def lu(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt("lu", x)


@emits("solve_triangular")
def solve_triangular(
    e: Exprs,
    a: ast.expr,
    x: ast.expr,
    *,
    lower: bool,
    left: bool,
    transposed: bool,
    unit_diagonal: bool,
) -> ast.expr:
    return e.call(
        "torch.linalg.solve_triangular",
        attribute(a, "mT") if transposed else a,
        x,
        upper=lower == transposed,
        left=OMIT if left else False,
        unitriangular=unit_diagonal or OMIT,
    )


@emits("bit_count", "leading_zeros")
def bits(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt(e.node.op, x, BITS[e.type(0).dtype])


BITS = {"int8": 8, "uint8": 8, "int16": 16, "int32": 32, "int64": 64}
