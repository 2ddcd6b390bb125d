"""Rules for images of `ivyport.core.ops_nn`: convolutions, pooling, resizing.

torch's functions have the channels on axis 1. The layout pass makes that so beforehand;
other operands are moved there and back.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, rule_table
from ivyport.backends.spelling import is_hole, present, unless
from ivyport.backends.torch.spell import (
    alike,
    back,
    channels_first,
    flat_padding,
    spatial,
    symmetric,
)
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ops_nn import Pads

RULES, emits = rule_table()

INTERPOLATION = {
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
    ("cubic", 2): "bicubic",
}


def _padded(
    e: Exprs, x: ast.expr, padding: Pads, value: Any = OMIT
) -> tuple[ast.expr, Any]:
    """x, padded beforehand where the layer cannot; the layer's own padding."""
    if symmetric(padding):
        return x, unless(alike([lo for lo, _ in padding]), 0)
    return e.call("F.pad", x, flat_padding(padding), value=value), OMIT


@emits("conv")
def conv(
    e: Exprs,
    x: ast.expr,
    weight: ast.expr,
    bias: ast.expr | None,
    *,
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    groups: int,
    layout: str,
) -> ast.expr:
    x, edges = _padded(e, channels_first(e, x, layout), padding)
    y = e.call(
        spatial(e, "conv"),
        x,
        weight,
        present(bias),
        stride=unless(alike(stride), 1),
        padding=edges,
        dilation=unless(alike(dilation), 1),
        groups=unless(groups, 1),
    )
    return back(e, y, layout)


@emits("conv_transpose")
def conv_transpose(
    e: Exprs,
    x: ast.expr,
    weight: ast.expr,
    bias: ast.expr | None,
    *,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    output_padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    layout: str,
) -> ast.expr:
    y = e.call(
        spatial(e, "conv_transpose"),
        channels_first(e, x, layout),
        weight,
        present(bias),
        stride=unless(alike(stride), 1),
        padding=unless(alike(padding), 0),
        output_padding=unless(alike(output_padding), 0),
        groups=unless(groups, 1),
        dilation=unless(alike(dilation), 1),
    )
    return back(e, y, layout)


@emits("unfold")
def unfold(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> ast.expr:
    return e.call(
        "F.unfold",
        x,
        alike(kernel),
        dilation=unless(alike(dilation), 1),
        padding=unless(alike(padding), 0),
        stride=unless(alike(stride), 1),
    )


# ---- pooling and resizing


def _pool_padding(
    e: Exprs, x: ast.expr, kernel: tuple[int, ...], padding: Pads, value: Any
) -> tuple[ast.expr, Any]:
    """Like `_padded`; a layer pads by half a window at most, and alike on both sides."""
    small = all(2 * max(pair) <= k for pair, k in zip(padding, kernel, strict=True))
    if symmetric(padding) and small:
        return x, unless(alike([lo for lo, _ in padding]), 0)
    return e.call("F.pad", x, flat_padding(padding), value=value), OMIT


def _demand_plain_ceil(e: Exprs, edges: Any, padding: Pads, ceil_mode: bool) -> None:
    """With `ceil_mode` the layer must know which elements are padding."""
    if ceil_mode and edges is OMIT and any(map(any, padding)):
        raise GraphError(f"{e.node.op} with ceil_mode and padding {padding}")


@emits("max_pool")
def max_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    dilation: tuple[int, ...],
    ceil_mode: bool,
    layout: str,
) -> ast.expr:
    x = channels_first(e, x, layout)
    x, edges = _pool_padding(e, x, kernel, padding, float("-inf"))
    _demand_plain_ceil(e, edges, padding, ceil_mode)
    y = e.call(
        spatial(e, "max_pool"),
        x,
        alike(kernel),
        unless(alike(stride), alike(kernel)),
        padding=edges,
        dilation=unless(alike(dilation), 1),
        ceil_mode=unless(ceil_mode, False),
    )
    return back(e, y, layout)


@emits("avg_pool")
def avg_pool(
    e: Exprs,
    x: ast.expr,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    ceil_mode: bool,
    count_include_pad: bool,
    layout: str,
) -> ast.expr:
    x = channels_first(e, x, layout)
    unpadded = x
    x, edges = _pool_padding(e, x, kernel, padding, OMIT)
    _demand_plain_ceil(e, edges, padding, ceil_mode)
    if x is not unpadded and not count_include_pad:
        y = e.rt("mean_pool", unpadded, kernel, stride, flat_padding(padding))
        return back(e, y, layout)
    y = e.call(
        spatial(e, "avg_pool"),
        x,
        alike(kernel),
        unless(alike(stride), alike(kernel)),
        padding=edges,
        ceil_mode=unless(ceil_mode, False),
        count_include_pad=OMIT if edges is OMIT else unless(count_include_pad, True),
    )
    return back(e, y, layout)


@emits("adaptive_avg_pool")
def adaptive_avg_pool(
    e: Exprs, x: ast.expr, *, output_size: tuple[int, ...], layout: str
) -> ast.expr:
    function = spatial(e, "adaptive_avg_pool")
    y = e.call(function, channels_first(e, x, layout), alike(output_size))
    return back(e, y, layout)


@emits("interpolate")
def interpolate(
    e: Exprs,
    x: ast.expr,
    *,
    size: tuple[DimLike, ...],
    mode: str,
    align_corners: bool,
    antialias: bool,
    scales: tuple[float, ...] | None,
    layout: str,
) -> ast.expr:
    key = (mode, len(size))
    if not mode.startswith("nearest") and key not in INTERPOLATION:
        raise GraphError(f"interpolate: torch has no {mode} over {len(size)} axes")
    scaled = scales is not None or is_hole(scales)
    y = e.call(
        "F.interpolate",
        channels_first(e, x, layout),
        size=OMIT if scaled else tuple(size),
        scale_factor=alike(scales) if scales is not None else OMIT,
        mode=unless(INTERPOLATION.get(key, mode), "nearest"),
        align_corners=unless(align_corners, False),
        antialias=unless(antialias, False),
    )
    return back(e, y, layout)


@emits("grid_sample")
def grid_sample(
    e: Exprs,
    x: ast.expr,
    grid: ast.expr,
    *,
    mode: str,
    padding: str,
    align_corners: bool,
) -> ast.expr:
    return e.call(
        "F.grid_sample",
        x,
        grid,
        mode=unless(mode, "bilinear"),
        padding_mode=unless(padding, "zeros"),
        align_corners=align_corners,
    )
