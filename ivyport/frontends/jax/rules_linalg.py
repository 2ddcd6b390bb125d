"""Triangular matrices, and counts of bits."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from typing import Any

from ivyport.core.errors import GraphError
from ivyport.core.ir import Scalar, Value
from ivyport.frontends.jax.registry import JaxBuilder, lowers

Number = Value | Scalar


@lowers("cholesky")
def cholesky(b: JaxBuilder, x: Number, **_: Any) -> Value:
    return b.cholesky(b.tensor(x))


@lowers("triangular_solve")
def triangular_solve(
    b: JaxBuilder,
    a: Number,
    x: Number,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Value:
    """conjugate_a changes nothing of real numbers, which alone are ported."""
    return b.solve_triangular(
        b.tensor(a),
        b.tensor(x),
        lower=lower,
        left=left_side,
        transposed=transpose_a,
        unit_diagonal=unit_diagonal,
    )


@lowers("population_count")
def population_count(b: JaxBuilder, x: Number) -> Value:
    return b.bit_count(_whole(b, x))


@lowers("clz")
def clz(b: JaxBuilder, x: Number) -> Value:
    return b.leading_zeros(_whole(b, x))


def _whole(b: JaxBuilder, x: Number) -> Value:
    found = b.tensor(x)
    if found.type.dtype == "uint64":
        raise GraphError("bits of uint64, which torch does not compute with")
    return found
