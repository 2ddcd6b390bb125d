"""Models whose calls take more than tensors: structures, `*args`, constants."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

import torch
from torch import nn


class Mode(enum.Enum):
    MEAN = "mean"
    SUM = "sum"


class Batch(NamedTuple):
    x: Any
    mask: Any = None
    step: int = 3


@dataclasses.dataclass
class Graph:
    nodes: Any
    edges: Any
    kind: str = "plain"


class Switched(nn.Module):
    """Constants of several kinds, given by name."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(
        self,
        x: Any,
        use_cache: bool = True,
        return_dict: bool | None = None,
        reduction: Mode = Mode.SUM,
        scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
        shifts: tuple[int, ...] = (),
    ) -> Any:
        y = self.proj(x) * scale + sum(shifts)
        y = y.mean(-1) if reduction is Mode.MEAN else y.sum(-1)
        return {"y": y.to(dtype)} if return_dict else (y, use_cache)


class Positional(nn.Module):
    """A constant between tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, input: Any, types: Any = None, mask: Any = None) -> Any:
        return self.proj(input) * mask


class Cell(nn.Module):
    """A recurrent cell that returns its state as it takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.recurrent = nn.Linear(4, 4)

    def forward(self, x: Any, state: Any) -> Any:
        h, c = state
        c = torch.tanh(self.inner(x) + self.recurrent(h)) + 0.5 * c
        h = torch.tanh(c)
        return h, (h, c)


class DictCell(Cell):
    def forward(self, x: Any, state: dict[str, Any]) -> Any:
        y, (h, c) = super().forward(x, (state["h"], state["c"]))
        return y, {"h": h, "c": c}


class RecordCell(Cell):
    def forward(self, x: Any, state: Any) -> Any:
        y, (h, c) = super().forward(x, (state.nodes, state.edges))
        return y, Graph(h, c)


class Pyramid(nn.Module):
    """A list, a nested dict with a constant and a hole, a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, feats: list[Any], extra: dict[str, Any], batch: Batch) -> Any:
        x = self.proj(feats[0]) + feats[1] * extra["scale"]
        x = x - extra["parts"][1]
        return x * batch.step + batch.x


class Variadic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(4, 4)

    def forward(self, first: Any, *rest: Any, scale: float = 1.0, **others: Any) -> Any:
        y = self.proj(first)
        for x in rest:
            y = y - 2 * x
        return y * scale + others["offset"]


class Masked(nn.Module):
    """The row of the cases: in-place writes to a copy of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, 4, affine=False)

    def forward(self, x: Any) -> Any:
        y = x.clone()
        y[:, 0] = 0
        return y, self.norm(x)


def seeded(cls: type[nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cls().eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (3, 4)))


def converted(value: Any, leaf: Any) -> Any:
    """The same structure with `leaf(tensor)` for each tensor."""
    if torch.is_tensor(value):
        return leaf(value)
    if isinstance(value, Graph):
        return Graph(*(converted(v, leaf) for v in vars(value).values()))
    if isinstance(value, Batch):
        return Batch(*(converted(v, leaf) for v in value))
    if isinstance(value, dict):
        return {k: converted(v, leaf) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(converted(v, leaf) for v in value)
    return value
