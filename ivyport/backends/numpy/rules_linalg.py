"""Rules for the operations of `ivyport.core.ops_linalg`, and for counts of bits."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.pyast import OMIT, Exprs, rule_table

RULES, emits = rule_table()


@emits("lu", "bit_count", "leading_zeros")
def helper(e: Exprs, x: ast.expr) -> ast.expr:
    return e.rt(e.node.op, x)


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
    return e.rt(
        "solve_triangular",
        a,
        x,
        lower=lower,
        left=OMIT if left else False,
        transposed=transposed or OMIT,
        unit_diagonal=unit_diagonal or OMIT,
    )
