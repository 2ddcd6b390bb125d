"""Matrices (factors, systems of equations), and counts of bits."""

# ruff: noqa: D103 (a rule means what its primitive means, docs.jax.dev/en/latest/jax.lax.html)

from __future__ import annotations

from typing import Any

from jax.extend.core import ClosedJaxpr

from ivyport.core import dtype as dt
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Scalar, Slice, Value
from ivyport.frontends.jax.registry import Found, JaxBuilder, lowers, names

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


@lowers("lu")
def lu(b: JaxBuilder, x: Number, **_: Any) -> tuple[Value, ...]:
    factors, exchanges, order = b.lu(b.tensor(x))
    return factors, exchanges, order


@names("inv")
def inv(b: JaxBuilder, body: ClosedJaxpr, *operands: Found) -> Value | None:
    """`jnp.linalg.inv`, which JAX writes as the solution for the identity matrix."""
    return b.inv(b.tensor(operands[0])) if _one_matrix(b, operands) else None  # type: ignore[arg-type]  # no key is a matrix


def _one_matrix(b: JaxBuilder, operands: tuple[Found, ...]) -> bool:
    return len(operands) == 1 and dt.is_float(b.out.dtype) and b.ins[0] == b.out


@lowers("custom_linear_solve")
def linear_solve(
    b: JaxBuilder, *operands: Found, const_lengths: Any, jaxprs: Any
) -> Value:
    """The solution of a product with a matrix, which is what `jnp.linalg.solve` makes.

    The factors that JAX solves it with have no part in the result, nor in its derivative.
    """
    given = operands[const_lengths.matvec + const_lengths.vecmat :]
    (x,) = given[const_lengths.solve + const_lengths.transpose_solve :]
    turned = _product(jaxprs.matvec.jaxpr)
    if turned is None or const_lengths.matvec != 1:
        raise GraphError("a system of equations that no single matrix is")
    a, rows = b.tensor(operands[0]), b.tensor(x, len(operands) - 1)  # type: ignore[arg-type]  # no keys
    axes = (*range(a.type.rank - 2), a.type.rank - 1, a.type.rank - 2)
    if turned:
        a = b.permute_dims(a, axes=axes)
    if rows.type.rank < a.type.rank:
        along = b.getitem(rows, index=(*(Slice(),) * rows.type.rank, NewAxis()))
        return b.getitem(b.solve(a, along), index=(*(Slice(),) * rows.type.rank, 0))
    # The unknowns lie along the last axis, as vectors do.
    solved = b.solve(a, b.permute_dims(rows, axes=axes))
    return b.permute_dims(solved, axes=axes)


def _product(jaxpr: Any) -> bool | None:
    """Whether a product of a matrix (..., n, n) with rows (..., k, n) takes it transposed.

    None for any other function. Leading axes are the same in both; rows may be vectors (..., n).
    """
    products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    plain = ("dot_general", "transpose", "reduce_sum", "copy", "squeeze", "reshape")
    if len(products) != 1 or any(e.primitive.name not in plain for e in jaxpr.eqns):
        return None
    (product,) = products
    sides = dict(
        zip(
            product.invars,
            zip(*product.params["dimension_numbers"], strict=True),
            strict=True,
        )
    )
    matrix, rows = jaxpr.invars
    if set(sides) != {matrix, rows}:
        return None
    rank = len(matrix.aval.shape)
    batch = tuple(range(rank - 2))
    (contracted, own), (last, other) = sides[matrix], sides[rows]
    end = len(rows.aval.shape) - 1
    same = end in (rank - 1, rank - 2) and tuple(own) == tuple(other) == batch
    if not same or tuple(last) != (end,) or len(contracted) != 1:
        return None
    return contracted[0] == rank - 2


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
