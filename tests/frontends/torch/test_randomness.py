"""What a train capture does with draws of Python and numpy, and with branches on data."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.errors import TraceError
from ivyport.frontends.torch.trace import trace


class Draws(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            x = x * float(np.random.rand())
        return nn.functional.dropout(x, 0.3, self.training)


class DrawsInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.child = Draws()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.child(x), 0.2, self.training)


def test_numpy_randomness_is_never_baked() -> None:
    with pytest.raises(TraceError) as caught:
        trace(DrawsInside(), (torch.randn(2, 3),))
    message = str(caught.value)
    assert "module 'child'" in message
    assert "x = x * float(np.random.rand())" in message
    assert "train=False" in message
    assert trace(DrawsInside(), (torch.randn(2, 3),), train=False).notes == []


class Zero(nn.Module):
    """The way older models write layer drop: the comparison runs at rate 0 too."""

    def __init__(self) -> None:
        super().__init__()
        self.layerdrop = 0.0
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.rand([]) < self.layerdrop:
            return x
        return self.linear(x)


class OfPython(Zero):
    """As the adapter of wav2vec2 and MusicGen do: a draw at every call, whatever the rate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = np.random.random(), random.uniform(0, 1)
        if not self.training or (
            first > self.layerdrop and not second < self.layerdrop
        ):
            x = self.linear(x)
        return nn.functional.dropout(x, 0.2, self.training)


@pytest.mark.parametrize("kind", [Zero, OfPython])
def test_layer_drop_of_rate_zero_changes_nothing(kind: type[Zero]) -> None:
    found = trace(kind(), (torch.randn(2, 3),))
    (note,) = found.notes
    assert "rate is 0" in note
    assert found.train_program is not None
    targets = [str(node.target) for node in found.train_program.graph.nodes]
    assert "aten.linear.default" in targets
    assert ("aten.dropout.default" in targets) is (kind is OfPython)


class Halved(Zero):
    """A draw that is compared with something else than the rate."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and torch.rand([]) < self.layerdrop + 0.5:
            return x
        return self.linear(x)


def test_a_draw_beside_the_rate_is_refused() -> None:
    with pytest.raises(
        TraceError, match=r"torch\.rand\(\[\]\) < self\.layerdrop \+ 0\.5"
    ):
        trace(Halved(), (torch.randn(2, 3),))


class Warm(nn.Module):
    """A warm-up that a counter decides."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.register_buffer("steps", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        if self.training and self.steps < 100:
            x = x * 0.5
        return x


class Mixed(nn.Module):
    """Layers dropped at a rate that is no attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or torch.rand(1).item() > 0.5:
            x = self.linear(x)
        return x


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Warm, "if self.training and self.steps < 100"),
        (Mixed, "torch.rand(1).item() > 0.5"),
    ],
)
def test_a_branch_of_train_mode_on_data_is_refused(
    kind: type[nn.Module], line: str
) -> None:
    x = torch.randn(2, 3)
    with pytest.raises(TraceError, match=r"train mode") as caught:
        ivyport.trace(kind(), (x,), train=True)
    assert line in str(caught.value)
    assert "train=False" in str(caught.value)
    assert trace(kind(), (x,), train=False).notes == []
