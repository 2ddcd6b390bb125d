"""Operations that create arrays (https://data-apis.org/array-api/2024.12/)."""

from __future__ import annotations

from typing import Any

from ivyport.core.dims import Dim, DimLike
from ivyport.core.ir import TensorType
from ivyport.core.opdef import demand, op
from ivyport.core.ops import API


@op("arange", url=f"{API}creation_functions.html")
def arange(*, start: Any = 0, stop: Any, step: Any = 1, dtype: str) -> TensorType:
    """start, start + step, ... below stop; bounds may be symbolic."""
    span = stop - start
    if isinstance(span, float) or isinstance(step, float):
        demand(not isinstance(span, Dim), "float step with a symbolic bound")
        length: DimLike = max(0, int(-(-span // step)))
    else:
        length = span if step == 1 else -((-span) // step)
    return TensorType(dtype, (length,))


@op("linspace", url=f"{API}creation_functions.html")
def linspace(*, start: float, stop: float, num: int, dtype: str) -> TensorType:
    """`num` evenly spaced numbers, both ends included."""
    return TensorType(dtype, (num,))


@op("full", url=f"{API}creation_functions.html")
def full(*, shape: tuple[DimLike, ...], value: Any, dtype: str) -> TensorType:
    """A constant tensor; value may be a symbolic size when the dtype is an integer or float."""
    demand(isinstance(value, bool | int | float | Dim), f"full of {value!r}")
    return TensorType(dtype, tuple(shape))


@op("eye", url=f"{API}creation_functions.html")
def eye(*, rows: DimLike, columns: DimLike, dtype: str) -> TensorType:
    """Ones on the diagonal."""
    return TensorType(dtype, (rows, columns))
