"""Torch tensors as numpy arrays without a copy, bfloat16 included."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import ml_dtypes
import numpy as np
import torch


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as an array; a copy only if it is on a device, or a view that
    torch conjugates or negates when it is read."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class Arrays(Mapping[str, np.ndarray]):
    """Named tensors, read as arrays one at a time; 64-bit ones become 32-bit but for `wide`."""

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], wide: Collection[str] = ()
    ) -> None:
        self.tensors = tensors
        self.wide = wide

    def __getitem__(self, name: str) -> np.ndarray:
        array = to_numpy(self.tensors[name])
        if name in self.wide:
            return array
        narrow = {"int64": "int32", "float64": "float32"}.get(array.dtype.name)
        return array.astype(narrow) if narrow else array

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
