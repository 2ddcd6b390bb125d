"""What a language of operations is: how expressions of one array library are written.

Several forms of modules may share one: Flax NNX, linen and haiku are all written in JAX.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Language:
    """One array library, as emitted code writes it.

    Attributes:
        rules: for each operation how it is written.
        imports: the statement that imports each root of a dotted name, in isort's order.
        dtypes: the module whose attributes are dtypes, infinity and not-a-number.
        array: its array type, for annotations.
        runtime: the module of helper functions that files copy; loads the library.
        absent: what stands for an argument that the caller leaves out (`core.ir.Argument.default`):
            called with what makes expressions, the kind of default, an array that is given, and
            the shape and dtype of the argument, None where they are those of that array.
        large: the type of an integer literal that the library would not take for one of 64
            bits; None where it takes any.
        default_float: whether what creates tensors gives float32 unless it is told otherwise.
        layers: the module that has pools, where its libraries of modules have them; a form may
            name another one.
        strided: whether a broadcast tensor is a view, which a parameter cannot be.
        double: whether floats that are made of Python's numbers and of integers have 64 bits, as
            people's own arrays mostly do: inputs and tables get the dtype of the source's.
        stack: the function that makes one tensor of a list, where loops are Python's own.
        entries: the method that gives a tensor's entries on its first axis as a sequence; empty
            where a tensor is one.
    """

    rules: Mapping[str, Callable[..., Any]]
    imports: Mapping[str, str]
    dtypes: str
    array: str
    runtime: Callable[[], ModuleType]
    absent: Callable[..., Any]
    large: str | None = None
    default_float: bool = False
    strided: bool = False
    layers: str = ""
    double: bool = False
    stack: str = ""
    entries: str = ""
