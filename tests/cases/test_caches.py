"""Caches that a forward fills are as they were after a trace, and filled ones are constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax.numpy as jnp
import torch
from torch import nn

import ivyport
from tests.support import as_numpy


class Biased(nn.Module):
    """Keeps what it computes by device and in a list, as timm's LeViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(3))
        self.cache: dict[str, Any] = {}
        self.seen: list[Any] = []
        self.nested: dict[str, list[Any]] = {"rows": []}

    def forward(self, x: Any) -> Any:
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias[[2, 0, 1]]
        if not self.seen:
            self.seen.append(torch.arange(3) * 2.0)
            self.nested["rows"].append(x * 2)
        return x * self.seen[0] + self.cache["bias"]


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_trace_leaves_caches_as_they_were(to: str, filled: bool) -> None:
    torch.manual_seed(0)
    model, x = Biased().eval(), torch.randn(2, 3)
    with torch.no_grad():
        expected = model(x) if filled else Biased.forward(model, x)
    if not filled:
        model.cache.clear()
        model.seen.clear()
        model.nested["rows"].clear()
    before = dict(model.cache), list(model.seen), list(model.nested["rows"])
    port = ivyport.transpile(model, to=to, args=(x,))
    assert list(model.cache) == list(before[0])
    for now, then in ((model.seen, before[1]), (model.nested["rows"], before[2])):
        assert [*map(id, now)] == [*map(id, then)]
    found = port(x if to == "torch" else jnp.asarray(as_numpy(x)))
    np.testing.assert_allclose(as_numpy(found), as_numpy(expected), rtol=1e-6)
    with torch.no_grad():
        again = model(x)
    assert type(again) is torch.Tensor
    np.testing.assert_array_equal(as_numpy(again), as_numpy(expected))
