"""Recurrent networks of torch: one loop a layer and direction, with batch and time free."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import torch
from torch import nn

import ivyport
from ivyport.core.errors import IvyportError
from tests.support import as_numpy


class Tagger(nn.Module):
    """Words to classes."""

    def __init__(self, cls: type, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.rnn = cls(4, 5, **options)
        size = options.get("proj_size") or 5
        self.head = nn.Linear(size * (1 + options.get("bidirectional", False)), 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(self.embed(ids))
        return self.head(states)


class Alone(nn.Module):
    """A recurrent network, with its first state given or not."""

    def __init__(self, cls: type, **options: Any) -> None:
        super().__init__()
        self.rnn = cls(4, 5, **options)

    def forward(self, x: torch.Tensor, state: Any = None) -> Any:
        return self.rnn(x, state)


class Cells(nn.Module):
    """One step of each kind; the first with no state given."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTMCell(4, 5)
        self.gru = nn.GRUCell(5, 6, bias=False)
        self.rnn = nn.RNNCell(6, 3, nonlinearity="relu")

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> Any:
        y, c = self.lstm(x)
        return self.rnn(self.gru(y, h)), c


class Slope(nn.Module):
    """The derivative of a recurrent network by its input."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        energy = self.rnn(x)[0].square().sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


IDS = torch.arange(18).reshape(3, 6)
STATE = numbers(2, 3, 5)
ROWS = {
    "tagger-lstm": (Tagger(nn.LSTM, batch_first=True), (IDS,)),
    "tagger-deep": (
        Tagger(nn.LSTM, num_layers=2, bidirectional=True, proj_size=3, dropout=0.2),
        (IDS,),
    ),
    "lstm-state": (Alone(nn.LSTM, num_layers=2), (numbers(6, 3, 4), (STATE, STATE / 2))),
    "gru-state": (
        Alone(nn.GRU, bidirectional=True, batch_first=True), (numbers(3, 6, 4), STATE),
    ),
    "gru-deep": (Alone(nn.GRU, num_layers=2, dropout=0.5), (numbers(6, 3, 4),)),
    "rnn-no-bias": (Alone(nn.RNN, bias=False, batch_first=True), (numbers(3, 6, 4),)),
    "rnn-relu-line": (Alone(nn.RNN, nonlinearity="relu"), (numbers(6, 4),)),
    "cells": (Cells(), (numbers(3, 4), numbers(3, 6))),
}  # fmt: skip


def ported(
    source: nn.Module, to: str, args: tuple[Any, ...], **options: Any
) -> tuple[Any, str]:
    port = ivyport.transpile(source, to=to, args=args, **options)
    text = inspect.getsource(sys.modules[type(port).__module__])
    return port, text[text.index("\nclass ") :]


@pytest.mark.parametrize("name", ROWS)
def test_recurrent(name: str) -> None:
    """`transpile` compares the outputs."""
    source, args = ROWS[name]
    _, text = ported(source, "jax", args, train=False)
    layers = sum(key.startswith("rnn.weight_ih_l") for key in source.state_dict())
    assert text.count("jax.lax.scan(") == layers


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_gradients_and_training(to: str) -> None:
    source, args = ROWS["tagger-deep"]
    port, text = ported(source, to, args)
    loop = "jax.lax.scan(" if to == "jax" else "for gates_t in"
    assert text.count(loop) == 4
    report = ivyport.verify(source, port, args=args)
    assert report.passed, [row for row in report.rows if not row.passed]
    kinds = {row.kind for row in report.rows}
    assert {"output", "gradient", "train_step"} <= kinds
    if to == "torch":
        assert port.state_dict().keys() == source.state_dict().keys()


def test_time_and_batch_are_free() -> None:
    """Another number of steps and of rows, the step's names, and no loop unrolled."""
    source, args = ROWS["tagger-lstm"]
    port, text = ported(source.eval(), "jax", args, train=False)
    assert 'check_shapes(ids=(ids, "int B S"))' in text
    assert "i, f, g, o = jnp.split(" in text
    assert "h, c = carry" in text
    for shape in ((1, 1), (5, 11)):
        ids = np.arange(np.prod(shape)).reshape(shape) % 20
        with torch.no_grad():
            expected = source(torch.from_numpy(ids))
        np.testing.assert_allclose(
            as_numpy(port(ids)), as_numpy(expected), rtol=2e-5, atol=1e-6
        )


def test_a_derivative_inside_records_the_steps() -> None:
    """No shape without its number: below autograd, torch's own steps are recorded."""
    source, x = Slope().eval(), numbers(2, 3, 4)
    port = ivyport.transpile(source, to="jax", args=(x,), train=False)
    np.testing.assert_allclose(
        np.asarray(port(x.numpy())), as_numpy(source(x)), rtol=2e-5, atol=1e-6
    )


def test_torch_is_as_before_afterwards() -> None:
    kernels = dict(torch.ops.aten.lstm.input.py_kernels)
    source, args = ROWS["tagger-lstm"]
    ivyport.transpile(source, to="jax", args=args, verify=False, train=False)
    assert torch.ops.aten.lstm.input.py_kernels == kernels


class Packed(nn.Module):
    """Sequences of their own lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 5)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]


def test_packed_sequences_are_refused() -> None:
    with pytest.raises(IvyportError, match="packed sequences"):
        ivyport.transpile(
            Packed(), to="jax", args=(numbers(6, 3, 4), torch.tensor([6, 2, 3]))
        )


def test_half_precision() -> None:
    source = Alone(nn.LSTM).to(torch.bfloat16).eval()
    x = numbers(6, 3, 4).to(torch.bfloat16)
    port = ivyport.transpile(source, to="jax", args=(x,), train=False)
    found = jax.tree.leaves(port(jax.numpy.asarray(x.float().numpy(), "bfloat16")))
    assert {str(a.dtype) for a in found} == {"bfloat16"}
