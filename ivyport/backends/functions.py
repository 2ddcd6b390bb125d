"""Rules of operations that several languages write with a function of one name.

It is a function of the array library (``jnp.where``, ``np.where``) or a helper of the language's
`_rt`. Each package of a language puts its own rules over these.
"""

# ruff: noqa: D103 (a rule means what its operation means)

from __future__ import annotations

import ast

from ivyport.backends.pyast import OMIT, Exprs, rule_table
from ivyport.backends.spelling import axes, one_axis, other_axes, permuted, unless
from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.ops_nn import spatial_axes

RULES, emits = rule_table()


@emits("floor", "ceil", "round", "trunc")
def rounding(e: Exprs, x: ast.expr) -> ast.expr:
    return e.library(f"{e.node.op}", x) if dt.is_float(e.out.dtype) else x


@emits("where")
def where(e: Exprs, condition: ast.expr, x: ast.expr, y: ast.expr) -> ast.expr:
    return e.library("where", condition, x, y)


@emits("cholesky", "inv", "det", "slogdet")
def of_matrix(e: Exprs, x: ast.expr) -> ast.expr:
    return e.library(f"linalg.{e.node.op}", x)


@emits("solve")
def solve(e: Exprs, a: ast.expr, x: ast.expr) -> ast.expr:
    return e.library("linalg.solve", a, x)


@emits("sign")
def sign(e: Exprs, x: ast.expr, *, nan: bool) -> ast.expr:
    y = e.library("sign", x)
    return y if nan or not dt.is_float(e.out.dtype) else e.library("nan_to_num", y)


@emits("roll")
def roll(
    e: Exprs, x: ast.expr, *, shift: tuple[DimLike, ...], axis: tuple[int, ...]
) -> ast.expr:
    places = shift[0] if len(shift) == 1 else tuple(shift)
    return e.library("roll", x, places, axis=axes(axis, e.out.rank))


@emits("broadcast_to")
def broadcast_to(e: Exprs, x: ast.expr, *, shape: tuple[DimLike, ...]) -> ast.expr:
    return e.library("broadcast_to", x, tuple(shape))


@emits("flip")
def flip(e: Exprs, x: ast.expr, *, axis: tuple[int, ...]) -> ast.expr:
    return e.library("flip", x, axis=axes(axis, e.out.rank))


@emits("tile")
def tile(e: Exprs, x: ast.expr, *, repetitions: tuple[DimLike, ...]) -> ast.expr:
    return e.library("tile", x, tuple(repetitions))


@emits("repeat")
def repeat(e: Exprs, x: ast.expr, *, repeats: DimLike, axis: int) -> ast.expr:
    return e.library("repeat", x, repeats, axis=one_axis(axis, e.out.rank))


@emits("permute_dims")
def permute_dims(e: Exprs, x: ast.expr, *, axes: tuple[int, ...]) -> ast.expr:
    return permuted(e, x, axes, swap="swapaxes", permute="transpose")


@emits("bincount")
def bincount(e: Exprs, x: ast.expr, *, length: int) -> ast.expr:
    return e.rt("bincount", x, length)


@emits("dynamic_slice")
def dynamic_slice(
    e: Exprs, x: ast.expr, *starts: ast.expr, sizes: tuple[DimLike, ...]
) -> ast.expr:
    return e.rt("dynamic_slice", x, tuple(starts), tuple(sizes))


@emits("dynamic_update_slice")
def dynamic_update_slice(
    e: Exprs, x: ast.expr, values: ast.expr, *starts: ast.expr
) -> ast.expr:
    return e.rt("dynamic_update_slice", x, values, tuple(starts))


@emits("grouped_matmul")
def grouped_matmul(e: Exprs, x: ast.expr, weight: ast.expr, ends: ast.expr) -> ast.expr:
    return e.rt("grouped_matmul", x, weight, ends)


@emits("weight_norm")
def weight_norm(e: Exprs, v: ast.expr, g: ast.expr, *, axis: int) -> ast.expr:
    others = other_axes(axis, e.type(0).rank)
    return e.rt("weight_norm", v, g, axis=others)


@emits("adaptive_avg_pool")
def adaptive_avg_pool(
    e: Exprs, x: ast.expr, *, output_size: tuple[int, ...], layout: str
) -> ast.expr:
    # A pool to one element is a mean before it comes here.
    where = spatial_axes(layout, e.out.rank)
    return e.rt("adaptive_avg_pool", x, output_size, axes=where)


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
    where = spatial_axes(layout, e.out.rank)
    factors = unless(scales, None)
    if mode.startswith("nearest"):
        offset = 0.5 if mode == "nearest-exact" else OMIT
        return e.rt(
            "resize_nearest", x, tuple(size), where, offset=offset, scales=factors
        )
    return e.rt(
        "resize",
        x,
        tuple(size),
        where,
        mode=mode,
        align_corners=unless(align_corners, False),
        antialias=unless(antialias, False),
        scales=factors,
    )


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
    return e.rt(
        "grid_sample",
        x,
        grid,
        mode=unless(mode, "bilinear"),
        padding=unless(padding, "zeros"),
        align_corners=align_corners or OMIT,
    )
