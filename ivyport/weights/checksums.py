"""Checksums of tensors, which tell whether a port's weights were trained since it was made.

They guard against no attack: that is what digests of whole files are for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import numpy as np

from ivyport.weights.mapping import Tensors, read_tensor, release
from ivyport.weights.safetensors import Array


def checksums(tensors: Iterable[tuple[str, Array]]) -> dict[str, str]:
    """The CRC-32 of each tensor's bytes in C order, as eight hexadecimal digits."""
    return {name: _checksum(array) for name, array in tensors}


def changed(known: Mapping[str, str], tensors: Tensors) -> list[str]:
    """The names of `known` whose tensors are other ones, or absent."""
    found = []
    for name, before in known.items():
        if name not in tensors:
            found.append(name)
            continue
        if _checksum(read_tensor(tensors, name)) != before:
            found.append(name)
        release(tensors, name)
    return found


def _checksum(array: Array) -> str:
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{zlib.crc32(data.data):08x}"
