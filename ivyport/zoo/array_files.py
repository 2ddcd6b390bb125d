"""Named arrays from `.npz` and safetensors files, and whether they are those of a model."""

from __future__ import annotations

import ast
import lzma
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from ivyport.core.budget import Budget
from ivyport.core.errors import WeightsError
from ivyport.core.shown import shown
from ivyport.weights.differences import Differences
from ivyport.weights.safetensors import MOST_AXES, MOST_ELEMENTS
from ivyport.weights.store import TensorStore

_DAMAGED = (
    *(
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        ValueError,
        OSError,
        EOFError,
    ),
    *(
        SyntaxError,
        TypeError,
        KeyError,
        RecursionError,
        NotImplementedError,
        struct.error,
    ),
    *(RuntimeError, OverflowError, IndexError, AttributeError, lzma.LZMAError),
)
#: Numbers, and bytes that numpy has no name for; no objects, records, texts or dates.
_DTYPE = re.compile(r"[<>|=]?([biufc][1248]|f16|c16|c32|V[0-9]{1,4})")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MOST_ENTRIES = 100_000
_ENCRYPTED = 0x1
#: numpy's own limit for a header.
_HEADER = 10_000


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file by name, read-only; no pickled ones are read.

    numpy has no name for bfloat16 and writes its two bytes as ``|V2``: these are read as what
    they were. Of other such bytes, nothing says what they are.

    Every entry is measured before it is read: what its header claims has to be there, and what it
    unpacks to has to be in proportion to the file (`ivyport.core.budget`).

    Raises `WeightsError` where the file is absent, truncated or damaged, or holds those.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path} is truncated or no .npz archive")
    try:
        with zipfile.ZipFile(path) as archive:
            return _entries(archive, path)
    except _DAMAGED as error:
        raise WeightsError(
            f"{path} cannot be read: {shown(str(error), 300)[1:-1]}"
        ) from error


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, np.ndarray]:
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise ValueError(f"it has {len(entries)} entries")
    budget = Budget(path, path.stat().st_size)
    arrays: dict[str, np.ndarray] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename:
            raise ValueError(f"the entry {shown(name)} is no array (.npy)")
        if name in arrays:
            raise ValueError(f"two entries are called {shown(name)}")
        if entry.flag_bits & _ENCRYPTED:
            raise ValueError(f"the entry {shown(name)} is encrypted")
        if entry.compress_type not in _METHODS:
            raise ValueError(
                f"the entry {shown(name)} is compressed by method {entry.compress_type}, and "
                "numpy writes stored and deflated ones"
            )
        budget.charge(entry.file_size)
        with archive.open(entry) as file:
            arrays[name] = _named(_array(file, entry.file_size, name), name, path)
    return arrays


def _array(file: IO[bytes], size: int, name: str) -> np.ndarray:
    """One .npy: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"the entry {shown(name)} is of version {version}")
    # Version 3 differs from 2 in the encoding of fields' names alone, which none here has.
    width = 2 if version == (1, 0) else 4
    length = int.from_bytes(_exactly(file, width), "little")
    if length > _HEADER:
        raise ValueError(f"the entry {shown(name)} has a header of {length} bytes")
    shape, fortran, dtype = _header(_exactly(file, length), name)
    due = math.prod(shape) * dtype.itemsize
    left = size - np.lib.format.MAGIC_LEN - width - length
    if len(shape) > MOST_AXES:
        raise ValueError(f"the entry {shown(name)} has the shape {shown(shape)}")
    if due != left or math.prod(n or 1 for n in shape) > MOST_ELEMENTS:
        raise ValueError(
            f"the entry {shown(name)} of {shown(shape)} {shown(dtype.str)} takes {due} bytes "
            f"and has {left}"
        )
    flat = np.frombuffer(_exactly(file, due), dtype) if due else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _header(text: bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of a .npy, whose header is a literal of Python."""
    try:
        told = ast.literal_eval(text.decode("latin-1").strip())
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"the entry {shown(name)} has a header that is none"
        ) from error
    if not isinstance(told, dict) or told.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"the entry {shown(name)} has the header {shown(told)}")
    descr, shape = told["descr"], told["shape"]
    if not isinstance(descr, str) or not _DTYPE.fullmatch(descr):
        raise ValueError(f"the entry {shown(name)} has the dtype {shown(descr)}")
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"the entry {shown(name)} has the shape {shown(shape)}")
    return shape, told["fortran_order"] is True, np.dtype(descr)


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError("it is truncated")
    return data


def _named(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind != "V" or array.dtype.names:
        return array
    if array.dtype.itemsize == 2:
        return array.view(ml_dtypes.bfloat16)
    raise WeightsError(
        f"{path}: {shown(name)} has the dtype {array.dtype.str}: numpy wrote its bytes without "
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
