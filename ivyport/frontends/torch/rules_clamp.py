"""Operations of torch that keep elements within bounds."""

from __future__ import annotations

from typing import Any

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.ir import Value
from ivyport.frontends.torch.promote import Number, number_as, result_type
from ivyport.frontends.torch.registry import lowers
from ivyport.frontends.torch.rules_array import binary

aten = torch.ops.aten


@lowers(aten.clamp.default, aten.clip.default)
def clamp(b: Builder, input: Value, min: Any = None, max: Any = None) -> Value:
    """x within [min, max]."""
    bounds = [x for x in (min, max) if x is not None]
    dtype = result_type(input, *bounds)
    low, high = (None if x is None else number_as(x, dtype) for x in (min, max))
    return b.clip(b.cast(input, dtype), min=low, max=high)


@lowers(aten.clamp.Tensor, aten.clip.Tensor)
def clamp_tensor(
    b: Builder, input: Value, min: Value | None = None, max: Value | None = None
) -> Value:
    """x within tensors of bounds."""
    x = input
    for op, bound in (("maximum", min), ("minimum", max)):
        if bound is not None:
            x = _within(b, op, x, bound)
    return x


def _within(b: Builder, op: str, x: Value, bound: Value) -> Value:
    """The larger or smaller of both; x has the gradient where they are equal."""
    found = binary(b, op, x, bound)
    if not dt.is_float(found.type.dtype):
        return found
    x = b.expand(b.cast(x, found.type.dtype), found.type.shape)
    return b.where(b.equal(x, b.cast(bound, found.type.dtype)), x, found)


@lowers(aten.clamp_min.default)
def clamp_min(b: Builder, input: Value, min: Number) -> Value:
    """max(x, min)."""
    return clamp(b, input, min=min)


@lowers(aten.clamp_max.default)
def clamp_max(b: Builder, input: Value, max: Number) -> Value:
    """min(x, max)."""
    return clamp(b, input, max=max)


@lowers(aten.hardtanh.default)
def hardtanh(
    b: Builder, input: Value, min_val: Number = -1, max_val: Number = 1
) -> Value:
    """x within [min_val, max_val]."""
    dtype = input.type.dtype
    if (min_val, max_val) == (0, 6) and dt.is_float(dtype):
        return b.relu6(input)
    low, high = number_as(min_val, dtype), number_as(max_val, dtype)
    return b.clip(input, min=low, max=high, edge="none")


@lowers(aten.relu6.default)
def relu6(b: Builder, input: Value) -> Value:
    """x within [0, 6]."""
    return hardtanh(b, input, 0, 6)


@lowers(aten.clamp_min.Tensor)
def clamp_min_tensor(b: Builder, input: Value, min: Value) -> Value:
    """max(x, min)."""
    return clamp_tensor(b, input, min=min)


@lowers(aten.clamp_max.Tensor)
def clamp_max_tensor(b: Builder, input: Value, max: Value) -> Value:
    """min(x, max)."""
    return clamp_tensor(b, input, max=max)
