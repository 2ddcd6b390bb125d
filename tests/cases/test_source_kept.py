"""The user's source is after `transpile`, `verify` and `trace` exactly what it was before."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.errors import IvyportError


def state_of(model: nn.Module) -> dict[str, Any]:
    """All that can be told of a model and the random generators, as plain values."""
    found: dict[str, Any] = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[union-attr, index]
        "numpy at": np.random.get_state()[2],
        "python": random.getstate(),
    }
    for path, module in model.named_modules():
        found[f"{path} attributes"] = list(vars(module))
        for name, value in vars(module).items():
            if name != "_modules":
                found[f"{path}.{name}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        grad = None if value.grad is None else value.grad.tolist()
        return id(value), value.tolist(), value.requires_grad, grad
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)


class Writes(Base):
    """Writes to plain tensors of all places before it reads them, and to flags."""

    def __init__(self) -> None:
        super().__init__()
        self.c = torch.zeros(3)
        self.held = [torch.ones(3), {"inner": torch.ones(3)}]
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.c.copy_(x[0])
        self.held[0].fill_(2.0)
        self.held[1]["inner"].copy_(x[1])
        h = self.lin(x) + self.c + self.held[0] + self.held[1]["inner"]
        if self.training:
            self.mean.mul_(0.9).add_(h.detach().mean(0), alpha=0.1)
        return self.drop(h) - self.mean


class Remembers(Base):
    """Assigns a tensor that the next call reads: refused, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.h = self.h * 0.5 + x
        return self.lin(self.h)


class Accumulates(Base):
    def __init__(self) -> None:
        super().__init__()
        self.h = torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.h += x[0]
        return self.lin(x) + self.h


class ClampsItsWeight(Base):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.lin.weight.data.clamp_(-0.1, 0.1)
        return self.lin(x)


class Renorms(Base):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 3, max_norm=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin(x) + self.table(torch.tensor([1, 2]))


class Draws(Base):
    """Draws from three generators, and sets flags while it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = 1.0 + 0.0 * (random.random() + float(np.random.rand()))
        self.lin.weight.requires_grad_(False)
        self.drop.eval()
        self.count = getattr(self, "count", 0) + 1
        return self.lin(x) * scale + 0 * torch.rand(3)


def _ready(model: nn.Module) -> nn.Module:
    """With gradients, a frozen bias and a module in a mode of its own."""
    model(torch.ones(2, 3)).sum().backward()
    model.lin.bias.requires_grad_(False)
    model.drop.train(not model.training)
    return model


def _try(call: Callable[[], Any]) -> Any:
    """The result, or the refusal in our own words."""
    try:
        return call()
    except IvyportError as error:
        return error


def test_a_source_that_writes_to_plain_tensors_is_put_back() -> None:
    model = _ready(Writes())
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    before = state_of(model)
    port = ivyport.transpile(model, "jax", args=(x,))
    assert state_of(model) == before
    assert ivyport.verify(model, port).passed
    assert state_of(model) == before


SOURCES = [Remembers, Accumulates, ClampsItsWeight, Renorms, Draws]


@pytest.mark.parametrize("cls", SOURCES, ids=lambda c: c.__name__)
def test_a_source_is_the_same_whether_it_ports_or_not(cls: type[nn.Module]) -> None:
    model = _ready(cls())
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    before = state_of(model)
    _try(lambda: ivyport.transpile(model, "jax", args=(x,)))
    assert state_of(model) == before


def test_a_frozen_weight_goes_to_nnx_and_back() -> None:
    """It is no buffer in the second port: a parameter that is not trained."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    model[0].requires_grad_(False)
    x = torch.randn(2, 3)
    there = ivyport.transpile(model, "jax", args=(x,))
    back = ivyport.transpile(there, "torch", args=(x.numpy(),))
    trained = {n: p.requires_grad for n, p in back.named_parameters()}
    assert sorted(trained.values()) == [False, False, True, True]
    assert not dict(back.named_buffers())
    assert ivyport.verify(there, back).passed
