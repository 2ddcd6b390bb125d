"""Operations that torch itself makes of others: values, gradients, names of what is missing."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.core.errors import IvyportError
from tests.support import as_numpy


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Losses(nn.Module):
    """The losses that models return, and other composite operations."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.mix = nn.Bilinear(3, 3, 2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.head(x)
        z = y.roll(1, 0)
        positive = y.sigmoid()
        log = F.log_softmax(y, -1)
        return {
            "cross_entropy": F.cross_entropy(y, labels, label_smoothing=0.1),
            "ignored": F.cross_entropy(y, labels, ignore_index=1, reduction="sum"),
            "nll": F.nll_loss(log, labels),
            "mse": F.mse_loss(y, z),
            "l1": F.l1_loss(y, z, reduction="none"),
            "smooth_l1": F.smooth_l1_loss(y, z, beta=0.5),
            "huber": F.huber_loss(y, z),
            "kl": F.kl_div(log, log.roll(1, 0), log_target=True, reduction="batchmean"),
            "bce": F.binary_cross_entropy(positive, z.sigmoid()),
            "bce_logits": F.binary_cross_entropy_with_logits(y, z.sigmoid()),
            "triplet": F.triplet_margin_loss(y, z, y * 0.5),
            "hinge": F.margin_ranking_loss(y[:, 0], z[:, 0], torch.ones_like(y[:, 0])),
            "poisson": F.poisson_nll_loss(y, positive),
            "distance": F.pairwise_distance(y, z),
            "between": torch.cdist(y, z + 1.0, p=1),
            "bilinear": self.mix(y, z),
            "tensordot": torch.tensordot(y, self.head.weight, dims=([1], [0])),
            "mean": torch.nanmean(torch.where(y > 0, y, torch.nan), 1),
            "inner": torch.inner(y, z),
            "area": torch.trapezoid(y, dx=0.5),
            "vander": torch.linalg.vander(y),
            "close": torch.isclose(y, z, atol=0.5),
            "quantile": torch.quantile(y, 0.3, dim=1),
            "running": positive.cumprod(1),
            "median": y.median(1).values,
            "trace": (y.T @ z).diagonal().sum(),
        }


X, LABELS = numbers(5, 4), torch.tensor([0, 2, 1, 1, 2])


@pytest.fixture(scope="module")
def losses() -> tuple[nn.Module, ivyport.Report]:
    source = Losses().eval()
    port = ivyport.transpile(source, to="jax", args=(X, LABELS), train=False)
    return port, ivyport.verify(source, port, args=(X, LABELS))


def test_values_and_gradients(losses: tuple[nn.Module, ivyport.Report]) -> None:
    _, report = losses
    assert report.passed, [row for row in report.rows if not row.passed]
    assert {"output", "gradient"} <= {row.kind for row in report.rows}


def test_no_axis_is_fixed(losses: tuple[nn.Module, ivyport.Report]) -> None:
    """What is taken apart holds for other batches, as what has a rule does."""
    port, _ = losses
    found = port(numbers(8, 4).numpy(), np.arange(8) % 3)
    assert found["l1"].shape == (8, 3)
    assert found["between"].shape == (8, 8)


class Diagonal(nn.Module):
    """A write through a view that has no slice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x.diagonal().zero_()
        return x


class Flat(nn.Module):
    """`atleast_2d` of a matrix is the matrix: a write to it is one to both."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        y = torch.atleast_2d(x)
        y += 1
        return x * y


def test_a_write_through_a_diagonal_is_one_to_the_matrix() -> None:
    x = numbers(4, 4)
    port = ivyport.transpile(Diagonal(), to="jax", args=(x,), train=False)
    np.testing.assert_array_equal(np.asarray(port(x.numpy())), as_numpy(Diagonal()(x)))


def test_a_write_to_what_is_taken_apart_is_seen() -> None:
    x = numbers(3, 4)
    port = ivyport.transpile(Flat(), to="jax", args=(x,), train=False)
    np.testing.assert_allclose(
        np.asarray(port(x.numpy())), as_numpy(Flat()(x)), rtol=1e-6
    )


class Missing(nn.Module):
    """A composite operation of which a part has no rule."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.matrix_rank(x)


def test_a_missing_part_is_said_of_the_operation() -> None:
    with pytest.raises(IvyportError, match="linalg_matrix_rank"):
        ivyport.transpile(Missing(), to="jax", args=(numbers(3, 3),))
