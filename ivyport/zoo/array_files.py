"""Named arrays from `.npz` and safetensors files, and whether they are those of a model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ivyport.core.errors import WeightsError
from ivyport.weights.differences import Differences
from ivyport.weights.store import TensorStore

_DAMAGED = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name; no pickled ones are read.

    numpy has no name for bfloat16 and writes its two bytes as ``|V2``: these are read as what
    they were. Of other such bytes, nothing says what they are.

    Raises `WeightsError` where the file is absent, truncated or damaged, or holds those.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    # numpy would read a lone array too, and leaves a broken archive's file open.
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is truncated or no .npz archive")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: _named(x, name, path) for name, x in archive.items()}
    except (*_DAMAGED, ValueError, OSError, EOFError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _named(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind != "V" or array.dtype.names:
        return array
    if array.dtype.itemsize == 2:
        return array.view(ml_dtypes.bfloat16)
    raise WeightsError(
        f"{path}: {name!r} has the dtype {array.dtype.str}: numpy wrote its bytes without "
        "saying what they are. Save it as float32, or the file as .safetensors."
    )


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file by name, mapped and not copied.

    Raises `WeightsError` as `TensorStore.open` does.
    """
    with TensorStore.open(path) as store:
        return {name: store.read(name) for name in store}


def fitted(
    given: Mapping[str, np.ndarray],
    wanted: Mapping[str, Any],
    found: Differences,
    headline: str,
) -> dict[str, np.ndarray]:
    """The arrays that `wanted` names, in its dtypes.

    A number of lower precision is widened (bfloat16 to float32); nothing is narrowed. `wanted`
    holds whatever has a shape and a dtype.

    Raises:
        WeightsError: listing every missing and foreign name, every other shape and dtype, and
            what `found` holds already.
    """
    for name in wanted.keys() - given.keys():
        found.add("missing from the file", name)
    for name in given.keys() - wanted.keys():
        found.add("not in the model", name)
    both = {name: (given[name], wanted[name]) for name in wanted if name in given}
    for name, (array, spec) in both.items():
        if array.shape != tuple(spec.shape):
            shapes = f"{array.shape}, expected {tuple(spec.shape)}"
            found.add("of another shape", name, shapes)
    for name, (array, spec) in both.items():
        if not np.can_cast(array.dtype, spec.dtype, "safe"):
            found.add("of another dtype", name, f"{array.dtype}, expected {spec.dtype}")
    found.raise_if_any(headline)
    return {n: given[n].astype(spec.dtype, copy=False) for n, spec in wanted.items()}
