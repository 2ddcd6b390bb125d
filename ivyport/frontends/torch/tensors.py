"""Torch tensors as numpy arrays without a copy, bfloat16 included; names of one tensor."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

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


def tensor_aliases(model: torch.nn.Module) -> dict[str, tuple[str, ...]]:
    """Canonical name of each tied parameter and buffer -> its other names.

    Two names are one tensor when they are one object, or when they view the same memory
    with the same dtype, shape and strides. On the meta device and for fake tensors only
    objects count.
    """
    keys: dict[Any, list[str]] = {}
    named = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in named:
        keys.setdefault(_identity(tensor), []).append(name)
    return {names[0]: tuple(names[1:]) for names in keys.values() if len(names) > 1}


def _identity(tensor: torch.Tensor) -> Any:
    if tensor.is_meta or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return id(tensor)
    if not tensor.numel() or tensor.layout is not torch.strided:
        return id(tensor)
    place = (tensor.device, tensor.data_ptr(), tensor.dtype)
    return (*place, tuple(tensor.shape), tensor.stride())
