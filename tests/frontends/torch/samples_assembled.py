"""Samples of operations that are a few others."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.frontends.torch.sample import Sample, given, normal, row, uniform

x = normal("B", "S")
wide = normal("B", 4)
square = normal(4, 4)
batches = normal("B", 4, 4)
zeros = given(0.0, -0.0, 1.5, -2.0)

ROWS: list[Sample] = [
    row("addbmm", lambda a, c: torch.addbmm(a, c, c, beta=0.5), square, batches),
    row("aminmax", lambda a: torch.aminmax(a, dim=1), wide),
    row("block_diag", lambda a: torch.block_diag(a, a[:2]), square),
    row("fold", lambda a: F.fold(F.unfold(a, 2), (4, 4), 2), normal("B", 3, 4, 4)),
    row("copysign", torch.copysign, zeros, given(-0.0, 1.0, -1.0, 0.0)),
    row("copysign-number", lambda a: torch.copysign(a, -2.0), wide),
    row("signbit", torch.signbit, zeros),
    row("dstack", lambda a: torch.dstack([a, a * 2]), wide),
    row("fill_diagonal_", lambda a: a.clone().fill_diagonal_(2.0), square),
    row("hann_window", lambda a: torch.hann_window(4) * a, wide),
    row("hann_window-symmetric", lambda a: torch.hann_window(4, False) * a, wide),
    row("logspace", lambda a: torch.logspace(0, 1, 4) * a, wide),
    row(
        "repeat_interleave-tensor",
        lambda a, n: a.repeat_interleave(n, 1, output_size=4),
        wide,
        given(1, 2, 0, 1, dtype=torch.int64),
    ),
    row("xlog1py", torch.special.xlog1py, wide, uniform(0.5, 2.0, "B", 4)),
]
