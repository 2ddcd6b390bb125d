"""Tensors that wait in a temporary file until they are compared.

The gradients of one side are as large as the model, and so are those of the other: one of both
has to be in memory.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
import weakref
from typing import Any

import numpy as np

from ivyport.verification.compare import Array

#: Bytes from which tensors are put aside.
LEAST = 2**26


@dataclasses.dataclass(frozen=True)
class _Place:
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Aside:
    """Arrays by name in a file that has no name itself, so that it ends with its process."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="ivyport-")  # noqa: SIM115 (the finalizer closes it)
        weakref.finalize(self, self._file.close)
        self._places: dict[str, _Place] = {}

    def write(self, name: str, array: Array) -> None:
        """Keep an array.

        Raises:
            OSError: the disk is full.
        """
        place = _Place(self._file.seek(0, 2), array.shape, array.dtype)
        self._file.write(_bytes(np.ascontiguousarray(array)))
        self._file.flush()
        self._places[name] = place

    def read(self, name: str) -> Array:
        """A copy of an array that was kept."""
        place = self._places[name]
        array: Array = np.empty(math.prod(place.shape), place.dtype)
        rest = _bytes(array)
        self._file.seek(place.offset)
        while rest.nbytes:
            rest = rest[self._file.readinto(rest) :]
        return array.reshape(place.shape)


def _bytes(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
