"""What the rules share: axes, defaults and conditions as people write them."""

from __future__ import annotations

import ast
from typing import Any

from ivyport.backends.pyast import OMIT, Exprs, HoleFloat, HoleInt
from ivyport.core import dtype as dt
from ivyport.core.errors import GraphError
from ivyport.core.ops import normalize


def is_hole(value: Any) -> bool:
    """Whether an attribute, or a part of it, differs between instances of the class."""
    if isinstance(value, tuple | list):
        return any(is_hole(v) for v in value)
    return isinstance(value, HoleInt | HoleFloat | ast.expr)


def unless(value: Any, default: Any) -> Any:
    """`value` as an argument, left out where it is the callee's default."""
    return OMIT if not is_hole(value) and value == default else value


def present(operand: ast.expr | None) -> Any:
    """An optional operand as an argument, left out where it is absent."""
    return OMIT if operand is None else operand


def one_axis(axis: int, rank: int) -> int:
    """An axis as people write it: -1 for the last, else counted from the front."""
    axis = normalize(axis, rank)
    return -1 if axis == rank - 1 and rank > 1 else axis


def axes(axis: tuple[int, ...], rank: int) -> Any:
    """Several axes as people write them; a single one is a number."""
    if len(axis) == 1:
        return one_axis(axis[0], rank)
    return tuple(normalize(a, rank) for a in axis)


def demand_bool(e: Exprs) -> None:
    """Logic is written with ``& | ~``, which is logic on booleans alone."""
    for operand in e.node.values():
        if operand.type.dtype != "bool":
            raise GraphError(f"{e.node.op} of {operand.type}: cast it to bool first")


def demand_float(e: Exprs) -> None:
    """Raise `GraphError` where JAX would turn integers into floats."""
    if dt.is_int(e.out.dtype) or e.out.dtype == "bool":
        raise GraphError(f"{e.node.op} of {e.out}: cast it to a float first")
