"""Numbers of the source that 32 bits do not hold: right in a JAX port, noted or refused."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.errors import UnsupportedOpsError
from ivyport.core.passes.pipeline import prepare
from ivyport.targets import TARGETS
from tests.cases.numerics import Function, check_to_jax


class Masked(nn.Module):
    """Softmax under a mask that says minus infinity by the least number of its dtype."""

    def forward(self, x: Any, mask: Any) -> Any:
        hidden = (mask[:, None] == 0).to(x.dtype)
        return (x + hidden * torch.finfo(x.dtype).min).softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mask_of_the_least_number_of_a_wide_type(dtype: Any) -> None:
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    x = torch.arange(12.0, dtype=dtype).reshape(2, 2, 3)
    check_to_jax(Masked(), x, mask, rtol=2e-6)


def _notes(model: Any, *args: torch.Tensor) -> list[str]:
    """What a port to JAX says of numbers, beside that floats lose precision."""
    module = model if isinstance(model, nn.Module) else Function(model)
    notes = prepare(ivyport.trace(module.eval(), args), TARGETS["jax"].policy)
    return [n for n in notes if "float64 became" not in n]


def test_the_largest_number_is_not_noted() -> None:
    x = torch.zeros(2, 2, 3, dtype=torch.float64)
    assert _notes(Masked(), x, torch.ones(2, 3, dtype=torch.int64)) == []


@pytest.mark.parametrize(
    ("number", "word"), [(1e300, "beyond float32"), (1e-50, "is 0")]
)
def test_numbers_that_float32_lacks_are_noted_at_their_line(
    number: float, word: str
) -> None:
    class Shifted(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + number

    (note,) = _notes(Shifted(), torch.zeros(3, dtype=torch.float64))
    assert word in note
    assert "test_numbers_wide.py" in note


class Hashed(nn.Module):
    """Buckets of a hash of token ids."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets, 4)
        self.buckets = buckets

    def forward(self, ids: Any) -> Any:
        return self.embedding((ids * 40503 + 12345) % self.buckets)


IDS = torch.tensor([[0, 1, 999_999, 53_021], [-1, 77_777, 2**20, 2**31 - 1]])


@pytest.mark.parametrize("buckets", [97, 46_340])
def test_a_hash_of_ids_is_right_from_every_kind_of_array(buckets: int) -> None:
    model = Hashed(buckets).eval()
    wanted = model(IDS).detach().numpy()
    port = ivyport.transpile(model, "jax", (IDS,), train=False)
    for ids in (IDS.numpy(), jnp.asarray(IDS.numpy()), jax.device_put(IDS.numpy())):
        np.testing.assert_array_equal(port(ids), wanted)
        np.testing.assert_array_equal(jax.jit(lambda i: port(i))(ids), wanted)


def test_a_hash_with_a_factor_beyond_32_bits() -> None:
    def hashed(ids: Any) -> Any:
        return (ids * 2654435761 - 7) % 1009

    check_to_jax(hashed, IDS)


@pytest.mark.parametrize(
    "buckets", [46_341, 65_536, 100_003, 1_000_003, 2**24, 30_000_001, 2**30]
)
def test_a_hash_into_many_buckets_is_right_and_not_noted(buckets: int) -> None:
    def hashed(ids: Any) -> Any:
        return (ids * 2654435761 + 12345) % buckets, (ids * ids - 3 * ids) % buckets

    assert _notes(hashed, IDS) == []
    check_to_jax(hashed, IDS)


def test_a_hash_that_needs_64_bits_is_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"modulo 2147483647 needs 64 bits"):
        _notes(lambda ids: (ids * 48271) % (2**31 - 1), IDS)
    # Of numbers that stay small nothing is refused.
    assert _notes(lambda ids: (ids % 8 * 48271) % (2**31 - 1), IDS) == []


def _in_a_loop(modulus: int | None) -> tuple[list[str], Any, Any]:
    """Notes on a congruential generator in a loop, whose state has no bounds; port, source."""

    def step(state: Any, _: Any) -> Any:
        state = state * 16807 + 7
        return (state if modulus is None else state % modulus), state[0] * 0

    def net(state: Any) -> Any:
        return jax.lax.scan(step, state, None, length=5)[0]

    state = np.array([1, 999, 123_456])
    with jax.enable_x64(True):
        notes = prepare(
            ivyport.trace(net, (jnp.asarray(state),)), TARGETS["jax"].policy
        )
        port = ivyport.transpile(net, "jax", (jnp.asarray(state),), verify=False)
        wanted = np.asarray(net(jnp.asarray(state)))
    return notes, np.asarray(port(state)), wanted


def test_arithmetic_in_loops() -> None:
    notes, found, wanted = _in_a_loop(1_000_003)
    np.testing.assert_array_equal(found, wanted)
    assert not any("64 bits" in note for note in notes)
    notes, _, _ = _in_a_loop(None)
    assert any("64 bits" in note and "test_numbers_wide.py" in note for note in notes)


def test_factors_that_float16_does_not_hold() -> None:
    """torch has a number beside a float16 tensor in float32, and rounds the product."""

    def scaled(x: Any) -> Any:
        return x * 1e6, x / 1e6 * 1e5, x * 1e-8 * 1e4, x * 0.5

    check_to_jax(scaled, torch.tensor([1e-4, -0.03, 0.0, 60.0]).half())


def test_integers_that_32_bits_cannot_say_are_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"10000000000 needs 64 bits"):
        _notes(lambda i: i + 10**10, torch.tensor([1, 2]))


def test_the_largest_integer_stays_the_largest() -> None:
    def nearest(i: Any) -> Any:
        far = torch.iinfo(torch.int64).max
        return torch.where(i > 0, i, far).argmin(-1), (i == far)

    check_to_jax(nearest, torch.tensor([[3, 0, 2], [0, 5, 0]]))


@pytest.mark.parametrize(
    "function",
    [
        lambda i: i + 1,
        lambda i: i * 2 + 1,
        lambda i: (i != 0).long().cumsum(1) * (i != 0).long() + 1,
        lambda i: (torch.arange(4)[:, None] - torch.arange(4)) ** 2 + i.sum(),
        lambda i: i.cumsum(0) // 2,
        lambda i: (i % 16) * 1024 + 3,
    ],
)
def test_ordinary_arithmetic_is_not_noted(function: Any) -> None:
    assert _notes(function, torch.tensor([[1, 2, 0, 3], [4, 5, 6, 0]])) == []
