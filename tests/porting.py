"""Running a torch module and its port on the same inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from tests.support import as_numpy, assert_close


def leaves(structure: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of an output with its path; a Record's absent fields are left out."""
    if isinstance(structure, Mapping):
        for key, item in structure.items():
            yield from leaves(item, f"{path}.{key}")
    elif hasattr(structure, "_fields"):
        for key, item in zip(structure._fields, structure, strict=True):
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(structure, tuple | list):
        for index, item in enumerate(structure):
            yield from leaves(item, f"{path}.{index}")
    else:
        yield path, structure


def as_jax(value: Any) -> Any:
    """A tensor as a JAX array, 64-bit integers narrowed; anything else as it is."""
    import jax.numpy as jnp

    if not torch.is_tensor(value):
        return value
    array = as_numpy(value)
    narrow = {np.dtype("int64"): np.int32, np.dtype("float64"): np.float32}
    return jnp.asarray(array.astype(narrow.get(array.dtype, array.dtype)))


def assert_same(
    source: torch.nn.Module, ported: Any, inputs: dict[str, Any], rtol: float = 1e-5
) -> None:
    """Demand equal structure and close values."""
    import jax

    with torch.no_grad():
        expected = source(**{k: _copy(v) for k, v in inputs.items()})
    actual = ported(**{k: as_jax(v) for k, v in inputs.items()})
    ours, theirs = list(leaves(actual)), list(leaves(expected))
    assert [p for p, _ in ours] == [p for p, _ in theirs]
    for (path, mine), (_, other) in zip(ours, theirs, strict=True):
        if torch.is_tensor(other):
            assert isinstance(mine, jax.Array), path
            assert_close(mine, other, rtol=rtol, narrow=True)
        else:
            assert mine == other, path


def _copy(value: Any) -> Any:
    return value.clone() if torch.is_tensor(value) else value
