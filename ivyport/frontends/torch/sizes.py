"""Symbolic sizes of torch (sympy expressions) as ours."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch

from ivyport.core import dims
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import TraceError
from ivyport.core.ir import Value
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


_EXACT = 2**20


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
    """``int(t / 2)``, ``math.ceil(t / 3)``, ``round(t / 3)``: exact in integers, too.

    A true quotient of integers below 2^53 is rounded to an integer only where it is one, and so is
    a product with a power of two. Truncation is a floor of what is not negative.
    """
    kind = type(expr).__name__
    if kind not in ("TruncToInt", "FloorToInt", "CeilToInt", "RoundToInt"):
        return None
    over, by = _fraction(expr.args[0])
    if over is None:
        return None
    top, bottom = from_sympy(over, names), from_sympy(by, names)
    if kind == "CeilToInt":
        return -((-top) // bottom)
    if kind == "RoundToInt":
        return _nearest(top, bottom)
    if kind == "TruncToInt" and not at_least(top, 0, {}):
        return None
    return top // bottom


def _nearest(top: DimLike, bottom: DimLike) -> DimLike | None:
    """``round(top / bottom)``; of two equally near ones Python takes the even one.

    None for even divisors other than 2, which have no short form.
    """
    if not isinstance(bottom, int) or bottom < 1:
        return None
    if bottom % 2:
        return (2 * top + bottom) // (2 * bottom)
    return top // 2 + (top % 4) // 3 if bottom == 2 else None


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
            # Few digits beside a power of two: none is lost in a product with a size.
            if max(abs(top), bottom) < _EXACT:
                return top * value.args[0], sympy.Integer(bottom)
    return None, None


def number(
    expr: Any, names: dict[str, str], whole: Callable[[DimLike], Any], b: Builder
) -> Any:
    """A number computed from sizes as a node; `whole` makes one of an integer.

    Raises:
        TraceError: the expression uses a function that is not known here.
    """
    if expr.is_Float:
        return float(expr)
    kind = type(expr).__name__
    if expr.is_integer or kind == "ToFloat":
        inner = expr.args[0] if kind == "ToFloat" else expr
        made = from_sympy(inner, names)
        return made if isinstance(made, int) else whole(made)
    if kind not in _FRACTIONS:
        raise TraceError(
            f"{expr} is computed from a size, and {kind} has no rule there"
        )
    parts = [number(a, names, whole, b) for a in expr.args]
    result = parts[0]
    if len(parts) == 1:
        return getattr(b, _FRACTIONS[kind])(result)
    for part in parts[1:]:
        if isinstance(result, Value) or isinstance(part, Value):
            result = getattr(b, _FRACTIONS[kind])(result, part)
        else:
            result = _PLAIN[kind](result, part)
    return result


_FRACTIONS = {
    "IntTrueDiv": "divide",
    "FloatTrueDiv": "divide",
    "FloatPow": "pow",
    "Mul": "multiply",
    "Add": "add",
    "OpaqueUnaryFn_sqrt": "sqrt",
}
_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "FloatPow": operator.pow,
    "Mul": operator.mul,
    "Add": operator.add,
}


def size(value: Any, names: dict[str, str]) -> DimLike:
    """An int or `torch.SymInt` as a size."""
    if isinstance(value, torch.SymInt):
        return from_sympy(value.node.expr, names)
    return int(value)


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` as ``float32``."""
    return str(dtype).removeprefix("torch.")
