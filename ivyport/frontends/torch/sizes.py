"""Symbolic sizes of torch (sympy expressions) as ours."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from ivyport.core import dims
from ivyport.core.dims import DimLike
from ivyport.core.errors import TraceError
from ivyport.core.proofs import at_least

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
    whole = _rounded(expr, names)
    if whole is not None:
        return whole
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


def _rounded(expr: Any, names: dict[str, str]) -> DimLike | None:
    """``int(t / 2)``, ``math.ceil(t / 3)``, ``int(t * 0.5)``: exact in integers, too.

    A true quotient of integers below 2^53 is rounded to an integer only where it is one, and so is
    a product with a power of two. Truncation is a floor of what is not negative.
    """
    kind = type(expr).__name__
    if kind not in ("TruncToInt", "FloorToInt", "CeilToInt"):
        return None
    over, by = _fraction(expr.args[0])
    if over is None:
        return None
    top, bottom = from_sympy(over, names), from_sympy(by, names)
    if kind == "CeilToInt":
        return -((-top) // bottom)
    if kind == "TruncToInt" and not at_least(top, 0, {}):
        return None
    return top // bottom


def _fraction(expr: Any) -> tuple[Any, Any]:
    """The integers whose quotient `expr` is, None where it is none."""
    kind = type(expr).__name__
    if kind == "IntTrueDiv":
        over, by = expr.args
        return over, by
    if isinstance(expr, sympy.Mul) and len(expr.args) == 2:
        factor, value = expr.args
        if factor.is_Float and type(value).__name__ == "ToFloat":
            top, bottom = float(factor).as_integer_ratio()
            # A power of two: no digit is lost.
            if abs(top) == 1 or bottom == 1:
                return top * value.args[0], sympy.Integer(bottom)
    return None, None


def size(value: Any, names: dict[str, str]) -> DimLike:
    """An int or `torch.SymInt` as a size."""
    if isinstance(value, torch.SymInt):
        return from_sympy(value.node.expr, names)
    return int(value)


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` as ``float32``."""
    return str(dtype).removeprefix("torch.")
