"""The saved folder: what `ivyport.save` writes and `ivyport.load` reads, beside its weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ivyport.core.errors import SourceError, WeightsError
from ivyport.folder import manifest
from ivyport.folder.manifest import PORT
from ivyport.record import PortRecord
from ivyport.targets import TARGETS

#: What the card says of a port whose outputs alone were compared.
COMPARED = (
    "When the port was made, its outputs on the example inputs were those of the source. "
    "Gradients, other sizes and train mode were not compared: `ivyport.verify` does that."
)
CONFIG = "config.json"
UNPORTED = "unported.safetensors"
#: Settings by which transformers chooses a class of its own.
_CHOOSING = ("model_type", "architectures", "auto_map", "transformers_weights")
#: Where ``config.json`` of a port keeps them.
_SOURCE = "ported_from"
#: Fields that name things, and of which no number depends. Those that begin with an underscore
#: tell where a configuration came from.
_NAMING = (
    *_CHOOSING, _SOURCE, "transformers_version", "id2label", "label2id", "tokenizer_class",
    "finetuning_task", "task_specific_params",
)  # fmt: skip

__all__ = [
    "COMPARED",
    "CONFIG",
    "PORT",
    "UNPORTED",
    "built_in",
    "bytes_of",
    "demand_unchanged",
    "file_of",
    "open_record",
    "source_config",
    "weights_digest",
    "write_json",
    "written_config",
]


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a final newline, in place of what was there."""
    path.write_bytes(manifest.to_bytes(value))


def open_record(folder: Path) -> PortRecord:
    """``port.json`` of a saved port, for a target that there is.

    Raises:
        SourceError: the folder is no port, one of another ivyport, or damaged.
        WeightsError: its weight map contradicts itself.
    """
    record = PortRecord.read(folder)
    if record.target not in TARGETS:
        raise manifest.damaged(folder / PORT, f"its target is {record.target!a}")
    return record


def file_of(folder: Path, record: PortRecord) -> bytes:
    """The emitted source of a saved port.

    Raises:
        SourceError: it is missing, or cannot be read.
    """
    try:
        return (folder / record.file).read_bytes()
    except OSError as error:
        raise SourceError(
            f"{folder}: the emitted source {record.file} is missing ({error.strerror})"
        ) from error


def bytes_of(path: Path) -> bytes:
    """The content of a file of a port.

    Raises:
        WeightsError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path} is missing or cannot be read ({error.strerror}). Put back what was saved, "
            "or port the source again."
        ) from error


def demand_unchanged(folder: Path, record: PortRecord) -> None:
    """Demand the data of a port as it was saved: configuration and weights.

    Raises:
        WeightsError: naming the files that are missing or other ones.
    """
    data = [n for n in record.files if n == CONFIG or n.endswith(".safetensors")]
    wrong = manifest.changed(folder, record.files, data)
    if wrong:
        raise WeightsError(
            f"{folder}: {', '.join(wrong)} changed since the port was saved: damaged, or of "
            "another port. Put back what was saved, or port the source again. What you changed "
            "yourself is loaded with changed=True."
        )


def weights_digest(record: PortRecord) -> str:
    """One SHA-256 for all weights that a record lists."""
    held = {
        name: told["sha256"]
        for name, told in sorted(record.files.items())
        if manifest.is_weights(name)
    }
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def written_config(values: Mapping[str, Any], target: str) -> dict[str, Any]:
    """A source's configuration as ``config.json`` of a port says it.

    transformers would take a port to JAX for the source's own checkpoint, and draw at random what
    it misses. There the model's type, by which `AutoModel` chooses, is the port's, and the file
    that a class of transformers is to read (``transformers_weights``) is none.
    """
    if TARGETS[target].loadable or not any(key in values for key in _CHOOSING):
        return dict(values)
    kept = {key: value for key, value in values.items() if key not in _CHOOSING}
    # No dict: transformers takes one that has a model's type for a part's configuration.
    told = [[key, values[key]] for key in _CHOOSING if key in values]
    none = f"none-for-transformers-this-is-a-port-to-{target}.safetensors"
    own = {"model_type": f"ivyport_{target}", "transformers_weights": none}
    return {**own, _SOURCE: told, **kept}


def built_in(values: Mapping[str, Any], followed: Collection[str]) -> dict[str, Any]:
    """Fields of a port's ``config.json`` that its code does not follow, as JSON reads them back.

    `followed` are the fields of the emitted configuration class. A changed value of another one
    would change nothing in the port, so that loading it refuses that. Names and versions are left
    out, and so are values that are not equal to themselves (NaN).
    """
    text = json.dumps(dict(values))
    again = json.loads(text)
    return {
        field: value
        for field, value in json.loads(text).items()
        if field not in followed
        and field not in _NAMING
        and not field.startswith("_")
        and value == again[field]
    }


def source_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The source's own configuration of what `written_config` made of it."""
    told = values.get(_SOURCE)
    pairs = told if isinstance(told, list) else []
    if not pairs or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        return dict(values)
    own = {key: value for key, value in values.items() if key != _SOURCE}
    for key in _CHOOSING:
        own.pop(key, None)
    return {**own, **{str(key): value for key, value in pairs}}
