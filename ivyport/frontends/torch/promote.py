"""torch's type promotion, made explicit: the dtype of a result, operands cast to it.

https://docs.pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc
"""

from __future__ import annotations

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import Dim, DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import Value

Number = bool | int | float | Dim
Arg = Value | Number
DEFAULT_FLOAT = "float32"


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype of that name; every dtype of the graph has one."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """The graph's name of a torch dtype."""
    return str(dtype).removeprefix("torch.")


def number_dtype(number: Number) -> str:
    """The dtype that torch gives a Python number."""
    if isinstance(number, bool):
        return "bool"
    if isinstance(number, int | Dim):
        return "int64"
    if isinstance(number, float):
        return DEFAULT_FLOAT
    raise GraphError(
        f"{number!r} is a {type(number).__name__}: real numbers alone are supported"
    )


def promote_dtypes(a: str, b: str) -> str:
    """``torch.promote_types`` by name.

    >>> promote_dtypes("float16", "bfloat16")
    'float32'
    """
    return dtype_name(torch.promote_types(torch_dtype(a), torch_dtype(b)))


def _combine(higher: str | None, lower: str | None) -> str | None:
    """A stronger operand's dtype, unless the weaker one is of a higher category."""
    if higher is None or lower is None:
        return higher or lower
    if higher in dt.COMPLEX or (dt.is_float(higher) and lower not in dt.COMPLEX):
        return higher
    if higher == "bool" or not (dt.is_int(lower) or lower == "bool"):
        return promote_dtypes(higher, lower)
    return higher


def result_type(*operands: Arg) -> str:
    """``torch.result_type`` of any number of operands.

    Tensors with axes decide; tensors without axes, then Python numbers, matter only
    when their category (bool, integer, float) is higher.
    """
    groups: list[str | None] = [None, None, None]
    for operand in operands:
        if isinstance(operand, Value):
            group, dtype = (0 if operand.type.rank else 1), operand.type.dtype
        else:
            group, dtype = 2, number_dtype(operand)
        found = groups[group]
        groups[group] = dtype if found is None else promote_dtypes(found, dtype)
    result = _combine(groups[0], _combine(groups[1], groups[2]))
    if result is None:
        raise GraphError("the result type of no operands was asked for")
    return result


def number_as(number: Number, dtype: str) -> Number:
    """A Python number as an element of `dtype`, as torch converts it.

    Raises:
        GraphError: a fraction for an integer dtype.
    """
    if isinstance(number, Dim):
        if dtype == "bool":
            raise GraphError(f"the symbolic size {number} cannot be a bool")
        return number
    if dtype == "bool":
        return bool(number)
    if dt.is_int(dtype):
        if isinstance(number, float) and not number.is_integer():
            raise GraphError(f"{number!r} is no element of {dtype}")
        return int(number)
    return int(number) if isinstance(number, bool) else number


def operand_as(b: Builder, operand: Arg, dtype: str) -> Arg:
    """A tensor cast to `dtype`, or a number converted to it."""
    if isinstance(operand, Value):
        return b.cast(operand, dtype)
    return number_as(operand, dtype)


def tensor_of(
    b: Builder, operand: Arg, dtype: str, shape: tuple[DimLike, ...] = ()
) -> Value:
    """A tensor cast to `dtype`, or a number as a constant tensor of that dtype."""
    if isinstance(operand, Value):
        return b.cast(operand, dtype)
    value: Value = b.full(shape=shape, value=number_as(operand, dtype), dtype=dtype)
    return value


def promoted(b: Builder, *operands: Arg) -> tuple[str, list[Arg]]:
    """The result type and the operands converted to it; one at least is a tensor."""
    dtype = result_type(*operands)
    converted = [operand_as(b, x, dtype) for x in operands]
    if not any(isinstance(x, Value) for x in converted):
        converted[0] = tensor_of(b, converted[0], dtype)
    return dtype, converted


def floated(b: Builder, x: Value) -> Value:
    """x itself if it is floating, else cast to torch's default float."""
    real = dt.is_float(x.type.dtype) or x.type.dtype in dt.COMPLEX
    return x if real else b.cast(x, DEFAULT_FLOAT)


def widened(x: Value) -> str:
    """The dtype in which torch sums: int64 for integers and bools."""
    dtype = x.type.dtype
    return "int64" if dtype == "bool" or dt.is_int(dtype) else dtype
