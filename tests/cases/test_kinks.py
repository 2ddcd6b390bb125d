"""A port has its source's derivative at corners, ends of domains and among equal elements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ivyport
from ivyport.backends.pyast import Exprs
from ivyport.core.opdef import REGISTRY
from tests.cases.kinks import INF, JAX, LEFT, LEFT_TORCH, TORCH, Kinks, Row, arrays

Found = dict[str, tuple[np.ndarray, list[np.ndarray]]]


def _weights(y: Any) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0.5, 2, tuple(y.shape)).astype(np.float32)


def _torch(call: Any, given: dict[str, list[np.ndarray]]) -> Found:
    """Values and gradients of each row; what autograd does not reach has zeros."""
    tensors = {
        n: [torch.tensor(a, requires_grad=True) for a in v] for n, v in given.items()
    }
    results, found = call(tensors), {}
    for name, leaves in tensors.items():
        y, gradients = results[name], [None] * len(leaves)
        if y.requires_grad:
            w = torch.tensor(_weights(y))
            gradients = torch.autograd.grad(y, leaves, w, allow_unused=True)
        made = [
            np.zeros_like(a) if g is None else g.numpy()
            for g, a in zip(gradients, given[name], strict=True)
        ]
        found[name] = y.detach().numpy(), made
    return found


def _jax(call: Any, given: dict[str, list[np.ndarray]]) -> Found:
    """The same in JAX. Rows share no inputs, so that one sum has the gradients of all."""

    @jax.jit
    def both(values: dict[str, list[jax.Array]]) -> Any:
        def rows(x: dict[str, list[jax.Array]]) -> dict[str, jax.Array]:
            made = call(x)
            return {n: made[n] for n in given}

        results, back = jax.vjp(rows, values)
        (gradients,) = back({n: jnp.asarray(_weights(y)) for n, y in results.items()})
        return results, gradients

    results, gradients = both(
        {n: [jnp.asarray(a) for a in v] for n, v in given.items()}
    )
    return {
        n: (np.asarray(results[n]), [np.asarray(g) for g in gradients[n]])
        for n in given
    }


def _differing(ours: Found, theirs: Found, rows: dict[str, Row]) -> dict[str, str]:
    found = {}
    for name in rows:
        (y, gradients), (expected, due) = ours[name], theirs[name]
        np.testing.assert_allclose(y, expected, atol=1e-6, err_msg=name)
        pairs = zip(gradients, due, strict=True)
        if not all(np.allclose(a, b, equal_nan=True, atol=1e-6) for a, b in pairs):
            found[name] = f"{gradients} where {due} are due"
    return found


#: Without corners, inside of their domains.
SMOOTH = {
    "add", "asinh", "astype", "atan", "cos", "cosh", "digamma", "divide", "erf", "erfc", "exp",
    "expm1", "lgamma", "log10", "log2", "multiply", "negative", "sigmoid", "sin", "sinh",
    "subtract", "tan", "tanh",
}  # fmt: skip
#: Without derivatives.
WITHOUT = {
    "bit_count", "bitwise_and", "bitwise_invert", "bitwise_left_shift", "bitwise_or",
    "bitwise_right_shift", "bitwise_xor", "equal", "greater", "greater_equal", "isfinite",
    "isinf", "isnan", "leading_zeros", "less", "less_equal", "logical_and", "logical_not",
    "logical_or", "logical_xor", "nextafter", "not_equal", "signbit", "stop_gradient",
    "trunc_divide",
}  # fmt: skip
#: Operations that the rows of the tables became.
WRITTEN: set[str] = set()


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Note each operation that is emitted, as an expression or as a layer."""
    with pytest.MonkeyPatch.context() as patch:
        known = Exprs.emit

        def emit(self: Any, node: Any, operands: Any) -> Any:
            WRITTEN.add(node.op)
            return known(self, node, operands)

        patch.setattr(Exprs, "emit", emit)
        yield


@pytest.fixture(scope="module")
def from_torch() -> dict[str, str]:
    given, model = arrays(TORCH), Kinks(TORCH)
    example = {n: [torch.tensor(a) for a in v] for n, v in given.items()}
    with recording():
        port = ivyport.transpile(
            model, "jax", args=(example,), verify=False, train=False
        )
    return _differing(_jax(port, given), _torch(model, given), TORCH)


@pytest.fixture(scope="module")
def from_jax() -> dict[str, str]:
    def model(x: dict[str, list[jax.Array]]) -> dict[str, jax.Array]:
        return {name: JAX[name][0](*x[name]) for name in JAX}

    given = arrays(JAX)
    example = {n: [jnp.asarray(a) for a in v] for n, v in given.items()}
    with recording():
        port = ivyport.transpile(model, "torch", args=(example,), verify=False)
    return _differing(_torch(port, given), _jax(model, given), JAX)


def test_gradients_of_torch_in_jax(from_torch: dict[str, str]) -> None:
    assert {n: d for n, d in from_torch.items() if n not in LEFT_TORCH} == {}


def test_gradients_of_jax_in_torch(from_jax: dict[str, str]) -> None:
    assert {n: d for n, d in from_jax.items() if n not in LEFT} == {}


def test_what_is_left_different_is_different(
    from_torch: dict[str, str], from_jax: dict[str, str]
) -> None:
    """A difference that is mended has to leave the list."""
    assert set(from_torch) >= set(LEFT_TORCH)
    assert set(from_jax) >= set(LEFT)


def test_every_elementwise_operation_has_a_row(
    from_torch: dict[str, str], from_jax: dict[str, str]
) -> None:
    """A new operation needs a row, or a place in the list of those without corners."""
    known = {name for name, op in REGISTRY.items() if op.elementwise}
    missing = known - WRITTEN - SMOOTH - WITHOUT
    assert not missing, sorted(missing)
    assert known >= SMOOTH
    assert known >= WITHOUT


class Distances(torch.nn.Module):
    """Distances of rows from themselves, of products that XLA may leave unrounded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = x * self.weight
        orders = (0.5, 1.0, 2.0, 3.0, INF)
        between = y[:, None] - y[None]
        corners = [
            between.abs(),
            between.sign() * y,
            between.relu(),
            between.clamp(min=0),
            torch.maximum(between, torch.zeros(())),
            torch.minimum(between, y),
            torch.nn.functional.leaky_relu(between, 0.2),
            torch.nn.functional.elu(between, 0.5),
            torch.nn.functional.hardtanh(between, 0.0, 1.0),
            torch.where(between > 0, between, -2 * between),
            between.floor() * y,
            between.amax(0).expand(5, 5, 4),
        ]
        return [
            *(corner.sum(-1) for corner in corners),
            *(torch.cdist(y, y, p=p) for p in orders),
        ]


def test_equal_rows_have_no_gradient_under_jit() -> None:
    model = Distances()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    port = ivyport.transpile(model, "jax", (x,), verify=False, train=False)
    w = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    found = jax.jit(jax.jacrev(lambda x: [(w * y).sum() for y in port(x)]))(x.numpy())
    values = jax.jit(lambda x: port(x))(x.numpy())
    given = x.requires_grad_()
    for k, y in enumerate(model(given)):
        np.testing.assert_allclose(values[k], y.detach(), rtol=1e-4, atol=1e-5)
        (due,) = torch.autograd.grad(y, given, torch.tensor(w), retain_graph=True)
        np.testing.assert_allclose(found[k], due, rtol=1e-4, atol=1e-4, err_msg=str(k))
