"""Nested values of a traced model (arguments and results), described without their
containers.

A traced call passes tuples, dicts, dataclasses and Hugging Face `ModelOutput` objects
around. The lowering needs their *shape* (which field holds which tensor) but never the
classes themselves, so `describe` copies plain containers, turns every record class into
a `Record`, and hands each tensor or symbolic integer to a callback.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ivyport.core.ir import Record
from ivyport.frontends.nested import Opaque, named, qualified_name, record_fields


@dataclasses.dataclass(frozen=True)
class Size:
    """A symbolic integer that was passed as an argument; `expr` uses the trace's
    symbols.
    """

    expr: str


SCALARS = (int, float, bool, str, complex, type(None), torch.dtype, torch.device)
SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def describe(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """Copy `value` with tensors and symbolic integers replaced by `leaf(x)`.

    Tuples, lists and string-keyed mappings stay what they are; dataclasses,
    `ModelOutput`s and named tuples become `Record`; numbers, strings, None, dtypes and
    devices are kept, enumerations by value; anything else becomes `Opaque`.
    """
    if isinstance(value, (torch.Tensor, *SYMBOLIC)):
        return leaf(value)
    if isinstance(value, enum.Enum):
        return describe(value.value, leaf)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, SCALARS):
        return value
    fields = record_fields(value)
    if fields is not None:
        items = tuple((name, describe(item, leaf)) for name, item in fields)
        return Record(qualified_name(type(value)), items, isinstance(value, Mapping))
    if isinstance(value, torch.Size):
        return tuple(describe(item, leaf) for item in value)
    if isinstance(value, (tuple, list)):
        copied = [describe(item, leaf) for item in value]
        return copied if isinstance(value, list) else tuple(copied)
    if isinstance(value, Mapping):
        return {key: describe(item, leaf) for key, item in value.items()}
    return Opaque(qualified_name(type(value)))


def named_tensors(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors inside the argument `name`: itself, or `name_0`, `name_key` for nested
    ones.
    """
    return named(name, value, torch.is_tensor)
