"""Rows of an attack on the whole: records, structures of numpy's arrays, modes, float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ivyport
from ivyport.core.errors import ParityError


class Batch(NamedTuple):
    first: torch.Tensor
    mask: torch.Tensor | None
    last: torch.Tensor
    state: Any = None
    size: Any = None


class Recorded(nn.Module):
    """Gives records with None in the middle, and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, given: Batch) -> tuple[Batch, Batch]:
        first = self.linear(given.first)
        whole = Batch(first, given.mask, given.last * 2, None, first.sum())
        return whole, Batch(first, None, given.last)


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_fields_of_a_record_keep_their_order(to: str) -> None:
    source = Recorded().eval()
    given = Batch(torch.randn(2, 4), None, torch.randn(2, 4))
    port = ivyport.transpile(source, to, (given,))
    arrays = Batch(given.first.numpy(), None, given.last.numpy())
    for actual, expected in zip(port(arrays), source(given), strict=True):
        assert actual._fields == Batch._fields
        # By position, as `first, mask, last, *_ = port(batch)` reads them.
        for ours, theirs in zip(actual, expected, strict=True):
            if theirs is None:
                assert ours is None
            else:
                ours = np.asarray(ours.detach() if to == "torch" else ours)
                np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)
    short = port(arrays)[1]
    again = port(type(short)(short.first, None, short.last))  # no word on the rest
    assert len(again) == 2


class Heads(nn.Module):
    """Gives other outputs in train mode than in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.linear(x)
        if self.training:
            return {"loss": F.cross_entropy(scores, y), "scores": scores}
        return {"scores": scores, "right": (scores.argmax(-1) == y).float().mean()}


def test_outputs_of_train_mode_alone_are_verified() -> None:
    source, args = Heads(), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    report = ivyport.verify(source, ivyport.transpile(source, "jax", args), args=args)
    assert report.passed, [row for row in report.rows if not row.passed]


class Offset(nn.Module):
    """Needs the digits of float64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.double() + 1e10 - 1e10


class Stamped(nn.Module):
    """Subtracts one time stamp from another, in seconds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.double() * 86400 + 1.7e9 - 1.7e9).float()


@pytest.mark.parametrize("cls", [Offset, Stamped])
def test_float64_that_only_a_compiler_saves_is_refused(cls: type[nn.Module]) -> None:
    with pytest.raises(ParityError):
        ivyport.transpile(cls(), "jax", (torch.rand(3, 4),))
    port = ivyport.transpile(cls(), "torch", (torch.rand(3, 4),))
    torch.testing.assert_close(port(torch.ones(3, 4)), cls()(torch.ones(3, 4)))
