"""Sizes that an attack found fixed or refused: free now, or fixed with a note that says how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.api import _known
from tests.cases.lengths import counted

Shape = tuple[int, ...]
BATCH: dict[str, Any] = {"x": {0: "b"}}
BOTH: dict[str, Any] = {"x": {0: "b", 1: "t"}}
HEIGHT: dict[str, Any] = {"x": {0: "b", 2: "h"}}


class Net(nn.Module):
    def __init__(self, f: Callable[[Net, torch.Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.tensor = nn.Linear(8, 8), nn.Parameter(torch.randn(3, 8, 8))
        self.f = f

    def forward(self, x: torch.Tensor) -> Any:
        return self.f(self, x)


def experts(s: Net, x: torch.Tensor) -> Any:
    return torch.einsum("be,bd,edf->bf", s.linear(x)[:, :3], x, s.tensor)


def trilinear(s: Net, x: torch.Tensor) -> Any:
    return torch.einsum("bi,bj,bk,ijk->b", x[:, :3], x, x, s.tensor)


def written_twice(s: Net, x: torch.Tensor) -> Any:
    w = x * 2
    z = w.view(-1, 2, 4)
    z[:, 0] += 1
    return w, z


def written_through_views(s: Net, x: torch.Tensor) -> Any:
    h = s.linear(x)
    z = h.view(-1, 4, 2).transpose(0, 1)
    z[0] *= 2
    z[1] += z[0]
    h[:, 3] = 1
    z[2] -= 1
    return h, z


def written_diagonal(s: Net, x: torch.Tensor) -> Any:
    h = s.linear(x)
    a = h @ h.T
    a.diagonal().add_(1.0)
    return a


def labels(s: Net, x: torch.Tensor) -> Any:
    return F.cross_entropy(x @ x.T, torch.arange(len(x))) + s.linear(x) / len(x)


def numpys_root(s: Net, x: torch.Tensor) -> Any:
    return s.linear(x) / np.sqrt(x.shape[1])


def larger(s: Net, x: torch.Tensor) -> Any:
    return F.interpolate(x, scale_factor=1.5)


def larger_between(s: Net, x: torch.Tensor) -> Any:
    return F.interpolate(x, scale_factor=1.25, mode="bilinear")


ROWS = [
    (experts, (5, 8), BATCH, [(2, 8), (1, 8)]),
    (trilinear, (5, 8), BATCH, [(3, 8)]),
    (written_twice, (3, 8), BATCH, [(5, 8)]),
    (written_through_views, (3, 8), BATCH, [(5, 8), (1, 8)]),
    (written_diagonal, (3, 8), BATCH, [(5, 8)]),
    (labels, (3, 8), BATCH, [(5, 8), (1, 8)]),
    (numpys_root, (2, 6, 8), BOTH, [(3, 5, 8)]),
    (larger, (2, 3, 4, 6), HEIGHT, [(1, 3, 5, 6), (2, 3, 7, 6)]),
    (larger_between, (2, 3, 4, 6), HEIGHT, [(1, 3, 5, 6), (2, 3, 7, 6)]),
]


@pytest.mark.parametrize(("f", "shape", "dims", "others"), ROWS)
def test_free(f: Any, shape: Shape, dims: Any, others: list[Shape]) -> None:
    net = Net(f)
    port = ivyport.transpile(net, "torch", (torch.randn(shape),), dims=dims)
    for other in others:
        x = torch.randn(other)
        mine, theirs = port(x), net(x)
        for a, b in zip(
            mine if isinstance(mine, tuple) else (mine,),
            theirs if isinstance(theirs, tuple) else (theirs,),
            strict=True,
        ):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_users_own_settings_stay() -> None:
    assert torch.backends.opt_einsum.enabled
    assert "len" not in globals()
    assert isinstance(np.sqrt, np.ufunc)


def test_a_size_without_a_form_is_fixed_with_a_note() -> None:
    """0.3 has no short binary form: the product is rounded, which no check can say."""
    net = Net(lambda s, x: F.interpolate(x, scale_factor=0.3))
    x = torch.randn(2, 3, 9, 6)
    port = ivyport.transpile(net, "torch", (x,), dims=HEIGHT)
    (note,) = [n for n in _known(port).notes if "'h'" in n]
    assert "scale_factor=0.3" in note
    torch.testing.assert_close(port(x), net(x))
    with pytest.raises(ValueError, match="due"):
        port(torch.randn(2, 3, 10, 6))


def test_a_length_in_another_file_is_fixed_with_a_way_out() -> None:
    net = Net(lambda s, x: s.linear(x) + counted(x)[:, None])
    port = ivyport.transpile(net, "torch", (torch.randn(3, 8),))
    (note,) = [n for n in _known(port).notes if "'batch'" in n]
    assert "write rows.shape[0] for len(rows)" in note
