"""`len(tensor)` in the source's own code: the size itself, which Python makes a number of.

``x.shape[0]`` stays free while a model is captured, ``len(x)`` cannot: `Tensor.__len__` has to
return an int. For as long as a model is captured, the files of its classes have a `len` of their
own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from ivyport.frontends.shadowing import shadowed


@contextlib.contextmanager
def lengths_free(model: torch.nn.Module) -> Iterator[None]:
    """Give the files of the model's classes a `len` that keeps sizes symbolic."""
    names = {base.__module__ for m in model.modules() for base in type(m).__mro__}
    own = [n for n in names if n in sys.modules and n.partition(".")[0] not in _OTHERS]
    with shadowed((vars(sys.modules[name]) for name in own), "len", _length):
        yield


_OTHERS = ("torch", "builtins", "typing", "abc", "transformers")


def _length(x: Any, /) -> Any:
    return x.shape[0] if isinstance(x, torch.Tensor) and x.dim() else len(x)


__all__ = ["lengths_free"]
