"""Types and sizes of JAX as those of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.export import is_symbolic_dim

from ivyport.core import dims as dm
from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import TensorType

KEY = "key"  # the dtype name of PRNG keys; no value of the graph has it


def to_dim(size: Any, names: Mapping[str, str] | None = None) -> DimLike:
    """A size of an aval as a size of the graph.

    `names` maps symbols of JAX (of `jax.export.symbolic_shape`) to the graph's; one that it lacks
    keeps its name.

    Raises:
        GraphError: the size is neither an integer nor symbolic.
    """
    if isinstance(size, int | np.integer):
        return int(size)
    if not is_symbolic_dim(size):
        raise GraphError(f"{size!r} ({type(size).__name__}) is no size")
    total: DimLike = 0
    for term, coefficient in size._sorted_terms:
        product: DimLike = int(coefficient)
        for factor, exponent in term._factors:
            for _ in range(exponent):
                product = product * _factor(factor, names or {})
        total = total + product
    return total


def _factor(factor: Any, names: Mapping[str, str]) -> DimLike:
    if factor.var is not None:
        return dm.symbol(names.get(factor.var, factor.var))
    operations = {
        "floordiv": lambda a, b: a // b,
        "mod": lambda a, b: a % b,
        "max": dm.maximum,
        "min": dm.minimum,
    }
    a, b = (to_dim(x, names) for x in factor.operands)
    return operations[factor.operation](a, b)


def dtype_name(dtype: Any) -> str:
    """The graph's name of a dtype; PRNG keys are `KEY`.

    Raises:
        GraphError: the graph has no such dtype (fp8, float0).
    """
    if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return KEY
    name = np.dtype(dtype).name
    if name not in dt.ALL:
        raise GraphError(f"dtype {name} is not supported")
    return name


def type_of(aval: Any, names: Mapping[str, str] | None = None) -> TensorType:
    """The graph's type of an abstract value."""
    shape = tuple(to_dim(d, names) for d in aval.shape)
    return TensorType(dtype_name(aval.dtype), shape)


def number(value: Any, dtype: str) -> bool | int | float:
    """A scalar array as a Python number.

    A float32 number gets its shortest decimal form: 0.1 and not 0.10000000149011612, which reads
    back as the same float32.
    """
    if dtype == "bool":
        return bool(value)
    if dt.is_int(dtype):
        return int(value)
    if dtype == "float32":
        short = float(str(np.float32(value)))
        # The shortest form of the largest number is larger than it, as a double.
        return short if abs(short) <= float(np.finfo(np.float32).max) else float(value)
    if dt.is_float(dtype):
        return float(value)
    raise GraphError(f"a constant of dtype {dtype} is not supported")
