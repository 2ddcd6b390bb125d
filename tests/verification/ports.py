"""Ports to torch written by hand, with switches for one mistake each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.transform import Permute, Reshape

OI = (Permute((1, 0)),)  # a kernel (in, out) as torch has it
OIHW = (Permute((3, 2, 0, 1)),)  # a kernel (height, width, in, out)


def flat(channels: int) -> tuple[Reshape, ...]:
    """Haiku keeps the axes that its batch norm reduces over."""
    return (Reshape((1, 1, 1, channels), (channels,)),)


def norm_rows(channels: int) -> list[Row]:
    """Rows from a `hk.BatchNorm` to a `HaikuNorm` called norm."""
    steps = flat(channels)
    rows = [Row(f"batch_norm:{n}", f"norm.{n}", steps) for n in ("scale", "offset")]
    for name in ("mean", "var"):
        for part in ("hidden", "average", "counter"):
            source = f"batch_norm/~/{name}_ema:{part}"
            target = f"norm.{name}_{part}"
            own = () if part == "counter" else steps
            rows.append(Row(source, target, own, kind="buffer"))
    return rows


def filled(model: nn.Module, rows: Iterable[Row], arrays: Mapping[str, Any]) -> Any:
    """(`model` in eval mode with the source's arrays, its weight map)."""
    weights = WeightMap(tuple(rows))
    named = {name: np.asarray(array) for name, array in arrays.items()}
    found = {
        name: torch.from_numpy(np.array(array))
        for name, array in weights.forward(named)
    }
    model.load_state_dict(found, strict=False)
    return model.eval(), weights


class Mlp(nn.Module):
    """Two layers; in train mode it also drops, in three ways."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.up = nn.Linear(5, 8)
        self.down = nn.Linear(8, 3)
        self.dropout = nn.Dropout(0.5)
        self.mistake = mistake

    def forward(self, x):
        h = F.gelu(self.up(x), approximate="tanh")
        if self.mistake == "stopped gradient":
            h = h.detach()
        if self.mistake == "doubled gradient":
            h = 2 * h - h.detach()
        if self.mistake == "batch times two":
            h = h * (x.shape[0] / 4)
        if self.mistake == "baked batch":
            h = h.reshape(4, 8)
        if self.mistake == "an error":
            h = h @ h
        y = self.down(h)
        best = y.argmax(-1)
        return {"y": y, "best": best if self.mistake == "int64" else best.int()}


class HaikuNorm(nn.Module):
    """`hk.BatchNorm`: averages that are free of the bias of their start."""

    def __init__(self, channels: int, mistake: str = "") -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.offset = nn.Parameter(torch.zeros(channels))
        for name in ("mean", "var"):
            self.register_buffer(f"{name}_hidden", torch.zeros(channels))
            self.register_buffer(f"{name}_average", torch.zeros(channels))
            self.register_buffer(f"{name}_counter", torch.zeros((), dtype=torch.int32))
        self.mistake = mistake

    def forward(self, x):
        mean, var = self.mean_average, self.var_average
        if self.training:
            mean = x.mean((0, 2, 3))
            var = x.var((0, 2, 3), unbiased=self.mistake == "unbiased variance")
            self.update("mean", mean.detach())
            self.update("var", var.detach())
        inverse = self.scale * torch.rsqrt(var + 1e-5)
        return (x - mean[:, None, None]) * inverse[:, None, None] + self.offset[
            :, None, None
        ]

    def update(self, name: str, value: torch.Tensor) -> None:
        if self.mistake == "statistics never updated":
            return
        decay = 0.1 if self.mistake == "decay is not 1 - decay" else 0.9
        counter = self.get_buffer(f"{name}_counter").add_(1)
        hidden = self.get_buffer(f"{name}_hidden")
        hidden.mul_(decay).add_(value * (1 - decay))
        biased = self.mistake == "biased average"
        debias = 1 if biased else 1 - decay ** counter.double()
        # A port may assign its buffers as well as write to them.
        setattr(self, f"{name}_average", (hidden / debias).to(hidden.dtype))


class Norm(nn.BatchNorm2d):
    """Flax's: the running variance is that of the batch itself."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        with torch.no_grad():
            self.running_mean.lerp_(mean, 0.1)
            self.running_var.lerp_(var, 0.1)
        y = (x - mean[:, None, None]) * torch.rsqrt(var + self.eps)[:, None, None]
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class ConvNet(nn.Module):
    """A convolution, batch norm, and a classifier of what dropout leaves of it."""

    def __init__(self, norm: nn.Module, mistake: str = "") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = norm
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)
        self.mistake = mistake

    def forward(self, x):
        h = F.relu(self.norm(self.conv(x.permute(0, 3, 1, 2)))).mean((2, 3))
        if self.mistake == "inline dropout":
            return self.head(F.dropout(h, 0.5, self.training))
        return self.head(self.dropout(h))


class Renamed(nn.Module):
    """What `tests.verification.models.Conv` computes, under other names."""

    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        momentum = 0.7 if mistake == "momentum is not 1 - momentum" else 0.3
        first = Norm if mistake == "biased variance" else nn.BatchNorm2d
        self.convs = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1)])
        self.convs.append(nn.Conv2d(8, 12, 3, stride=2))
        self.norms = nn.ModuleList([first(8), nn.BatchNorm2d(12, momentum=momentum)])
        self.classifier = nn.Linear(12, 5)
        self.mistake = mistake

    def forward(self, x):
        h = F.relu(self.norms[0](self.convs[0](x)))
        if self.mistake == "stopped gradient":
            h = h.detach()
        if self.mistake == "batch times two":
            h = h * (x.shape[0] / 2)
        if self.mistake == "an error":
            h = self.convs[1](h) @ h
        h = F.relu(self.norms[1](self.convs[1](h))).mean((2, 3))
        drop = self.training or self.mistake == "dropout in eval mode"
        return self.classifier(F.dropout(h, 0.5, drop))


RENAMED = {
    "conv1": "convs.0",
    "conv2": "convs.1",
    "norm1": "norms.0",
    "norm2": "norms.1",
    "head": "classifier",
}


def renamed_rows(source: nn.Module) -> list[Row]:
    """Rows from `models.Conv` to `Renamed`."""
    rows = []
    parameters = dict(source.named_parameters())
    for name in source.state_dict():
        module, _, leaf = name.partition(".")
        kind = "parameter" if name in parameters else "buffer"
        rows.append(Row(name, f"{RENAMED[module]}.{leaf}", kind=kind))
    return rows
