"""Rows of indices out of bounds: what they read is filled, what they write is dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from tests.ops.sample import Input, S, Sample, f32, given, ints

OUT = given([1, -1, 6, -7, 0, 1], "int64")  # of an axis of 6: two are outside
HERE = torch.tensor([0, 1, 4, 5])
SEEN = torch.tensor([1, 5, 0, 1])  # what those count as


def _fill(
    op: str,
    label: str,
    reference: Callable[[torch.Tensor], torch.Tensor],
    x: Input,
    *operands: Input,
    build: Callable[..., Any],
) -> Sample:
    inputs = (x, *operands)
    return Sample(op, inputs, build, lambda x, *i: reference(x), label)


def _rows(x: torch.Tensor, fill: float) -> torch.Tensor:
    found = torch.full((6, *x.shape[1:]), fill, dtype=x.dtype)
    return found.index_put((HERE,), x[SEEN])


def _columns(x: torch.Tensor, fill: float) -> torch.Tensor:
    return _rows(x.T, fill).T


def _pairs(x: torch.Tensor) -> torch.Tensor:
    found = torch.full((6,), math.nan)
    return found.index_put((HERE[1:],), x[SEEN[1:], torch.tensor([2, 1, 0])])


READS = [
    _fill("take", "filled", lambda x: _rows(x, math.nan), f32(6, S), OUT,
          build=lambda b, x, i: b.take(x, i, axis=0, fill=math.nan)),
    _fill("take", "filled_by_number", lambda x: _columns(x, 2.5), f32(S, 6), OUT,
          build=lambda b, x, i: b.take(x, i, axis=1, fill=2.5)),
    _fill("take", "filled_integers", lambda x: _rows(x, -1),
          ints(9, 6, S, dtype="int32"), OUT,
          build=lambda b, x, i: b.take(x, i, axis=0, fill=-1)),
    _fill("index", "filled", _pairs, f32(6, 3), OUT,
          given([9, -1, 0, 0, 1, 0], "int64"),
          build=lambda b, x, i, j: b.index(x, i, j, fill=math.nan)),
    _fill("index", "filled_middle",
          lambda x: torch.stack([_rows(y, 0.0) for y in x]), f32(S, 6, 3), OUT,
          build=lambda b, x, i: b.index(x, None, i, fill=0.0)),
    Sample(
        "take_along_axis",
        (f32(1, 6), given([[1, -1, 6, -7, 0, 1]], "int64")),
        lambda b, x, i: b.take_along_axis(x, i, axis=1, fill=math.nan),
        lambda x, i: _columns(x, math.nan),
        "filled",
    ),
]  # fmt: skip


def _written(
    op: str, label: str, how: str, x: Input, v: Input | float, at: Input = OUT,
    **options: Any,
) -> Sample:  # fmt: skip
    """Row by row, in a loop: those of `OUT` that are within."""

    def reference(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        values = rest[0] if isinstance(v, Input) else torch.full((6,), v)
        rows = list(x)
        for index, value in zip(rest[-1].tolist(), values, strict=True):
            if not -6 <= index < 6:
                continue
            held = rows[index]
            value = value.to(x.dtype).expand(held.shape)
            rows[index] = {
                "set": lambda a, b: b, "add": torch.add, "mul": torch.mul,
                "max": torch.maximum, "min": torch.minimum,
            }[how](held, value)  # fmt: skip
        return torch.stack(rows)

    def build(b: Any, x: Any, *rest: Any) -> Any:
        value = rest[0] if isinstance(v, Input) else v
        if op == "index_update":
            return b.index_update(
                x, value, rest[-1], accumulate=how == "add", drop=True
            )
        return b.index_reduce(x, value, rest[-1], mode=how, drop=True)

    inputs = (x, v, at) if isinstance(v, Input) else (x, at)
    return Sample(op, inputs, build, reference, f"{label}_{how}", **options)


ONCE = given([1, -1, 6, -7, 0, 2], "int64")
PLAIN = {"differentiable": False}  # JAX has no gradient of these for repeated indices
WRITES = [
    _written("index_update", "dropped", "set", f32(6, S), f32(6, S), ONCE),
    _written("index_update", "dropped_number", "set", f32(6, S), 2.5, ONCE),
    _written("index_update", "dropped", "add", f32(6, S), f32(6, S)),
    _written("index_update", "dropped_vector", "add", f32(6), f32(6)),
    _written("index_update", "dropped_integers", "add", ints(9, 6, S), 1),
    _written("index_reduce", "dropped", "mul", f32(6, S), f32(6, S), **PLAIN),
    _written("index_reduce", "dropped", "max", f32(6, S), f32(6, S), **PLAIN),
    _written("index_reduce", "dropped", "min", f32(6, S), f32(6, S), **PLAIN),
]

ROWS = [*READS, *WRITES]
