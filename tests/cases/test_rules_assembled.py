"""Operations that real models write and that are a few others; torch's own checks of values."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import torch
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.core.errors import IvyportError


class Assembled(nn.Module):
    """One row an operation, so that all share a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.head(x)
        similar = (y @ y.T).fill_diagonal_(-1e4)
        image = y[:, None, :, None] * y[:, None, None]
        low, high = y.aminmax(dim=1)
        positive = y.abs() + 0.5
        normal = torch.distributions.Normal(y, positive)
        bernoulli = torch.distributions.Bernoulli(logits=y)
        rows, columns = torch.triu_indices(4, 4, 1)
        return {
            "contrast": similar.softmax(-1),
            "pairs": y[:, rows] * y[:, columns],
            "lower": y[:, torch.tril_indices(4, 3, -1)[0]],
            "hann": torch.hann_window(4) * y,
            "hann symmetric": torch.hann_window(4, periodic=False) * y,
            "logspace": torch.logspace(0, 1, 4) * y,
            "logspace 2": torch.logspace(0, 2, 4, base=2.0) * y,
            "block_diag": torch.block_diag(y[0], self.head.weight),
            "addbmm": torch.addbmm(y.T @ y, y[None].mT, y[None], beta=0.5, alpha=2),
            "copysign": torch.copysign(y, -y.roll(1, 1)),
            "copysign zero": torch.copysign(y, -0.0),
            "signbit": torch.signbit(-y),
            "xlog1py": torch.special.xlog1py(y, positive),
            "entr": torch.special.entr(positive),
            "spread": high - low,
            "fold": F.fold(F.unfold(image, 2), (4, 4), 2),
            "fold strided": F.fold(F.unfold(image, 3, 1, 1, 2), (4, 4), 3, 1, 1, 2),
            "repeated": y.repeat_interleave(
                torch.tensor([1, 2, 0, 1]), 1, output_size=4
            ),
            "cov": y.T.cov(),
            "cov of population": y.T.cov(correction=0),
            "corrcoef": torch.corrcoef(y.T),
            "normal": normal.log_prob(y * 2),
            "entropy": bernoulli.entropy(),
            "divergence": torch.distributions.kl_divergence(
                normal, torch.distributions.Normal(0.0, 1.0)
            ),
            "nll": F.gaussian_nll_loss(y, y * 2, positive, full=True),
            "dstack": torch.dstack([y, y * 2]),
        }


def test_values_and_gradients() -> None:
    torch.manual_seed(0)
    source, x = Assembled().eval(), torch.randn(5, 4)
    checks, loss = torch.distributions.Normal._validate_args, F.gaussian_nll_loss
    port = ivyport.transpile(source, "jax", (x,), train=False, verify="full")
    assert port(x.numpy())["fold"].shape == (5, 1, 4, 4)
    assert torch.distributions.Normal._validate_args is checks
    assert F.gaussian_nll_loss is loss


class Chosen(nn.Module):
    """An operation that looks at values by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.combinations(x[0], 2)


def test_what_torch_looks_at_is_said_in_our_words() -> None:
    with pytest.raises(IvyportError) as caught:
        ivyport.transpile(Chosen(), "jax", (torch.randn(3, 4),), train=False)
    said = str(caught.value)
    assert "values of tensors" in said
    assert not any(word in said for word in ("unbacked", "docs.google", "u0", "branch"))
