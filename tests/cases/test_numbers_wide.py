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
from ivyport.core.passes.pipeline import for_target
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
    notes = for_target(ivyport.trace(module.eval(), args), "jax")
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


def test_a_hash_into_many_buckets_is_noted() -> None:
    model = Hashed(100_003).eval()
    (note,) = _notes(model, IDS)
    assert "64 bits" in note
    assert "test_numbers_wide.py" in note


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
