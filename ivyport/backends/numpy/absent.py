"""What stands for an argument that the caller leaves out, in NumPy."""

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
    """``np.ones_like(ids)``, ``np.zeros((B, 4), dtype=bool)``, ``np.arange(S)[None]``."""
    typed = {} if dtype is None else {"dtype": exprs.dtype(dtype)}
    if fill != "positions":
        if shape is None:
            return exprs.call(f"np.{fill}_like", like, **typed)
        kept = {} if dtype == "float64" else typed
        return exprs.call(f"np.{fill}", pyast.tuple_of(shape), **kept)
    sizes = pyast.attribute(like, "shape")
    last = shape[-1] if shape else pyast.subscript(sizes, ast.Constant(-1))
    row = exprs.call("np.arange", last, **({} if dtype == "int64" else typed))
    rows = in_rows(row, shape)
    whole = pyast.tuple_of(shape) if shape else sizes
    return exprs.call("np.broadcast_to", row, whole) if rows is None else rows
