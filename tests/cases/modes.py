"""Models of which train mode does something else than eval mode, and more than dropout."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

Make = Callable[[], nn.Module]


class Averaged(nn.Module):
    """A linear layer with a moving average and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.register_buffer("mean", torch.rand(4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def average(self, x: torch.Tensor) -> None:
        self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)


class WrittenAfterUse(Averaged):
    def forward(self, x):
        y = self.lin(x) - self.mean
        if self.training:
            self.average(x)
        return y


class WrittenBeforeUse(Averaged):
    def forward(self, x):
        if self.training:
            self.average(x)
        return self.lin(x) - self.mean


class WrittenInBothModes(Averaged):
    def forward(self, x):
        self.calls += 1
        self.mean = self.mean * 0.5 + x.mean(0)
        return self.lin(x) * self.calls


class WrittenByIndex(Averaged):
    def forward(self, x):
        self.mean[1] = x.mean()
        return self.lin(x) + self.mean


class WrittenInside(nn.Module):
    """Three that write, one of which another module reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a = WrittenAfterUse()
        self.b = WrittenBeforeUse()
        self.c = WrittenInBothModes()

    def forward(self, x):
        return self.c(torch.relu(self.b(self.a(x)))) + self.a.mean


class Codebook(nn.Module):
    """VQ-VAE with codes that are moving averages (arXiv:1711.00937)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.randn(5, 4))
        self.register_buffer("size", torch.ones(5))
        self.register_buffer("sums", torch.randn(5, 4))
        self.enc = nn.Linear(4, 4)
        self.dec = nn.Linear(4, 4)

    def forward(self, x):
        h = self.enc(x)
        i = (h[:, None] - self.codes[None]).pow(2).sum(-1).argmin(-1)
        q = self.codes[i]
        if self.training:
            with torch.no_grad():
                onehot = F.one_hot(i, 5).float()
                self.size.mul_(0.9).add_(onehot.sum(0), alpha=0.1)
                self.sums.mul_(0.9).add_(onehot.t() @ h, alpha=0.1)
                self.codes.copy_(self.sums / (self.size[:, None] + 1e-5))
        return self.dec(h + (q - h).detach())


class AuxiliaryHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.aux = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x):
        h = self.a(x).relu()
        if self.training:
            return self.head(h), self.aux(h)
        return self.head(h)


class Loss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        h = self.a(x).relu()
        return {"loss": h.pow(2).mean() if self.training else None, "out": h * 2}


class Scale(nn.Module):
    """Its layer is called in train mode alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) * 2 if self.training else x + 1


class Scales(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList([Scale() for _ in range(3)])
        self.out = nn.Linear(4, 4)

    def forward(self, x):
        for scale in self.scales:
            x = torch.tanh(scale(x))
        return self.out(x)


class Normed(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4, **options)
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.norm(self.lin(x))


class NormByHand(nn.Module):
    """Batch norm that is no layer: followed by an activation, as timm's."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))
        self.weight = nn.Parameter(torch.rand(4))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        y = F.batch_norm(x, mean, var, self.weight, None, self.training, 0.2)
        return y.relu()


class FrozenNorm(NormByHand):
    """Its statistics never change, whatever the mode."""

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, None, False, 0.2).relu()


class InstanceNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)

    def forward(self, x):
        return self.norm(x[:, :, None] * torch.arange(1.0, 6.0))


class Convolved(nn.Module):
    """Images, a norm without weights, and a difference that follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 2)
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        h = self.norm(self.conv(x[:, None, None, :].expand(-1, -1, 3, -1)))
        if self.training:
            h = h * 1.5
            self.mean = self.mean * 0.5 + h.mean((0, 2, 3))
        return h + self.mean[:, None, None]


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch has another form of it
        return nn.utils.weight_norm(layer)


def wrapped(wrap: Callable[[nn.Module], nn.Module]) -> Make:
    return lambda: nn.Sequential(wrap(nn.Linear(4, 4)), nn.Tanh())


class MomentumEncoder(nn.Module):
    """A second network that follows the first, as of MoCo, BYOL and mean teachers."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.key = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.key.requires_grad_(False)

    def follow(self) -> None:
        for mine, other in zip(
            self.key.parameters(), self.query.parameters(), strict=True
        ):
            mine.data.mul_(0.9).add_(other.data, alpha=0.1)

    def forward(self, x):
        if self.training:
            self.follow()
        return self.query(x) - self.key(x)


class Teacher(MomentumEncoder):
    def follow(self) -> None:
        with torch.no_grad():
            self.key[0].weight.lerp_(self.query[0].weight, 0.2)


EXACT: dict[str, Make] = {
    "a momentum encoder": MomentumEncoder,
    "one layer of a teacher": Teacher,
    "a buffer written after use": WrittenAfterUse,
    "a buffer written before use": WrittenBeforeUse,
    "a counter and a cache, written in both modes": WrittenInBothModes,
    "a buffer written at an index": WrittenByIndex,
    "buffers of inner modules": WrittenInside,
    "a codebook": Codebook,
    "an auxiliary head": AuxiliaryHead,
    "a loss": Loss,
    "a layer of train mode alone": Scale,
    "three of them": Scales,
    "batch norm": Normed,
    "batch norm without weights": lambda: Normed(affine=False),
    "batch norm, cumulative": lambda: Normed(momentum=None),
    "batch norm without statistics": lambda: Normed(track_running_stats=False),
    "batch norm by hand": NormByHand,
    "batch norm, frozen": FrozenNorm,
    "instance norm with statistics": InstanceNormed,
    "spectral norm": wrapped(nn.utils.spectral_norm),
    "spectral norm, parametrized": wrapped(nn.utils.parametrizations.spectral_norm),
    "weight norm": wrapped(old_weight_norm),
    "images": Convolved,
}


class Drawing(nn.Module):
    """A linear layer, and `draw` of what it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x):
        return self.draw(self.lin(x))


class DropsIfTraining(Drawing):
    def draw(self, h):
        return F.dropout(h, 0.5) if self.training else h


class MonteCarlo(Drawing):
    def draw(self, h):
        return F.dropout(h, 0.5, training=True)


class Noise(Drawing):
    def draw(self, h):
        return h + torch.randn_like(h) * 0.1 if self.training else h


class NoiseAlways(Drawing):
    def draw(self, h):
        return h + torch.randn_like(h) * 0.1


class Gumbel(Drawing):
    def draw(self, h):
        if self.training:
            return F.gumbel_softmax(h, hard=True)
        return F.one_hot(h.argmax(-1), 4).float()


class Layer(Drawing):
    def __init__(self, layer: nn.Module, rank: int = 2) -> None:
        super().__init__()
        self.layer = layer
        self.rank = rank

    def draw(self, h):
        for _ in range(self.rank - 2):
            h = h[..., None].expand(*h.shape, 3)
        return self.layer(h)


class Router(nn.Module):
    """Switch's router: jitter, and a balance that it returns in training (arXiv:2101.03961)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.Parameter(torch.randn(3, 4, 4))

    def forward(self, x):
        if self.training:
            x = x * torch.empty_like(x).uniform_(0.9, 1.1)
        probs = self.gate(x).softmax(-1)
        best, i = probs.max(-1)
        y = torch.einsum("bi,bio->bo", x, self.experts[i]) * best[:, None]
        if self.training:
            return y, (probs.mean(0) * F.one_hot(i, 3).float().mean(0)).sum()
        return y


class Depth(nn.Module):
    """Stochastic depth (arXiv:1603.09382), and another difference after it."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.register_buffer("total", torch.zeros(4))

    def drop(self, x):
        if not self.training:
            return x
        keep = 0.7
        return x.div(keep) * (keep + torch.rand(x.shape[0], 1)).floor_()

    def forward(self, x):
        h = x + self.drop(self.a(x))
        if self.training:
            h = h * 2
            self.total += h.mean(0)
        return x + self.drop(self.b(h))


class BernoulliDepth(Depth):
    def drop(self, x):
        if not self.training:
            return x
        return x * x.new_empty(x.shape[0], 1).bernoulli_(0.7).div_(0.7)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = x[:, None] * torch.arange(1.0, 4.0)[:, None]
        return self.attn(x, x, x)[0]


# Each with whether it draws in eval mode too.
RANDOM: dict[str, tuple[Make, bool]] = {
    "dropout under if": (DropsIfTraining, False),
    "Monte Carlo dropout": (MonteCarlo, True),
    "noise": (Noise, False),
    "noise in both modes": (NoiseAlways, True),
    "gumbel softmax": (Gumbel, False),
    "RReLU": (lambda: Layer(nn.RReLU()), False),
    "Dropout1d": (lambda: Layer(nn.Dropout1d(0.5), 3), False),
    "Dropout2d": (lambda: Layer(nn.Dropout2d(0.5), 4), False),
    "AlphaDropout": (lambda: Layer(nn.AlphaDropout(0.5)), False),
    "FeatureAlphaDropout": (lambda: Layer(nn.FeatureAlphaDropout(0.5), 3), False),
    "a router": (Router, False),
    "stochastic depth": (Depth, False),
    "stochastic depth by bernoulli": (BernoulliDepth, False),
    "attention": (Attends, False),
}
