"""Primitives of JAX that had no rule: matrices and bits, and what is refused in our words."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp

import ivyport

X = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((2, 3, 2)).astype(np.float32)
N = np.array([0, 1, 5, -1, 2**31 - 1, -(2**31)], np.int32)


def matrices(x: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """A Gaussian's whitening, from both sides."""
    cov = x @ x.mT + 2 * jnp.eye(3)
    factor = jnp.linalg.cholesky(cov)
    solve = jax.scipy.linalg.solve_triangular
    return {
        "factor": factor,
        "white": jax.lax.linalg.triangular_solve(factor, y, left_side=True, lower=True),
        "back": jax.lax.linalg.triangular_solve(
            factor, y, left_side=True, lower=True, transpose_a=True
        ),
        "upper": jnp.linalg.cholesky(cov, upper=True),
        "one": solve(factor[0], y[0, :, 0], lower=True),
        "both": jax.scipy.linalg.cho_solve((factor[0], True), y[0]),
        "size": jnp.log(jnp.diagonal(factor, axis1=1, axis2=2)).sum(1),
    }


def bits(n: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.lax.population_count(n), jax.lax.clz(n)


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_triangular_matrices(to: str) -> None:
    port = ivyport.transpile(matrices, to=to, args=(X, Y))
    report = ivyport.verify(matrices, port, args=(X, Y))
    assert report.passed, [row for row in report.rows if not row.passed]


@pytest.mark.parametrize("to", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["int32", "uint16", "uint32"])
def test_bits(to: str, dtype: str) -> None:
    """`transpile` compares the results, among them the ends of int32."""
    ivyport.transpile(bits, to=to, args=(N.astype(dtype),))
