"""Rules for the operations of `ivyport.core.ops_linalg`, and for counts of bits."""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.pyast import OMIT, Exprs, rule_table

RULES, emits = rule_table()


@emits("lu")
def lu(e: Exprs, x: ast.expr) -> ast.expr:
    return e.call("jax.lax.linalg.lu", x)


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
        "jax.lax.linalg.triangular_solve",
        a,
        x,
        left_side=left or OMIT,
        lower=lower or OMIT,
        transpose_a=transposed or OMIT,
        unit_diagonal=unit_diagonal or OMIT,
    )


@emits("bit_count", "leading_zeros")
def bits(e: Exprs, x: ast.expr) -> ast.expr:
    name = {"bit_count": "population_count", "leading_zeros": "clz"}[e.node.op]
    return e.call(f"jax.lax.{name}", x)
