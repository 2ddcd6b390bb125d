"""Matrices: factors, inverses and determinants, by their Array API names.

Source: https://data-apis.org/array-api/2024.12/extensions/linear_algebra_functions.html.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.ir import TensorType
from ivyport.core.opdef import demand, op

LINALG = (
    "https://data-apis.org/array-api/2024.12/extensions/linear_algebra_functions.html"
)
TRIANGULAR = (
    "https://docs.jax.dev/en/latest/_autosummary/jax.lax.linalg.triangular_solve.html"
)


def _square(x: TensorType) -> TensorType:
    demand(x.rank >= 2 and x.shape[-1] == x.shape[-2], f"{x} is no square matrix")
    demand(dt.is_float(x.dtype), f"a matrix of {x.dtype}")
    return x


@op("cholesky", url=LINALG)
def cholesky(x: TensorType) -> TensorType:
    """The lower triangular L of x = L L^T.

    Where x is not positive definite torch raises, and JAX gives NaN.
    """
    return _square(x)


@op("inv", url=LINALG)
def inv(x: TensorType) -> TensorType:
    """The inverse; of a singular matrix torch raises."""
    return _square(x)


@op("det", url=LINALG)
def det(x: TensorType) -> TensorType:
    """The determinant."""
    return _square(x).with_shape(x.shape[:-2])


@op("slogdet", url=LINALG)
def slogdet(x: TensorType) -> tuple[TensorType, TensorType]:
    """The sign of the determinant and the log of its size."""
    made = _square(x).with_shape(x.shape[:-2])
    return made, made


@op("lu", url="https://docs.jax.dev/en/latest/_autosummary/jax.lax.linalg.lu.html")
def lu(x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
    """Both triangular factors in one matrix, the row exchanges, and the order of the rows.

    Exchanges (row i with row p[i], from 0 on) and order (x[order] = L U) are int32.
    """
    rows = _square(x).with_shape(x.shape[:-1]).with_dtype("int32")
    return x, rows, rows


@op("solve", url=LINALG)
def solve(a: TensorType, x: TensorType) -> TensorType:
    """The matrices y of a y = x, for square a (..., n, n) and x (..., n, k)."""
    fits = x.rank == _square(a).rank and x.shape[:-1] == a.shape[:-1]
    demand(fits and x.dtype == a.dtype, f"solve of {a} for {x}")
    return x


@op("solve_triangular", url=TRIANGULAR)
def solve_triangular(
    a: TensorType,
    x: TensorType,
    *,
    lower: bool,
    left: bool = True,
    transposed: bool = False,
    unit_diagonal: bool = False,
) -> TensorType:
    """The y of a y = x (or y a = x), where a is triangular; a^T with `transposed`.

    Only one triangle of a is read, and not its diagonal if that is one of ones.
    """
    side = -2 if left else -1
    fits = x.rank == _square(a).rank and x.shape[side] == a.shape[-1]
    demand(fits and x.shape[:-2] == a.shape[:-2], f"solve of {a} for {x}")
    return x
