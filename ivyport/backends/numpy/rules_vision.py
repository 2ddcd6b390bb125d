"""Rules for images of `ivyport.core.ops_nn`: convolutions, pooling, resizing.

The helpers have the channels on the last axis, so that a window is a row of a matrix. The
layout pass makes that so beforehand; other operands are moved there and back.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, rule_table
from ivyport.backends.spelling import last_windows, unless
from ivyport.core.ops_nn import Pads, channel_axis

RULES, emits = rule_table()


def last(e: Exprs, x: ast.expr, layout: str) -> ast.expr:
    """An image with its channels on the last axis."""
    first = channel_axis(layout, e.type(0).rank) == 1 and e.type(0).rank > 2
    return e.call("np.moveaxis", x, 1, -1) if first else x


def back(e: Exprs, y: ast.expr, layout: str) -> ast.expr:
    """The inverse of `last`, for the result."""
    first = channel_axis(layout, e.out.rank) == 1 and e.out.rank > 2
    return e.call("np.moveaxis", y, -1, 1) if first else y


def _no_padding(kernel: tuple[int, ...]) -> Pads:
    return ((0, 0),) * len(kernel)


def _biased(e: Exprs, y: ast.expr, bias: ast.expr | None) -> ast.expr:
    return y if bias is None else e.binary("+", y, bias)


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
    ones = (1,) * len(stride)
    y = e.rt(
        "conv",
        last(e, x, layout),
        e.call("np.moveaxis", weight, 1, -1),
        stride=unless(stride, ones),
        padding=unless(tuple(map(tuple, padding)), _no_padding(stride)),
        dilation=unless(dilation, ones),
        groups=unless(groups, 1),
    )
    return back(e, _biased(e, y, bias), layout)


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
    y = e.rt(
        "conv_transpose",
        last(e, x, layout),
        weight,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=unless(groups, 1),
    )
    return back(e, _biased(e, y, bias), layout)


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
    return e.rt("unfold", x, kernel, stride, padding, dilation)


# ---- pooling and resizing


def _extended(padding: Pads, extra: list[Any]) -> Any:
    pairs = zip(padding, extra, strict=True)
    return tuple((lo, hi + more) for (lo, hi), more in pairs)


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
    if ceil_mode:
        extra = last_windows(e, kernel, stride, padding, dilation, layout)
        padding = _extended(padding, extra)
    y = e.rt(
        "max_pool",
        last(e, x, layout),
        kernel,
        stride,
        unless(tuple(map(tuple, padding)), _no_padding(kernel)),
        dilation=unless(dilation, (1,) * len(kernel)),
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
    none, beyond = _no_padding(kernel), _no_padding(kernel)
    if ceil_mode:
        ones = (1,) * len(kernel)
        extra = last_windows(e, kernel, stride, padding, ones, layout)
        beyond = _extended(none, extra)
    if unless(padding, none) is OMIT:
        count_include_pad = True
    y = e.rt(
        "avg_pool",
        last(e, x, layout),
        kernel,
        stride,
        unless(tuple(map(tuple, padding)), none),
        beyond=unless(beyond, none),
        count_include_pad=unless(count_include_pad, True),
    )
    return back(e, y, layout)
