"""Whole checkpoints through a weight map: from the source to the port, and back home.

Both directions stream: one tensor is in memory at a time, and files appear only when
complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ivyport.core.errors import WeightsError
from ivyport.folder.manifest import PORT, record_digest, weights_files
from ivyport.weights.mapping import (
    Tensors,
    TensorSpec,
    WeightMap,
    read_tensor,
    release,
    specs_of,
)
from ivyport.weights.safetensors import Array, dtype_kind, numpy_dtype
from ivyport.weights.store import MAX_SHARD_BYTES, Pending, TensorStore, write

UNPORTED = "unported.safetensors"
HOME_METADATA: Mapping[str, str] = MappingProxyType({"format": "pt"})


def convert(
    source: Tensors,
    weight_map: WeightMap,
    out_folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    keep_unused: bool = False,
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write the port's weights to a folder and return the files; see `store.write`.

    `dtype` (such as 'bfloat16') casts floating tensors, and no others. `keep_unused`
    writes the map's unused source tensors to `unported.safetensors`, from where
    `send_home` takes them back. `progress` gets the bytes of each written block.

    Raises one WeightsError for all missing, unexpected and mis-shaped source tensors,
    and as `store.write` does; nothing is written then.
    """
    _check_dtype(dtype)
    if isinstance(source, TensorStore):
        demand_other(source.path, Path(out_folder))
    specs = specs_of(source)
    weight_map.check_source(specs)
    pending = [
        _pending(
            name,
            spec,
            partial(weight_map.read_target, name, source),
            partial(release, source, *weight_map.sources_of(name, source)),
            dtype,
        )
        for name, spec in weight_map.target_specs(specs).items()
    ]
    left = {n: specs[n] for n in weight_map.unused if keep_unused and n in specs}
    return write(
        out_folder,
        pending,
        max_shard_bytes=max_shard_bytes,
        metadata=metadata,
        progress=progress,
        extra={UNPORTED: _verbatim(source, left, None)} if left else {},
    )


def send_home(
    ported_folder: str | os.PathLike[str],
    out_folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    include_aliases: bool = False,
    metadata: Mapping[str, str] | None = HOME_METADATA,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write a port's weights in the source's names and layouts; return the files.

    The folder's `port.json` holds the weight map under "weights"; tensors of its
    `unported.safetensors`, if it is there, are written too. Constants are left out,
    because the source's checkpoints do not hold them. A tied tensor is written once,
    and with `include_aliases` under each of its names. `dtype` casts floating tensors.
    The default metadata is what transformers expects of a torch checkpoint.

    Raises one WeightsError for all tensors that do not fit the map, and for a folder
    that is not a port; nothing is written then.
    """
    _check_dtype(dtype)
    folder = Path(ported_folder)
    demand_other(folder, Path(out_folder))
    weight_map, files = _read_record(folder / PORT)
    left: Tensors = {}
    if UNPORTED in files if files is not None else (folder / UNPORTED).is_file():
        left = _unported(folder / UNPORTED, weight_map)
    if files is None:
        store = TensorStore.open(folder)
    else:
        store = TensorStore.of_files(folder, weights_files(folder, files))
    with store as port:
        return send_tensors_home(
            port,
            weight_map,
            left,
            out_folder,
            dtype=dtype,
            include_aliases=include_aliases,
            metadata=metadata,
            max_shard_bytes=max_shard_bytes,
            progress=progress,
        )


def send_tensors_home(
    port: Tensors,
    weight_map: WeightMap,
    left: Tensors,
    out_folder: str | os.PathLike[str],
    *,
    dtype: str | None = None,
    include_aliases: bool = False,
    metadata: Mapping[str, str] | None = HOME_METADATA,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """`send_home` of a port's tensors by name, with those of the source that are not in it."""
    weight_map.check_target(specs_of(port))
    made = weight_map.source_specs(specs_of(port))
    names = weight_map.home_names(
        include_aliases=include_aliases, include_constants=False
    )
    pending = [
        _pending(
            name,
            made[base],
            partial(weight_map.read_source, base, port),
            partial(release, port, *weight_map.targets_of(base)),
            dtype,
        )
        for name, base in names
    ]
    pending += _verbatim(left, specs_of(left), dtype)
    return write(
        out_folder,
        pending,
        max_shard_bytes=max_shard_bytes,
        metadata=metadata,
        progress=progress,
    )


def _unported(file: Path, weight_map: WeightMap) -> TensorStore:
    store = TensorStore.open(file)
    strange = sorted(set(store.names()) - set(weight_map.unused))
    if strange:
        raise WeightsError(
            f"{file} has {len(strange)} tensors that the port's weight map does not "
            f"list as unused, the first of them {strange[0]!r}: it is from another port"
        )
    return store


def _verbatim(
    tensors: Tensors, specs: Mapping[str, TensorSpec], dtype: str | None
) -> list[Pending]:
    """Tensors to be written under their own names and in their own layout."""
    return [
        _pending(
            name,
            spec,
            partial(read_tensor, tensors, name),
            partial(release, tensors, name),
            dtype,
        )
        for name, spec in specs.items()
    ]


def _pending(
    name: str,
    spec: TensorSpec,
    load: Callable[[], Array],
    done: Callable[[], None],
    dtype: str | None,
) -> Pending:
    stored, shape = spec
    cast = dtype is not None and dtype_kind(stored) == "floating"
    if dtype is not None and cast:
        stored = dtype
    return Pending(name, stored, shape, load, done, cast)


def _check_dtype(dtype: str | None) -> None:
    if dtype is not None:
        numpy_dtype(dtype)
        if dtype_kind(dtype) != "floating":
            raise WeightsError(f"weights are cast to floating dtypes, not to {dtype!r}")


def demand_other(source: Path, out: Path) -> None:
    """Refuse to write where weights are read.

    Raises:
        WeightsError: `out` is `source`, or the folder that it is in.
    """
    folder = source if source.is_dir() else source.parent
    if out.exists() and out.resolve() in (folder.resolve(), source.resolve()):
        raise WeightsError(
            f"writing to {out} would replace the weights that are being read; choose "
            "another folder"
        )


def _read_record(file: Path) -> tuple[WeightMap, Mapping[str, Any] | None]:
    """The weight map of a port, and the files that it lists, None where it lists none."""
    try:
        content = json.loads(file.read_bytes().decode("utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{file} cannot be read ({error.strerror}); pass a folder that "
            "`ivyport.save` has written"
        ) from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or "weights" not in content:
        raise WeightsError(f'{file} has no weight map under the key "weights"')
    told = content.get("digest")
    if told is not None and told != record_digest(content):
        raise WeightsError(
            f"{file} was changed since it was saved: port the source again"
        )
    try:
        weight_map = WeightMap.from_json(content["weights"])
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    files = content.get("files")
    return weight_map, files if isinstance(files, dict) else None
