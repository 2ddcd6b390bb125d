"""Samples of one step of recurrent networks; whole ones are modules of `tests/cases`."""

from __future__ import annotations

import torch

from tests.frontends.torch.sample import Sample, normal, row

x, h = normal("B", 4), normal("B", 3)


def _weights(gates: int) -> tuple:
    size = gates * 3
    return normal(size, 4), normal(size, 3), normal(size), normal(size)


ROWS: list[Sample] = [
    row(
        "lstm_cell",
        lambda x, h, c, *w: torch.lstm_cell(x, (h, c), *w),
        x,
        h,
        h,
        *_weights(4),
    ),
    row("gru_cell", torch.gru_cell, x, h, *_weights(3)),
    row("gru_cell-no-bias", torch.gru_cell, x, h, *_weights(3)[:2]),
    row("rnn_tanh_cell", torch.rnn_tanh_cell, x, h, *_weights(1)),
    row("rnn_relu_cell", torch.rnn_relu_cell, x, h, *_weights(1)),
]
