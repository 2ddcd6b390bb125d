"""The safetensors file format: dtype codes, and reading and writing its header.

A file is an 8-byte little-endian header length, a JSON header, and the tensors' bytes
without gaps. Format: https://huggingface.co/docs/safetensors/index#format. The header
is parsed here, rather than by the `safetensors` package, so that every defect of a file
gets one message that names the file, what was expected and what was found, and so that
float8 tensors can be read with numpy.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ivyport.core.errors import WeightsError
from ivyport.core.shown import listed, shown

Array = NDArray[Any]
Shape = tuple[int, ...]

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
MOST_AXES = 64
MOST_ELEMENTS = 2**58  # of up to 16 bytes, as many as have a number
# Data begins at a multiple of this, so that JAX can alias memory-mapped tensors on CPU.
ALIGNMENT = 64

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
_BY_NAME = {dtype.name: dtype for dtype in _DTYPES.values()}
_CODES = {dtype.name: code for code, dtype in _DTYPES.items()}
_KINDS = {"b": "boolean", "u": "integer", "i": "integer", "c": "complex"}


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: `file[start:stop]` holds it in C order, little-endian.

    `dtype` is a numpy or ml_dtypes name such as 'float32', 'bfloat16' or 'int64'.
    """

    name: str
    dtype: str
    shape: Shape
    file: Path
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """The tensor's size in bytes."""
        return self.stop - self.start


@dataclass(frozen=True)
class Header:
    """A file's parsed header; tensors are in the order of their bytes."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a name such as 'bfloat16'; WeightsError when not storable."""
    dtype = _BY_NAME.get(name)
    if dtype is None:
        known = ", ".join(sorted(_BY_NAME))
        raise WeightsError(
            f"dtype {name!r} cannot be stored in safetensors; these can: {known}"
        )
    return dtype


def dtype_name(dtype: object) -> str:
    """The name of a numpy or ml_dtypes dtype, whatever its byte order."""
    if isinstance(dtype, str):
        return dtype
    try:
        return np.dtype(dtype).name  # type: ignore[call-overload]  # whatever numpy takes
    except TypeError as error:
        raise WeightsError(
            f"{dtype!r} is not a numpy dtype; pass arrays that numpy reads exactly "
            "(bfloat16 as ml_dtypes.bfloat16)"
        ) from error


def dtype_kind(name: str) -> str:
    """'boolean', 'integer', 'floating', 'complex'; an unknown name is its own kind."""
    dtype = _BY_NAME.get(name)
    # ml_dtypes register as kind 'V', and all of those in the table are floating.
    return name if dtype is None else _KINDS.get(dtype.kind, "floating")


def nbytes(dtype: str, shape: Sequence[int]) -> int:
    """The bytes that a tensor takes; WeightsError for a dtype that is not storable."""
    return math.prod(shape) * numpy_dtype(dtype).itemsize


def read_header(file: Path, data: mmap.mmap) -> Header:
    """Parse and fully validate the header of a mapped file, reading no tensor.

    Raises WeightsError for a truncated or overlong file, an invalid or duplicated
    entry, an unknown dtype, and bytes that are claimed by no tensor or by two.
    """
    size = len(data)
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if data[:24].startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{file} is a Git LFS pointer of {size} bytes and not the weights; "
            "run `git lfs pull` in its repository"
        )
    if length > MAX_HEADER_BYTES:
        raise WeightsError(
            f"{file} is not a safetensors file: its header length is {length} bytes, "
            f"and the format allows {MAX_HEADER_BYTES}"
        )
    begin = LENGTH_BYTES + length
    if begin > size:
        raise truncated(file, expected=begin, found=size, what="header")
    entries = _parse_json(file, data[LENGTH_BYTES:begin])
    metadata = _parse_metadata(file, entries.pop("__metadata__", {}))
    infos = [_parse_entry(file, n, e, begin) for n, e in entries.items()]
    infos.sort(key=lambda info: (info.start, info.stop))
    _check_layout(file, infos, begin, size)
    return Header({info.name: info for info in infos}, metadata)


def truncated(file: Path, *, expected: int, found: int, what: str) -> WeightsError:
    """The error for a file that ends before what it announces."""
    return WeightsError(
        f"{file} is truncated: its {what} needs {expected} bytes and the file has "
        f"{found}; download or save it again"
    )


def encode_header(
    entries: Sequence[tuple[str, str, Shape]], metadata: Mapping[str, str]
) -> bytes:
    """The header, with its length before it, of (name, dtype, shape) in byte order.

    Raises WeightsError for names that the format cannot hold and for an overlong
    header.
    """
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    offset = 0
    for name, dtype, shape in entries:
        if name == "__metadata__":
            raise WeightsError("no tensor can be named '__metadata__' in safetensors")
        stop = offset + nbytes(dtype, shape)
        header[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, stop],
        }
        offset = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        broken = sorted(n for n, _, _ in entries if not _is_utf8(n)) or ["metadata"]
        raise WeightsError(
            f"safetensors names are UTF-8 text, which these are not: {broken}"
        ) from error
    encoded += b" " * (-(LENGTH_BYTES + len(encoded)) % ALIGNMENT)
    if len(encoded) > MAX_HEADER_BYTES:
        raise WeightsError(
            f"the header of {len(entries)} tensors takes {len(encoded)} bytes, and the "
            f"format allows {MAX_HEADER_BYTES}; lower max_shard_bytes"
        )
    return len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parse_json(file: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = sorted(name for name, count in counts.items() if count > 1)
            raise WeightsError(
                f"{file}: the header names these twice: [{listed(twice)}]"
            )
        return result

    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{file} is not a safetensors file: its header of {len(raw)} bytes is not "
            f"JSON ({shown(str(error))})"
        ) from error
    if not isinstance(entries, dict) or not raw.startswith(b"{"):
        raise WeightsError(
            f"{file} is not a safetensors file: its header is not a JSON object"
        )
    return entries


def _parse_metadata(file: Path, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(item, str) for item in value.values()
    ):
        raise WeightsError(
            f"{file}: __metadata__ must map strings to strings, got {shown(value)}"
        )
    return value


def _parse_entry(file: Path, name: str, entry: object, begin: int) -> TensorInfo:
    where = f"{file}: tensor {shown(name)}"
    if not _is_utf8(name):
        raise WeightsError(f"{where} has a name that is no text")
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise WeightsError(
            f"{where} needs dtype, shape and data_offsets, got {shown(entry)}"
        )
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise WeightsError(
            f"{where} has dtype {shown(code)}, which is not read; these are: "
            + ", ".join(_DTYPES)
        )
    if not _is_sizes(shape):
        raise WeightsError(f"{where} has an invalid shape {shown(shape)}")
    # numpy, torch and JAX hold no more; sizes are theirs even where there are no elements.
    if len(shape) > MOST_AXES or math.prod(n or 1 for n in shape) > MOST_ELEMENTS:
        raise WeightsError(
            f"{where} has the shape {shown(shape)}, and arrays have {MOST_AXES} axes and "
            f"{MOST_ELEMENTS} elements at most"
        )
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise WeightsError(f"{where} has invalid data_offsets {shown(offsets)}")
    expected = math.prod(shape) * _DTYPES[code].itemsize
    if offsets[1] - offsets[0] != expected:
        raise WeightsError(
            f"{where} of dtype {code} and shape {shown(shape)} takes {expected} bytes, but "
            f"its data_offsets {shown(offsets)} give it {offsets[1] - offsets[0]}"
        )
    start, stop = begin + offsets[0], begin + offsets[1]
    return TensorInfo(name, _DTYPES[code].name, tuple(shape), file, start, stop)


def _is_sizes(value: object) -> bool:
    # type() and not isinstance: JSON true is an int to Python.
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_layout(
    file: Path, infos: Sequence[TensorInfo], begin: int, size: int
) -> None:
    position, previous = begin, "the header"
    for info in infos:
        if info.start != position:
            problem = "a gap" if info.start > position else "an overlap"
            raise WeightsError(
                f"{file}: {problem} of {abs(info.start - position)} bytes between "
                f"{previous} and tensor {shown(info.name)}; save the file again"
            )
        position, previous = info.stop, f"tensor {shown(info.name)}"
    if position > size:
        raise truncated(file, expected=position, found=size, what="list of tensors")
    if position < size:
        raise WeightsError(
            f"{file} has {size} bytes where its header describes {position}; the last "
            f"{size - position} bytes belong to no tensor; save the file again"
        )
