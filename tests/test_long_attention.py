"""Attention over 512 and more positions: head by head on a CPU, and attention still."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")

import jax.numpy as jnp  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.passes.pipeline import prepare  # noqa: E402
from ivyport.targets import TARGETS  # noqa: E402
from tests.support import assert_close  # noqa: E402

LENGTH = 512
BATCH = {"x": {0: "batch", 1: None, 2: None}, "mask": {0: "batch", 1: None}}


class Attention(nn.Module):
    """Four heads of four, the keys of which may be shared by two each."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.shared = kind, 2 if kind == "grouped" else 4
        self.qkv = nn.Linear(16, 16 + 8 * self.shared)
        self.bias = nn.Parameter(torch.randn(1, 4, LENGTH, LENGTH))

    def forward(self, x: Any, mask: Any) -> Any:
        sizes = [4, self.shared, self.shared]
        q, k, v = self.qkv(x).split([4 * n for n in sizes], dim=-1)
        heads = [
            y.unflatten(-1, (n, 4)).transpose(1, 2)
            for y, n in zip((q, k, v), sizes, strict=True)
        ]
        options: dict[str, Any] = {
            "plain": {},
            "scale": {"scale": 1.0},
            "bias": {"attn_mask": self.bias},
            "padding": {"attn_mask": mask[:, None, None, :]},
            # Queries of the padding see nothing.
            "pairs": {"attn_mask": (mask[:, None, None, :] & mask[:, None, :, None])},
            "grouped": {"is_causal": True, "enable_gqa": True},
            "dropout": {"dropout_p": 0.5 if self.training else 0.0},
        }[self.kind]
        y = F.scaled_dot_product_attention(*heads, **options)
        return y.transpose(1, 2).flatten(2)


def inputs(batch: int) -> dict[str, Any]:
    mask = torch.ones(batch, LENGTH, dtype=torch.bool)
    mask[:, 500:] = False
    return {"x": torch.randn(batch, LENGTH, 16), "mask": mask}


@pytest.mark.parametrize(
    "kind", ["plain", "scale", "bias", "padding", "pairs", "grouped", "dropout"]
)
def test_long_attention_is_ported_and_traced_again(kind: str) -> None:
    torch.manual_seed(0)
    model = Attention(kind).eval()
    example = inputs(2)
    ported = ivyport.transpile(model, "jax", kwargs=example, dims=BATCH)
    assert "long_attention(" in inspect.getsource(type(ported))
    report = ivyport.verify(model, ported)
    assert report.passed, report
    arrays = {name: jnp.asarray(x.numpy()) for name, x in example.items()}
    home = ivyport.transpile(ported, "torch", kwargs=arrays, dims=BATCH, train=False)
    again = inputs(3)
    with torch.no_grad():
        assert_close(home(**again).numpy(), model(**again).numpy(), rtol=1e-5)
    if kind not in ("bias", "pairs"):
        graph = ivyport.trace(ported, kwargs=arrays, dims=BATCH)
        prepare(graph, TARGETS["torch"].policy)
        assert "attention" in {node.op for node in graph.nodes}
