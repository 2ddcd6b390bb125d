"""Embeddings: the padding row has no gradient; what cannot be said elsewhere is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch import nn

import ivyport
from ivyport.core.errors import UnsupportedOpsError
from tests.cases.gradients import ports, text_of

IDS = torch.tensor([[0, 3, 2], [2, 0, 0]])


class Tokens(nn.Module):
    """An embedding and a layer."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lin = nn.Embedding(6, 4, **options), nn.Linear(4, 4)
        with torch.no_grad():
            self.embed.weight.normal_()  # a padding row that is not zero

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lin(self.embed(ids))


class Tied(Tokens):
    """The product with the table trains its padding row."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.lin(self.embed(ids)) @ self.embed.weight.T


class Functional(nn.Module):
    """The table is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.scale = (
            nn.Parameter(torch.rand(6, 4)),
            nn.Parameter(torch.rand(4)),
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        table = self.table * self.scale
        return F.embedding(ids, table, padding_idx=-4) * 2 + F.embedding(ids, table)


@pytest.mark.parametrize(
    "model",
    [Tokens(padding_idx=0), Tokens(padding_idx=-4), Tied(padding_idx=2), Functional()],
    ids=["0", "negative", "tied", "functional"],
)
def test_the_padding_row_has_no_gradient(model: nn.Module) -> None:
    ports(model, IDS, train=False)


def test_the_padding_row_reads_well() -> None:
    found = ports(Tokens(padding_idx=0), IDS, train=False)
    assert "nn.Embedding(6, 4, padding_idx=0)" in text_of(found["torch"])
    assert "PaddedEmbed(6, 4, padding_idx=0, rngs=rngs)" in text_of(found["jax"])


def test_a_frozen_table_needs_no_padding_row() -> None:
    model = Tokens(padding_idx=0)
    model.embed.requires_grad_(False)
    found = ports(model, IDS, train=False)
    assert "nnx.Embed(6, 4, rngs=rngs)" in text_of(found["jax"])


def test_a_padding_row_survives_the_way_back() -> None:
    model = Tokens(padding_idx=0).eval()
    there = ivyport.transpile(model, "jax", (IDS,), train=False)
    back = ivyport.transpile(there, "torch", (IDS.int().numpy(),), train=False)
    assert "nn.Embedding(6, 4, padding_idx=0)" in text_of(back)


def test_sparse_gradients_are_dense() -> None:
    dense = Tokens()
    model = Tokens(sparse=True)
    model.load_state_dict(dense.state_dict())
    for to in ("jax", "torch"):
        ported = ivyport.transpile(model.eval(), to, (IDS,), train=False)
        text = text_of(ported)
        assert "sparse" not in text


def test_parity_tells_a_padding_row_that_trains() -> None:
    model = Tokens(padding_idx=0).eval()
    ported = ivyport.transpile(model, "jax", (IDS,), train=False)
    assert ivyport.verify(model, ported).passed
    plain = nnx.Embed(6, 4, rngs=nnx.Rngs(0))
    plain.embedding[...] = ported.embed.embedding[...]
    ported.embed = plain
    report = ivyport.verify(model, ported)
    assert {row.name for row in report.rows if not row.passed} >= {"embed.embedding"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale_grad_by_freq": True}, "scale_grad_by_freq=True"),
        ({"max_norm": 1.0}, "renorm"),
    ],
    ids=["scale_grad_by_freq", "max_norm"],
)
def test_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedOpsError, match=said) as error:
        ivyport.transpile(Tokens(**options).eval(), "jax", (IDS,), train=False)
    assert "embed" in str(error.value)
