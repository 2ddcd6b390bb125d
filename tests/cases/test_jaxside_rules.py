"""Systems of equations, factors, applied functions; what is refused says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import torch

import ivyport
from ivyport.core.errors import UnsupportedOpsError

RNG = np.random.default_rng(0)
A = (RNG.normal(size=(2, 3, 3)) + 3 * np.eye(3)).astype(np.float32)
Y = RNG.normal(size=(2, 3, 2)).astype(np.float32)


def systems(a: Any, y: Any) -> dict[str, Any]:
    low, pivots = jax.scipy.linalg.lu_factor(a - 4)
    return {
        "solve": jnp.linalg.solve(a, y),
        "vector": jnp.linalg.solve(a[0], y[0, :, 0]),
        "transposed": jnp.linalg.solve(a.mT, y),
        "inv": jnp.linalg.inv(a),
        "det": jnp.linalg.det(a),
        "slogdet": jnp.linalg.slogdet(a),
        "lu": (low, pivots),
        # What JAX makes of a derivative solves with the matrix and with its transposed one.
        "inside": jax.grad(lambda m: jnp.linalg.solve(m, y).sum())(a),
        "expm": jax.scipy.linalg.expm(a[0] / 4),
    }


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_systems_of_equations(to: str) -> None:
    port = ivyport.transpile(systems, to, (A, Y))
    report = ivyport.verify(systems, port, args=(A, Y))
    assert report.passed, [row for row in report.rows if not row.passed]


def applied(x: Any) -> tuple[Any, ...]:
    return (
        x.at[0].apply(jnp.sin),
        x.at[:, 1:].apply(lambda v: jnp.exp(v) + v),
        x.at[1, jnp.array([2, 0])].apply(jnp.abs, unique_indices=True),
        x.at[5].apply(jnp.exp),  # out of bounds: as it was
    )


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_function_applied_to_elements(to: str) -> None:
    ivyport.transpile(applied, to, (A,))  # compares the outputs


def test_a_function_that_may_be_applied_twice_is_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match="unique_indices=True"):
        ivyport.transpile(
            lambda x, i: x.at[i].apply(jnp.sin), "torch", (A, np.int32([0, 1]))
        )


REFUSED = {
    "fft": (lambda x: jnp.fft.fft2(x).real, "the transform of the identity"),
    "rfft": (lambda x: jnp.abs(jnp.fft.rfft(x)), "complex"),
    "qr": (jnp.linalg.qr, "unique up to signs"),
    "svd": (lambda x: jnp.linalg.svd(x)[0], "unique up to signs"),
    "eigh": (jnp.linalg.eigh, "unique up to signs"),
}


class Mixed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x).real


def test_complex_numbers_of_torch_are_refused_in_words() -> None:
    with pytest.raises(
        UnsupportedOpsError, match=r"fft_fft2.*complex numbers"
    ) as error:
        ivyport.transpile(Mixed(), "jax", (torch.ones(2, 3, 4),))
    assert "test_jaxside_rules.py:" in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_why_where_and_what_to_do(name: str) -> None:
    source, reason = REFUSED[name]
    with pytest.raises(UnsupportedOpsError, match=reason) as error:
        ivyport.transpile(lambda x: source(x), "torch", (A,))
    assert "test_jaxside_rules.py:" in str(error.value)
    assert "in the model" in str(error.value)
