"""Small torch modules, each with something that ports of real models stumble over."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Functional(nn.Module):
    """A Sequential with functional calls around it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 10), nn.ReLU(), nn.Dropout(0.2), nn.Linear(10, 4)
        )

    def forward(self, x):
        return F.log_softmax(F.gelu(self.layers(x)) * 2.0 - 0.5, dim=-1)


class Dictionary(nn.Module):
    """Children in a ModuleDict, called in another order than they are registered."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {"second": nn.Linear(5, 3), "first": nn.Linear(6, 5), "act": nn.Tanh()}
        )

    def forward(self, x):
        return self.parts["second"](self.parts["act"](self.parts["first"](x)))


class Nested(nn.Module):
    """Lists in lists, of unequal lengths and sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Linear(6 + s, 6 + s) for _ in range(s + 1))
            for s in range(3)
        )
        self.ups = nn.ModuleList(nn.Linear(6 + s, 7 + s) for s in range(2))

    def forward(self, x):
        for index, stage in enumerate(self.stages):
            for layer in stage:
                x = x + torch.tanh(layer(x))
            if index < 2:
                x = self.ups[index](x)
        return x


class Custom(nn.Module):
    """A parameter, a buffer and a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(6))
        self.matrix = nn.Parameter(torch.randn(6, 3))
        self.register_buffer("offset", torch.randn(3))
        self.register_buffer("table", torch.randn(3), persistent=False)
        self.power = 1.5

    def forward(self, x):
        return (x * self.scale) @ self.matrix * self.power + self.offset - self.table


class FunctionalDropout(nn.Module):
    """`F.dropout`, which follows the mode of the module that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        return F.dropout(self.linear(x), 0.25, self.training)


class InPlace(nn.Module):
    """Operations that write into their operand, and into views of it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        y = self.linear(x)
        y.relu_()
        y += 1
        y.mul_(2.0)
        y[:, 0].zero_()
        y[:, 1:3].add_(x[:, 1:3])
        return y.clamp_(max=5.0)


class SliceAssignment(nn.Module):
    """A buffer that is filled piece by piece."""

    def forward(self, x):
        out = torch.zeros_like(x)
        out[:, 1:] = x[:, :-1] * 2
        out[:, 0] = 7.0
        out[..., -1] = x.sum(-1)
        return out


class Where(nn.Module):
    """Masks by `torch.where` and `masked_fill`, with infinities that must not spread."""

    def forward(self, x, mask):
        scores = torch.where(mask, x, torch.tensor(float("-inf")))
        probs = scores.masked_fill(~mask, -1e9).softmax(-1)
        return torch.where(mask, probs, 0.0), scores


class Twice(nn.Module):
    """One layer called with two shapes, and a second time on its own result."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        whole = self.layer(x)
        return self.layer(whole) + self.layer(x.mean(1))[:, None]


class BlockTwice(nn.Module):
    """A block with a branch on a Python flag, called with both."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)
            self.b = nn.Linear(6, 6)

        def forward(self, x, residual: bool):
            y = self.b(torch.relu(self.a(x)))
            return x + y if residual else y

    def __init__(self) -> None:
        super().__init__()
        self.block = self.Block()

    def forward(self, x):
        return self.block(self.block(x, True), False)


class Swapped(nn.Module):
    """Variables that are overwritten while their old values are still needed."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        a, b = x, x * 2
        for layer in self.layers:
            a, b = b, layer(a)
            x = a + b
            a = a * x
        return a, b, x


class Heads(nn.Module):
    """Attention written out, with a causal mask made from the length."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.out = nn.Linear(8, 8)
        self.heads = 2

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q, k, v = (
            t.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for t in (q, k, v)
        )
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        mask = torch.ones(length, length, dtype=torch.bool).tril()
        probs = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return self.out((probs @ v).transpose(1, 2).reshape(batch, length, width))


class Structure(nn.Module):
    """Outputs in a dictionary with lists, tuples and None."""

    def forward(self, x):
        return {
            "last": x + 1,
            "none": None,
            "parts": [x[:, 0], (x * 2, None)],
            "name": "structure",
            "count": 3,
        }


class Images(nn.Module):
    """Convolutions, pooling, batch norm, a flatten: what depends on the layout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.point = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(5 * 4, 7)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        x = F.adaptive_avg_pool2d(self.point(self.depth(x)), 2)
        return self.head(x.flatten(1)), x.amax((2, 3))


class Grids(nn.Module):
    """NCHW to tokens and back, as Swin and ConvNeXt do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.gate = nn.Linear(6, 6)
        self.last = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x):
        x = self.embed(x)
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.gate(self.norm(tokens)).softmax(1)
        grid = tokens.transpose(1, 2).reshape(batch, channels, height, width)
        return self.last(torch.cat([grid[:, :3], x[:, 3:]], 1)), tokens


class Strange(nn.Module):
    """Attribute names that are words of Python or of the emitted class."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("class", "self", "rngs", "config", "jnp", "x", "def_"):
            self.add_module(name, nn.Linear(6, 6))
        self.register_parameter("lambda", nn.Parameter(torch.randn(6)))
        self.register_parameter("nnx", nn.Parameter(torch.randn(6)))

    def forward(self, input, mask):
        for module in self.children():
            input = module(input) + mask
        return input * getattr(self, "lambda") + self.nnx


def _x(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator)


def _mask(*shape: int) -> torch.Tensor:
    mask = _x(*shape) > -0.3
    mask[..., 0] = True
    return mask


# A class, inputs to trace with, and inputs of another batch size.
PLAIN: dict[str, tuple[type[nn.Module], dict[str, Any], dict[str, Any]]] = {
    "Functional": (Functional, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Dictionary": (Dictionary, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Nested": (Nested, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Custom": (Custom, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "FunctionalDropout": (FunctionalDropout, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "InPlace": (InPlace, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "SliceAssignment": (SliceAssignment, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Where": (
        Where,
        {"x": _x(2, 6), "mask": _mask(2, 6)},
        {"x": _x(5, 6), "mask": _mask(5, 6)},
    ),
    "Twice": (Twice, {"x": _x(2, 4, 6)}, {"x": _x(5, 4, 6)}),
    "BlockTwice": (BlockTwice, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Swapped": (Swapped, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Heads": (Heads, {"x": _x(2, 5, 8)}, {"x": _x(4, 5, 8)}),
    "Structure": (Structure, {"x": _x(2, 6)}, {"x": _x(5, 6)}),
    "Images": (Images, {"x": _x(2, 3, 15, 15)}, {"x": _x(3, 3, 15, 15)}),
    "Grids": (Grids, {"x": _x(2, 3, 8, 12)}, {"x": _x(3, 3, 8, 12)}),
    "Strange": (
        Strange,
        {"input": _x(2, 6), "mask": _x(2, 6)},
        {"input": _x(5, 6), "mask": _x(5, 6)},
    ),
}


def seeded(make: Any, *args: Any) -> nn.Module:
    """A module with the same weights each time, in eval mode."""
    torch.manual_seed(0)
    return make(*args).eval()
