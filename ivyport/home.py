"""Weights on their way home: a folder in the source's names and layouts, replaced whole."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ivyport.core.errors import InputError
from ivyport.folder import replacing, steady
from ivyport.folder.manifest import parsed, weights_files
from ivyport.folder.replace import Draft
from ivyport.guard import guarded
from ivyport.made import others, port_of
from ivyport.porting import Progress, counter, current
from ivyport.saving import (
    CONFIG,
    bytes_of,
    demand_unchanged,
    open_record,
    source_config,
    write_json,
)
from ivyport.weights.checksums import changed as changed_weights
from ivyport.weights.convert import demand_other, send_tensors_home
from ivyport.weights.convert import send_home as send_folder_home
from ivyport.weights.store import TensorStore, held_weights


@guarded
def send_home(
    ported: Any,
    folder: str | Path,
    *,
    overwrite: bool = False,
    changed: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Write a port's weights as they are now in the source's names and layouts, to `folder`.

    `ported` is a live port, as `save` takes it, or the folder of a saved one. Configuration and
    tokenizer go along where the source has them, so that transformers' `from_pretrained` reads the
    folder. The folder is replaced as a whole, and what else is kept in it stays; weights that are
    in it are replaced with `overwrite` only. With `changed`, the saved port's weights may be other
    ones than those that were saved.

    Returns the names of the port's weights that have changed since it was made.

    Raises:
        InputError: nothing is known of `ported`, or `folder` cannot be written or holds weights.
        SourceError: `ported` is a folder without a port.
        WeightsError: the weights do not fit the port's map, were changed, or cannot be written.
    """
    out = Path(folder)
    if out.suffix == ".safetensors" and not out.is_dir():
        raise InputError(
            f"{out} names a file, and what goes home is a folder: give {out.with_suffix('')}"
        )
    if isinstance(ported, str | Path):
        demand_other(Path(ported), out)
    held = held_weights(out)
    if held and not overwrite:
        raise InputError(
            f"{out} holds weights already ({held[0]}), which would be replaced. Give another "
            "folder; overwrite=True (on the command line: --overwrite) replaces them."
        )
    # Of the files that come along, those that are there stay.
    with replacing(out, overwrite=True) as draft:
        if isinstance(ported, str | Path):
            source = Path(ported)
            names = steady(source, lambda: _of_folder(source, draft, changed, progress))
        else:
            names = _of_live(ported, draft, progress)
        draft.commit(lost=held)
    return names


def _of_folder(
    source: Path, draft: Draft, changed: bool, progress: Progress | None
) -> list[str]:
    record = open_record(source)
    if not changed:
        demand_unchanged(source, record)
    send_folder_home(source, draft.stage, progress=counter(progress))
    files = weights_files(source, record.files)
    with TensorStore.of_files(source, files) as tensors:
        names = changed_weights(record.as_ported, tensors)
    values = source_config(parsed(source / CONFIG, bytes_of(source / CONFIG)))
    _bring(draft, others(source, record), values)
    return names


def _of_live(ported: Any, draft: Draft, progress: Progress | None) -> list[str]:
    port = port_of(ported)
    arrays = current(port, ported)
    send_tensors_home(
        arrays,
        port.record.weights,
        port.unused,
        draft.stage,
        progress=counter(progress),
    )
    _bring(draft, port.beside, port.config_values)
    return changed_weights(port.record.as_ported, arrays)


def _bring(draft: Draft, along: tuple[Path, ...], values: dict[str, Any]) -> None:
    """What transformers reads beside the weights; the folder's own files stay."""
    for file in along:
        if not (draft.folder / file.name).exists():
            shutil.copyfile(file, draft.stage / file.name)
    if values and not (draft.folder / CONFIG).exists():
        write_json(draft.stage / CONFIG, values)
