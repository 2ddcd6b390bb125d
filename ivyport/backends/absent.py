"""What stands for an argument that the caller leaves out: ones, zeros, or positions in rows."""

from __future__ import annotations

import ast

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.backends.spelling import in_rows


def absent(
    exprs: Exprs,
    fill: str,
    like: ast.expr,
    shape: list[ast.expr] | None,
    dtype: str | None,
    *,
    integers: str,
    floats: str = "",
    placed: bool = False,
) -> ast.expr:
    """``jnp.ones_like(ids)``, ``np.zeros((B, 4), dtype=bool)``, ``np.arange(S)[None]``.

    A language says what its library makes by default: `integers` is the dtype of a range, `floats`
    that of what is filled, empty where it is always written. Its tensors are `placed` where they
    have a device, which is that of `like`; there a row is expanded.
    """
    typed = {} if dtype is None else {"dtype": exprs.dtype(dtype)}
    if fill != "positions" and shape is None:
        return exprs.library(f"{fill}_like", like, **typed)
    there = {"device": pyast.attribute(like, "device")} if placed else {}
    if fill != "positions":
        assert shape is not None
        kept = {} if dtype == floats else typed
        return exprs.library(fill, pyast.tuple_of(shape), **kept, **there)
    sizes = pyast.attribute(like, "shape")
    last = shape[-1] if shape else pyast.subscript(sizes, ast.Constant(-1))
    ranged = {} if dtype == integers else typed
    row = exprs.library("arange", last, **ranged, **there)
    rows = in_rows(row, shape)
    if rows is not None:
        return rows
    whole = pyast.tuple_of(shape) if shape else sizes
    if placed:
        return exprs.method(row, "expand", whole)
    return exprs.library("broadcast_to", row, whole)
