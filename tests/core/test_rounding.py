"""Which floats values went through, where eval and train mode do not do the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.rounding import roundings

X = torch.randn(3, 6, generator=torch.manual_seed(0))


class Halved(nn.Module):
    """Rounds to bfloat16 in one mode, in both or in none, beside another output."""

    def __init__(self, evaluated: bool, trained: bool) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.rounds = {False: evaluated, True: trained}

    def forward(self, x):
        h = torch.tanh(self.lin(x))
        low = h * 3 if self.training else h * 2
        if self.rounds[self.training]:
            low = low.bfloat16().float()
        return {"low": low * 2, "high": h}


@pytest.mark.parametrize(
    ("evaluated", "trained", "expected"),
    [
        (True, False, {"low": "bfloat16"}),
        (True, True, {"low": "bfloat16"}),
        # Eval mode is held to float32, whatever train mode does.
        (False, True, {}),
        (False, False, {}),
    ],
)
def test_rounding_of_eval_mode_counts(
    evaluated: bool, trained: bool, expected: dict[str, str]
) -> None:
    source = Halved(evaluated, trained).eval()
    graph = ivyport.trace(source, args=(X,), train=True)
    assert any(node.op == "mode" for node in graph.nodes)
    assert roundings(graph) == expected
