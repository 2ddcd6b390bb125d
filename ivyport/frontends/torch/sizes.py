"""Symbolic sizes of torch (sympy expressions) as ours."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from ivyport.core import dims
from ivyport.core.dims import DimLike
from ivyport.core.errors import TraceError

_BINARY = {
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "CeilDiv": lambda a, b: -((-a) // b),
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
    "Max": dims.maximum,
    "Min": dims.minimum,
}


def from_sympy(expr: Any, names: dict[str, str]) -> DimLike:
    """A sympy integer expression as a size; `names` maps torch's symbols to readable ones.

    Raises:
        TraceError: the expression uses a function that sizes do not have.
    """
    if isinstance(expr, int):
        return expr
    if expr.is_Integer:
        return int(expr)
    if expr.is_Symbol:
        return dims.symbol(names.get(str(expr), str(expr)))
    parts = [from_sympy(a, names) for a in expr.args]
    if isinstance(expr, sympy.Add):
        return sum(parts[1:], parts[0])
    if isinstance(expr, sympy.Mul):
        return dims.product(parts)
    if isinstance(expr, sympy.Pow) and isinstance(parts[1], int) and parts[1] > 0:
        return dims.product([parts[0]] * parts[1])
    kind = type(expr).__name__
    if kind in _BINARY:
        result = parts[0]
        for part in parts[1:]:
            result = _BINARY[kind](result, part)
        return result
    raise TraceError(f"a size is {expr}, and sizes have no {kind}")


def size(value: Any, names: dict[str, str]) -> DimLike:
    """An int or `torch.SymInt` as a size."""
    if isinstance(value, torch.SymInt):
        return from_sympy(value.node.expr, names)
    return int(value)


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` as ``float32``."""
    return str(dtype).removeprefix("torch.")
