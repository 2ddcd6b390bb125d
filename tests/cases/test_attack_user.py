"""What a first user runs into: batches of one, and what the records say."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

import ivyport


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.fc(x))


@pytest.fixture(scope="module")
def normed() -> tuple[Any, Any]:
    torch.manual_seed(0)
    source = Normed()
    return source, ivyport.transpile(source, "jax", (torch.randn(4, 5),))


def test_batch_norm_refuses_to_train_on_one_value(normed: tuple[Any, Any]) -> None:
    """torch raises; a port would go on with a running variance of NaN."""
    source, port = normed
    one = np.ones((1, 5), np.float32)
    expected = source.eval()(torch.from_numpy(one)).detach().numpy()
    np.testing.assert_allclose(port(one), expected, rtol=1e-5, atol=1e-6)
    before = np.asarray(port.norm.var[...])
    port.train()
    try:
        with pytest.raises(ValueError, match="one value a channel"):
            port(one)
        np.testing.assert_array_equal(port.norm.var[...], before)
        port(np.ones((2, 5), np.float32))
        assert np.isfinite(port.norm.var[...]).all()
    finally:
        port.eval()


def test_what_is_kept_aside_is_named(normed: tuple[Any, Any], tmp_path: Any) -> None:
    _, port = normed
    ivyport.save(port, tmp_path / "normed")
    card = (tmp_path / "normed" / "README.md").read_text(encoding="utf-8")
    assert "does not use them: norm.num_batches_tracked." in card


def test_lengths_that_a_jax_source_fixes_are_noted(tmp_path: Any) -> None:
    """A first axis is free by default; the others are the example's, and it is said."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=(9, 4)), jnp.float32)

    def embed(params: Any, tokens: Any, image: Any) -> Any:
        return params[tokens].mean(1) + image.mean((1, 2))

    given = {"tokens": np.ones((2, 6), np.int32), "image": np.ones((2, 5, 5, 4))}
    free = {"image": {1: "height", 2: None}}
    port = ivyport.transpile(
        embed, "torch", params=table, kwargs=given, dims=free, verify=False
    )
    ivyport.save(port, tmp_path / "embed")
    card = (tmp_path / "embed" / "README.md").read_text(encoding="utf-8")
    assert "Sizes of 'tokens' that the port is made for: axis 1 is 6. Name" in card
    assert "Sizes of 'image' that the port is made for: axis 3 is 4. Name" in card
