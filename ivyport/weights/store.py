"""Weights on disk: memory-mapped reading and streaming, atomic writing of safetensors.

Neither direction holds more than one tensor in memory, so that a model of any size can
be converted on a machine that could not load it.
"""

from __future__ import annotations

import difflib
import itertools
import json
import mmap
import os
import re
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from ivyport.core.errors import WeightsError
from ivyport.core.shown import LONGEST, printable, shown
from ivyport.weights.safetensors import (
    ALIGNMENT,
    LENGTH_BYTES,
    Array,
    Header,
    Shape,
    TensorInfo,
    dtype_name,
    encode_header,
    nbytes,
    numpy_dtype,
    read_header,
    truncated,
)

__all__ = ["Pending", "TensorInfo", "TensorStore", "held_weights", "write"]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
# Arrays that are not contiguous, or change dtype, are copied in blocks of this size.
BLOCK_BYTES = 32 * 2**20

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


class TensorStore:
    """Read-only tensors of one safetensors file or of a folder of shards.

    Opening reads headers only; `read` gives views on memory-mapped files. Views stay
    valid after `close`, which only makes the store give out no more of them.
    """

    def __init__(self, path: Path) -> None:
        """An empty store, which `open` fills."""
        self.path = path
        self.metadata: dict[str, str] = {}
        self._tensors: dict[str, TensorInfo] = {}
        self._maps: dict[Path, mmap.mmap] | None = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TensorStore:
        """Open a .safetensors file, an index, or a folder that has one of them.

        `model.safetensors` wins over `model.safetensors.index.json`, as in
        transformers. Raises WeightsError when nothing can be read there, a file is
        damaged or truncated, or the index and its shards disagree.
        """
        path = Path(path)
        if path.is_dir():
            if (path / SINGLE).is_file():
                return cls._open_files(path, [path / SINGLE])
            if (path / INDEX).is_file():
                return cls._open_index(path / INDEX)
            raise _nothing_in(path)
        if not path.is_file():
            raise WeightsError(f"{path} does not exist; pass a folder or a file")
        if path.name.endswith(".safetensors.index.json"):
            return cls._open_index(path)
        if path.suffix in _PICKLES:
            raise WeightsError(f"{path} is a pickle. {_PICKLE_ADVICE}")
        return cls._open_files(path, [path])

    @classmethod
    def of_files(cls, folder: Path, files: Sequence[Path]) -> TensorStore:
        """Open exactly these .safetensors files, which hold a folder's weights together.

        Raises WeightsError as `open` does, and where there are none.
        """
        if not files:
            raise WeightsError(f"{folder} lists no file of weights")
        return cls._open_files(folder, files)

    @classmethod
    def _open_files(cls, path: Path, files: Sequence[Path]) -> TensorStore:
        store, maps = cls(path), {}
        for file in files:
            maps[file], header = _map(file)
            both = sorted(header.tensors.keys() & store._tensors.keys())
            if both:
                name = both[0]
                raise WeightsError(
                    f"{len(both)} tensors are in two shards, the first of them "
                    f"{shown(name)} in {store._tensors[name].file} and {file}"
                )
            store._tensors.update(header.tensors)
            store.metadata.update(header.metadata)
        store._maps = maps
        return store

    @classmethod
    def _open_index(cls, index: Path) -> TensorStore:
        placed = _read_index(index)
        shards = sorted(set(placed.values()))
        absent = [name for name in shards if not (index.parent / name).is_file()]
        if absent:
            raise WeightsError(
                f"{index} names {len(shards)} shards, {len(absent)} of them absent: "
                f"{_some(absent)}; download them"
            )
        store = cls._open_files(index.parent, [index.parent / s for s in shards])
        found = {name: info.file.name for name, info in store._tensors.items()}
        wrong = [
            f"{shown(name)} (index: {placed.get(name)}, shards: {found.get(name)})"
            for name in sorted(placed.keys() | found.keys())
            if placed.get(name) != found.get(name)
        ]
        if wrong:
            raise WeightsError(
                f"{index} and its shards disagree on {len(wrong)} tensors: "
                f"{_some(wrong)}; download or save them again"
            )
        return store

    def names(self) -> list[str]:
        """All tensor names, sorted."""
        return sorted(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """Dtype, shape and place of a tensor; WeightsError for an unknown name."""
        info = self._tensors.get(name)
        if info is None:
            some = [n for n in itertools.islice(self._tensors, 1000) if len(n) < 500]
            close = difflib.get_close_matches(name[:500], some, n=3)
            hint = f"; close names: {close}" if close else ""
            raise WeightsError(
                f"{self.path} has no tensor {shown(name)} among {len(self)}{hint}"
            )
        return info

    def read(self, name: str) -> Array:
        """A read-only, zero-copy view of a tensor on the mapped file.

        bfloat16 and float8 come as ml_dtypes. Raises WeightsError for an unknown name
        or a closed store.
        """
        info = self.info(name)
        data = self._mapped(info)
        dtype = numpy_dtype(info.dtype)
        if info.nbytes == 0:
            empty = np.empty(info.shape, dtype)
            empty.setflags(write=False)
            return empty
        return np.ndarray(info.shape, dtype, buffer=data, offset=info.start)

    def release(self, name: str) -> None:
        """Let the system drop a tensor's pages; views stay valid and reload them."""
        info = self.info(name)
        data = self._mapped(info)
        if sys.platform == "win32" or info.nbytes == 0:
            return
        start = info.start - info.start % mmap.PAGESIZE
        data.madvise(mmap.MADV_DONTNEED, start, info.stop - start)

    def specs(self) -> dict[str, tuple[str, Shape]]:
        """(dtype name, shape) of every tensor, sorted by name."""
        return {n: (self._tensors[n].dtype, self._tensors[n].shape) for n in self}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors together."""
        return sum(info.nbytes for info in self._tensors.values())

    def close(self) -> None:
        """Give out no more tensors; a file is unmapped with the last view on it."""
        self._maps = None

    def _mapped(self, info: TensorInfo) -> mmap.mmap:
        if self._maps is None:
            raise WeightsError(f"the store of {self.path} is closed")
        return self._maps[info.file]

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __enter__(self) -> TensorStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_PICKLE_ADVICE = (
    "Pickles can run any code when they are opened, so they are not read. Convert them "
    "where you trust them: load the model there and call "
    "`model.save_pretrained(FOLDER, safe_serialization=True)` (transformers) or "
    "`safetensors.torch.save_model(model, 'model.safetensors')` (torch)"
)


def _nothing_in(folder: Path) -> WeightsError:
    names = sorted(item.name for item in folder.iterdir())
    others = [name for name in names if name.endswith(".safetensors")]
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if others:
        return WeightsError(
            f"{folder} has neither {SINGLE} nor {INDEX}; it has {_some(others)}: "
            "pass the file that you mean"
        )
    if pickles:
        return WeightsError(
            f"{folder} has no safetensors weights, only pickles ({_some(pickles)}). "
            f"{_PICKLE_ADVICE}"
        )
    return WeightsError(
        f"{folder} has no weights: neither {SINGLE} nor {INDEX} is among its "
        f"{len(names)} entries"
    )


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(printable(name[:LONGEST]) for name in names[:limit]) + more


def _map(file: Path) -> tuple[mmap.mmap, Header]:
    try:
        with file.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size < LENGTH_BYTES:
                raise truncated(
                    file, expected=LENGTH_BYTES, found=size, what="header length"
                )
            data = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise WeightsError(f"cannot read {file}: {error}") from error
    return data, read_header(file, data)


def _read_index(index: Path) -> dict[str, str]:
    try:
        content = json.loads(index.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{index} is not JSON: {shown(str(error))}") from error
    except OSError as error:
        raise WeightsError(f"cannot read {index}: {error}") from error
    placed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(placed, dict) or not placed:
        raise WeightsError(f"{index} has no weight_map from tensor names to shards")
    for name, file in placed.items():
        # A shard outside of the folder is not part of the checkpoint.
        if not isinstance(file, str) or "\\" in file or not _is_plain(file):
            raise WeightsError(
                f"{index} places {shown(name)} in {shown(file)}, which is not a plain file "
                "name"
            )
    return placed


def _is_plain(file: str) -> bool:
    return file.isprintable() and len(file) < 256 and Path(file).name == file


def _keep() -> None:
    return None


@dataclass(frozen=True)
class Pending:
    """A tensor to be written: what it will be, and how to get it when its turn comes.

    `load` returns an array of this shape, and of this dtype unless `cast` is set, in
    any memory order; `release` is called once its bytes are written.
    """

    name: str
    dtype: str
    shape: Shape
    load: Callable[[], Array]
    release: Callable[[], None] = _keep
    cast: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes that it takes in the file."""
        return nbytes(self.dtype, self.shape)


def write(
    path: str | os.PathLike[str],
    tensors: Iterable[Pending],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
    extra: Mapping[str, Iterable[Pending]] | None = None,
) -> list[Path]:
    """Write tensors one at a time and return the files, the index last.

    A `path` that ends in .safetensors is one file; otherwise it is a folder (made when
    absent) that gets `model.safetensors`, or, above `max_shard_bytes`, shards and their
    index. `extra` are further .safetensors files of that folder. `progress` gets the
    bytes of each written block. Everything is written under temporary names and renamed
    at the end; on failure these are removed and nothing else has changed. The bytes
    depend on names, values, their order and metadata alone.

    Raises WeightsError for repeated names, dtypes that the format lacks, a tensor that
    is not what was announced, a cast that overflows, and errors of the file system.
    """
    path = Path(path)
    folder, whole = path, False
    if path.suffix == ".safetensors" and not path.is_dir():
        folder, whole = path.parent, True
    pending = list(tensors)
    plan = {path.name: pending} if whole else _shards(pending, max_shard_bytes)
    index = None if len(plan) == 1 else _index(plan)
    for name, more in (extra or {}).items():
        if name in plan:
            raise WeightsError(f"{name!r} cannot be an extra file, it is taken")
        plan[name] = list(more)
    for items in plan.values():
        _check_unique(items)
    stage = _Stage(folder)
    try:
        for name, items in plan.items():
            with stage.create(name) as file:
                _write_file(file, items, metadata or {}, progress)
        if index is not None:
            with stage.create(INDEX) as file:
                file.write(index)
        stale = (
            set()
            if whole
            else set(held_weights(folder)) - {*plan, *([INDEX] if index else [])}
        )
        written = stage.commit()
        for old in stale:
            (folder / old).unlink(missing_ok=True)
    except OSError as error:
        stage.abandon()
        raise WeightsError(
            f"cannot write weights to {path}: {error}; unfinished files were removed"
        ) from error
    except BaseException:
        stage.abandon()
        raise
    return written


def _check_unique(pending: Sequence[Pending]) -> None:
    counts = Counter(item.name for item in pending)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise WeightsError(
            f"{len(twice)} tensors would be written twice: "
            + _some([repr(name) for name in sorted(twice)])
        )


def _shards(pending: list[Pending], limit: int) -> dict[str, list[Pending]]:
    if limit <= 0:
        raise WeightsError(f"max_shard_bytes must be positive, got {limit}")
    _check_unique(pending)
    shards: list[list[Pending]] = [[]]
    used = 0
    for item in pending:
        if shards[-1] and used + item.nbytes > limit:
            shards.append([])
            used = 0
        shards[-1].append(item)
        used += item.nbytes
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {
        f"model-{number:05}-of-{len(shards):05}.safetensors": shard
        for number, shard in enumerate(shards, start=1)
    }


def _index(plan: Mapping[str, Sequence[Pending]]) -> bytes:
    total = sum(item.nbytes for items in plan.values() for item in items)
    placed = {item.name: file for file, items in plan.items() for item in items}
    content = {"metadata": {"total_size": total}, "weight_map": placed}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=True)
    return (text + "\n").encode("utf-8")


def held_weights(folder: Path) -> list[str]:
    """The names of the files by which a folder is a checkpoint of safetensors."""
    names = {SINGLE, INDEX}
    if (folder / INDEX).is_file():
        # Of an unreadable index it is unknown which shards were its own.
        with suppress(WeightsError):
            names |= set(filter(_SHARD.fullmatch, _read_index(folder / INDEX).values()))
    return sorted(name for name in names if (folder / name).is_file())


def _write_file(
    file: BinaryIO,
    pending: Sequence[Pending],
    metadata: Mapping[str, str],
    progress: Callable[[int], None] | None,
) -> None:
    # Whole multiples of the alignment come first, so each of them starts aligned; the
    # others follow by falling item size, so that all are aligned to their items.
    ordered = sorted(
        pending,
        key=lambda p: (
            p.nbytes % ALIGNMENT != 0,
            -numpy_dtype(p.dtype).itemsize,
            p.name,
        ),
    )
    file.write(encode_header([(p.name, p.dtype, p.shape) for p in ordered], metadata))
    for item in ordered:
        _write_tensor(file, item, progress)
        item.release()


def _write_tensor(
    file: BinaryIO, item: Pending, progress: Callable[[int], None] | None
) -> None:
    array = item.load()
    found = dtype_name(array.dtype)
    if array.shape != item.shape or (found != item.dtype and not item.cast):
        raise WeightsError(
            f"tensor {item.name!r} was announced as {item.dtype}{list(item.shape)} and "
            f"is {found}{list(array.shape)}"
        )
    dtype = numpy_dtype(item.dtype)
    for block in _blocks(array):
        # astype also fixes byte order; what it loses, _check_cast reports.
        with np.errstate(over="ignore", invalid="ignore"):
            stored = np.ascontiguousarray(block).astype(dtype, copy=False)
        if found != item.dtype:
            _check_cast(item.name, block, stored)
        file.write(stored.reshape(-1).view(np.uint8).data)
        if progress is not None:
            progress(stored.nbytes)


def _check_cast(name: str, before: Array, after: Array) -> None:
    lost = int(np.count_nonzero(np.isfinite(before)) - np.isfinite(after).sum())
    if lost:
        raise WeightsError(
            f"tensor {name!r} has {lost} values out of the range of {after.dtype.name}"
            f"; keep {before.dtype.name} or choose a wider dtype"
        )


def _blocks(array: Array) -> Iterator[Array]:
    """Pieces of an array, in C order, of at most BLOCK_BYTES each."""
    if array.size == 0:
        return
    if array.ndim == 0 or array.nbytes <= BLOCK_BYTES:
        yield array
        return
    row = array.nbytes // array.shape[0]
    if row > BLOCK_BYTES:
        for part in array:
            yield from _blocks(part)
        return
    step = BLOCK_BYTES // row
    for start in range(0, array.shape[0], step):
        yield array[start : start + step]


class _Stage:
    """Files under temporary names in their own folder, renamed together at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._temporary: dict[Path, Path] = {}
        self._made: list[Path] = []

    def create(self, name: str) -> BinaryIO:
        """Open a new temporary file that `commit` will rename to `name`."""
        self._make_folder()
        final = self._folder / name
        if final.is_dir():
            raise WeightsError(f"{final} is a folder; remove it, or write elsewhere")
        temporary = self._folder / f".{name}.{secrets.token_hex(6)}.tmp"
        # Not tempfile, whose files only their owner can read.
        file = temporary.open("xb")
        self._temporary[temporary] = final
        return file

    def commit(self) -> list[Path]:
        """Rename every file, in the order of creation."""
        written = []
        for temporary, final in list(self._temporary.items()):
            os.replace(temporary, final)
            del self._temporary[temporary]
            written.append(final)
        return written

    def abandon(self) -> None:
        """Remove the temporary files, and the folders made for them if empty."""
        for temporary in self._temporary:
            temporary.unlink(missing_ok=True)
        for folder in reversed(self._made):
            if not any(folder.iterdir()):
                folder.rmdir()

    def _make_folder(self) -> None:
        missing = []
        folder = self._folder
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir()
            self._made.append(folder)
