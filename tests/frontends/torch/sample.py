"""What a sample of torch code is: a function, its inputs, its symbolic axes."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import torch

A = torch.ops.aten
F = torch.nn.functional

Size = int | str
Sizes = dict[str, int]
Draw = tuple[str, tuple[Size, ...], str]

# Sizes of the symbols in the trace, and others at which the result must hold as well.
TRACED: Sizes = {"B": 3, "S": 6}
OTHER: Sizes = {"B": 5, "S": 9}


@dataclasses.dataclass(frozen=True)
class Input:
    """One tensor: its shape, where a string is a symbolic axis, and its elements."""

    shape: tuple[Size, ...]
    make: Callable[[torch.Generator, tuple[int, ...]], torch.Tensor]

    def tensor(self, generator: torch.Generator, sizes: Sizes) -> torch.Tensor:
        """The tensor for these sizes."""
        shape = tuple(sizes[s] if isinstance(s, str) else s for s in self.shape)
        return self.make(generator, shape)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One row.

    `ops` are the operations expected in the graph, in order (None: not checked);
    `refuses` is part of the message of the `GraphError` that is due; `random` marks
    what draws numbers, so that values cannot be compared; `draws` are the operation,
    shape and dtype of each draw, in order; `rtol` bounds the relative error.
    """

    name: str
    fn: Callable[..., Any]
    inputs: tuple[Input, ...]
    ops: tuple[str, ...] | None = None
    refuses: str = ""
    random: bool = False
    draws: tuple[Draw, ...] = ()
    rtol: float = 1e-5

    def tensors(self, sizes: Sizes) -> tuple[torch.Tensor, ...]:
        """The inputs for these sizes; equal from call to call."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()))
        return tuple(x.tensor(generator, sizes) for x in self.inputs)

    def dynamic(self) -> tuple[dict[int, str], ...]:
        """For each input, the names of its symbolic axes."""
        return tuple(
            {axis: s for axis, s in enumerate(x.shape) if isinstance(s, str)}
            for x in self.inputs
        )


def row(name: str, fn: Callable[..., Any], *inputs: Input, **options: Any) -> Sample:
    """A sample; `ops` may be one string of names."""
    ops = options.pop("ops", None)
    if isinstance(ops, str):
        ops = tuple(ops.split())
    return Sample(name, fn, inputs, ops=ops, **options)


def normal(*shape: Size, dtype: torch.dtype = torch.float32) -> Input:
    """Normal floats."""
    return Input(
        shape, lambda g, s: torch.randn(s, generator=g, dtype=torch.float32).to(dtype)
    )


def uniform(low: float, high: float, *shape: Size) -> Input:
    """Uniform floats between two bounds."""
    return Input(shape, lambda g, s: low + (high - low) * torch.rand(s, generator=g))


def spaced(*shape: Size) -> Input:
    """Floats that all differ, for order statistics."""

    def make(g: torch.Generator, s: tuple[int, ...]) -> torch.Tensor:
        count = torch.Size(s).numel()
        return torch.linspace(-2, 2, count)[torch.randperm(count, generator=g)].view(s)

    return Input(shape, make)


def ints(
    high: int, *shape: Size, low: int = 0, dtype: torch.dtype = torch.int64
) -> Input:
    """Integers from `low` to below `high`."""
    return Input(shape, lambda g, s: torch.randint(low, high, s, generator=g).to(dtype))


def truth(*shape: Size) -> Input:
    """Booleans."""
    return Input(shape, lambda g, s: torch.rand(s, generator=g) < 0.6)


def given(*values: Any, dtype: torch.dtype | None = None) -> Input:
    """A vector of exactly these elements."""
    tensor = torch.tensor(values, dtype=dtype)
    return Input(tuple(tensor.shape), lambda g, s: tensor.clone())


def scalar(value: Any, dtype: torch.dtype | None = None) -> Input:
    """A tensor without axes."""
    return Input((), lambda g, s: torch.tensor(value, dtype=dtype))


def permuted(size: int, *shape: Size) -> Input:
    """int64 indices below `size` that do not repeat along the last axis."""

    def make(g: torch.Generator, s: tuple[int, ...]) -> torch.Tensor:
        return torch.rand((*s[:-1], size), generator=g).argsort(-1)[..., : s[-1]]

    return Input(shape, make)
