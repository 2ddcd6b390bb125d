"""Small torch models, each of a kind that a form of modules has to have an answer to."""

from __future__ import annotations

import torch
from torch import nn


class Lora(nn.Module):
    """A frozen layer beside two factors that train, and a frozen tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 8)
        self.base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(8, 2))
        self.b = nn.Parameter(torch.randn(2, 8))
        self.shift = nn.Parameter(torch.randn(8), requires_grad=False)

    def forward(self, x):
        return self.base(x) + x @ self.a @ self.b + self.shift


class Adapted(nn.Module):
    """Three of these, the first one frozen as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Lora() for _ in range(3))
        self.layers[0].requires_grad_(False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Average(nn.Module):
    """Writes a moving average and a counter in train mode, and reads the average."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        y = self.linear(x)
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * y.mean(0).detach())
            self.count += 1
        return y - self.mean


class Noisy(nn.Module):
    """Drops in eval mode too, and adds noise in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        y = nn.functional.dropout(self.linear(x), 0.3, training=True)
        return y + torch.randn_like(y) if self.training else y


class Tied(nn.Module):
    """One table for words in and out; its padding row gets no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8, padding_idx=0)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Dropout(0.5))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.body(self.embed(ids)))


class Recurrent(nn.Module):
    """A bidirectional LSTM, whose loop reads the module's own weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        self.out = nn.Linear(12, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


class Images(nn.Module):
    """Convolutions and pools, statistics without scale, a spectral norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1, groups=1)
        self.norm = nn.BatchNorm2d(4, affine=False)
        self.pool = nn.MaxPool2d(2)
        self.out = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 2))

    def forward(self, x):
        return self.out(self.pool(self.norm(self.conv(x))).flatten(1))


class Twice(nn.Module):
    """One batch norm under two names, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.again = self.norm

    def forward(self, x):
        return self.again(self.norm(x))


MODELS = {
    "twice": (Twice, lambda: torch.randn(3, 4)),
    "frozen": (Adapted, lambda: torch.randn(2, 8)),
    "written": (Average, lambda: torch.randn(3, 4)),
    "noisy": (Noisy, lambda: torch.randn(3, 4)),
    "tied": (Tied, lambda: torch.randint(0, 11, (2, 5))),
    "recurrent": (Recurrent, lambda: torch.randn(3, 5, 4)),
    "images": (Images, lambda: torch.randn(2, 3, 8, 8)),
}
