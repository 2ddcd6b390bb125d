"""Rows of an attack on the whole: records, structures of numpy's arrays, modes, float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
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


class Fourier(nnx.Module):
    """Random Fourier features: projections drawn from a key that is written in the code."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(6, 4, rngs=rngs)
        self.dropout = nnx.Dropout(0.0, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        drawn = jax.random.normal(jax.random.key(3), (4, 6))
        return self.dropout(self.linear(jnp.cos(x @ drawn)))


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_key_of_the_source_draws_the_same_in_train_mode(to: str) -> None:
    source, x = (
        Fourier(nnx.Rngs(0)),
        np.random.default_rng(0).random((3, 4), np.float32),
    )
    port = ivyport.transpile(source, to, (x,))
    port.train()
    for _ in range(2):
        found = port(x)
        found = np.asarray(found.detach() if to == "torch" else found)
        np.testing.assert_allclose(found, np.asarray(source(x)), rtol=1e-5, atol=1e-6)


class Distance(nn.Module):
    """Distances of rows to the first one, which is held fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([0.3, -1.7, 0.9, 1.1]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * self.scale
        return torch.cdist(x, x[:1].detach())


def test_a_row_has_no_gradient_by_its_distance_to_itself_under_jit() -> None:
    x = torch.randn(3, 4, generator=torch.manual_seed(0))
    port = ivyport.transpile(Distance(), "jax", (x,))
    graph, state = nnx.split(port)
    slope = jax.jit(jax.grad(lambda x: nnx.merge(graph, state)(x).sum()))
    assert not np.asarray(slope(jnp.asarray(x.numpy())))[0].any()


class Reached(nn.Module):
    """The largest of what is sent to a place, without what was there."""

    def __init__(self, reduce: str) -> None:
        super().__init__()
        self.linear, self.reduce = nn.Linear(4, 4), reduce

    def forward(self, x: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
        places = to[:, None].expand(-1, 4)
        start = torch.ones(5, 4)
        y = self.linear(x)
        return start.scatter_reduce(0, places, y, self.reduce, include_self=False)


@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_only_the_largest_of_what_is_sent_has_a_gradient(reduce: str) -> None:
    source, to = Reached(reduce), torch.tensor([1, 1, 2, 1])
    x = torch.randn(4, 4, generator=torch.manual_seed(0), requires_grad=True)
    given = torch.randn(5, 4, generator=torch.manual_seed(1))
    (expected,) = torch.autograd.grad((source(x, to) * given).sum(), x)
    port = ivyport.transpile(source, "torch", (x.detach(), to))
    (found,) = torch.autograd.grad((port(x, to) * given).sum(), x)
    torch.testing.assert_close(found, expected)
    ours = ivyport.transpile(source, "jax", (x.detach(), to))
    weights, places = jnp.asarray(given.numpy()), jnp.asarray(to.numpy())
    slope = jax.grad(lambda x: (ours(x, places) * weights).sum())
    found = slope(jnp.asarray(x.detach().numpy()))
    np.testing.assert_allclose(
        np.asarray(found), expected.numpy(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_free_axis_is_padded_by_its_edge(to: str) -> None:
    def padded(x: jax.Array) -> jax.Array:
        return jnp.pad(jnp.tanh(x), ((0, 0), (2, 1), (0, 0)), mode="edge")

    x = np.random.default_rng(0).random((2, 7, 4), np.float32)
    port = ivyport.transpile(padded, to, (x[:, :6],), dims={"x": {0: "b", 1: "t"}})
    for size in (1, 5, 7):
        found = np.asarray(port(x[:1, :size]))
        np.testing.assert_allclose(found, padded(x[:1, :size]), rtol=1e-6)
