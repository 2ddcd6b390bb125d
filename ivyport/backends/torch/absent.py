"""What stands for an argument that the caller leaves out, in PyTorch."""

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
) -> ast.expr:
    """``torch.ones_like(ids)``, ``torch.zeros((B, 4), device=ids.device)``, a range in rows."""
    typed = {} if dtype is None else {"dtype": exprs.dtype(dtype)}
    if fill != "positions" and shape is None:
        return exprs.call(f"torch.{fill}_like", like, **typed)
    there = {"device": pyast.attribute(like, "device")}
    if fill != "positions":
        assert shape is not None
        return exprs.call(f"torch.{fill}", pyast.tuple_of(shape), **typed, **there)
    sizes = pyast.attribute(like, "shape")
    last = shape[-1] if shape else pyast.subscript(sizes, ast.Constant(-1))
    ranged = {} if dtype == "int64" else typed
    row = exprs.call("torch.arange", last, **ranged, **there)
    rows = in_rows(row, shape)
    whole = pyast.tuple_of(shape) if shape else sizes
    return exprs.method(row, "expand", whole) if rows is None else rows
