"""Dtypes are the names of numpy and ml_dtypes: ``float32``, ``bfloat16``, ``int64``, ``bool``."""

from __future__ import annotations

import ml_dtypes
import numpy as np

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COMPLEX = ("complex64", "complex128")
ALL = (*FLOATS, *INTS, *COMPLEX, "bool")

# JAX computes in 32 bits unless told otherwise; the policy is to say so once and narrow.
NARROW = {
    "int64": "int32",
    "uint64": "uint32",
    "float64": "float32",
    "complex128": "complex64",
}


def is_float(dtype: str) -> bool:
    """Whether `dtype` is a real floating-point type."""
    return dtype in FLOATS


def is_int(dtype: str) -> bool:
    """Whether `dtype` is a signed or unsigned integer type (bool is not)."""
    return dtype in INTS


def to_numpy(dtype: str) -> np.dtype[np.generic]:
    """The numpy dtype of that name; ml_dtypes supplies bfloat16."""
    if dtype == "bfloat16":
        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(dtype)


def itemsize(dtype: str) -> int:
    """Bytes of one element."""
    return to_numpy(dtype).itemsize


def finfo(dtype: str) -> ml_dtypes.finfo:
    """Floating-point limits, for bfloat16 too."""
    return ml_dtypes.finfo(to_numpy(dtype))  # type: ignore[no-untyped-call]  # no stubs


def lowest(dtype: str) -> float:
    """The most negative finite number of a float dtype."""
    return float(finfo(dtype).min)
