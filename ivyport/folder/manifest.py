"""What a port's folder consists of: ``port.json`` and the files that it lists by digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ivyport.core.errors import SourceError

PORT = "port.json"
#: 1 listed no files.
FORMAT = 2
INDEX = "model.safetensors.index.json"
#: Names that ivyport may write, beside the emitted file.
_RESERVED = re.compile(
    r"config\.json|port\.json|parity\.json|README\.md|unported\.safetensors"
    r"|model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
)
_SOURCE = re.compile(r"modeling_\w+\.py")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 500_000_000
#: What a record must have for its port to be loaded, and of which kind it is.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "target": str,
    "file": str,
    "class": str,
    "config": (str, type(None)),
    "source": dict,
    "weights": dict,
    "modules": dict,
    "notes": list,
    "free": dict,
    "files": dict,
    "digest": str,
}
#: Parts of a record that change while the port stays what it is: its files, and those that a
#: `save_pretrained` has replaced and may not have removed before it was killed.
_LOOSE = ("files", "digest", "replaced")


def is_reserved(name: str) -> bool:
    """Whether ivyport writes files of this name."""
    return _RESERVED.fullmatch(name) is not None


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and digest of files of a folder, by name."""
    return {
        name: {"size": (folder / name).stat().st_size, "sha256": digest(folder / name)}
        for name in sorted(names)
    }


def changed(folder: Path, files: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Those of `names` that are missing, or not as `files` of a record describes them."""
    return [name for name in names if not _is_as(folder / name, files.get(name))]


def _is_as(path: Path, told: Any) -> bool:
    if told is None or not path.is_file():
        return False
    return path.stat().st_size == told["size"] and digest(path) == told["sha256"]


def weights_files(folder: Path, files: Mapping[str, Any]) -> list[Path]:
    """The files of the weights that a record lists.

    An index is for programs that do not read ``port.json``: it may be of another save.
    """
    return [
        folder / name for name in sorted(files) if is_weights(name) and is_plain(name)
    ]


def is_weights(name: str) -> bool:
    """Whether a port's own file of this name holds weights, as emitted files ask it."""
    return name.startswith("model") and name.endswith(".safetensors")


def read_port(folder: Path) -> dict[str, Any]:
    """``port.json`` of a saved port, whose names are plain and whose parts have their kinds.

    Raises:
        SourceError: the folder is no port, one of another version of ivyport, or damaged.
    """
    path = folder / PORT
    if not path.is_file():
        raise SourceError(f"{folder} holds no saved port: there is no {PORT} in it")
    record = parsed(path, path.read_bytes())
    if not isinstance(record, dict):
        raise damaged(path, f"it holds a {type(record).__name__} and no record")
    if record.get("format") != FORMAT:
        raise SourceError(
            f"{path} has format {_short(record.get('format'))}; this ivyport reads {FORMAT}: "
            "port the source again"
        )
    missing = [name for name in _KINDS if name not in record]
    if missing:
        raise damaged(path, f"without {', '.join(missing)}")
    for name, kind in _KINDS.items():
        if not isinstance(record[name], kind):
            raise damaged(path, f"{name} is a {type(record[name]).__name__}")
    _check_names(path, record)
    if record["digest"] != record_digest(record):
        raise damaged(path, "it was changed since it was saved")
    return record


def record_digest(record: Mapping[str, Any]) -> str:
    """The SHA-256 of what a record says of the port, the list of its files left out."""
    kept = {name: value for name, value in record.items() if name not in _LOOSE}
    # As it reads back: JSON has other keys than Python.
    read = json.loads(json.dumps(kept))
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def to_bytes(value: Any) -> bytes:
    """Indented JSON with a final newline; what is no text of Unicode is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", errors="backslashreplace")


def parsed(path: Path, data: bytes) -> Any:
    """JSON of bounded size and depth.

    Raises:
        SourceError: it cannot be read.
    """
    if len(data) > _MOST_BYTES:
        raise damaged(path, f"it has {len(data)} bytes")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error) or "nested too deep") from error


def damaged(path: Path, why: str) -> SourceError:
    """The error for a file of a port that does not read as one."""
    return SourceError(f"{path} is damaged ({_short(why)}): port the source again")


def _short(value: Any, most: int = 300) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else f"{text[:most]}..."


def _check_names(path: Path, record: Mapping[str, Any]) -> None:
    """Names become paths and attributes, so that they are names and nothing else."""
    if not _SOURCE.fullmatch(record["file"]):
        raise damaged(path, f"file is {_short(record['file'])}, no modeling_<name>.py")
    for key in ("class", "config"):
        name = record[key]
        if name is not None and (not name.isidentifier() or name.startswith("__")):
            raise damaged(path, f"{key} is {_short(name)}, no name of a class")
    for name, told in record["files"].items():
        if not is_plain(name) or name == PORT:
            raise damaged(path, f"it lists {_short(name)}, no name of a file in it")
        size = told.get("size") if isinstance(told, dict) else None
        held = told.get("sha256") if isinstance(told, dict) else None
        if type(size) is not int or size < 0 or not isinstance(held, str):
            raise damaged(path, f"it lists {_short(name)} without size and sha256")
        if not _DIGEST.fullmatch(held):
            raise damaged(path, f"the sha256 of {_short(name)} is none")
    if record["file"] not in record["files"]:
        raise damaged(path, f"it does not list {record['file']}")
    if not all(isinstance(note, str) for note in record["notes"]):
        raise damaged(path, "a note is no text")
    texts = [*record["modules"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise damaged(path, "a module's path is no text")
    for name, axes in record["free"].items():
        if not isinstance(axes, dict) or not all(
            re.fullmatch(r"\d{1,4}", axis) and isinstance(symbol, str)
            for axis, symbol in axes.items()
        ):
            raise damaged(path, f"the free axes of {_short(name)} are none")


def is_plain(name: str) -> bool:
    """Whether a name is that of a file in a folder, on every system."""
    return (
        0 < len(name) <= 255
        and name.isprintable()
        and not set(name) & set('/\\:*?"<>|')
        and name.strip(" .") != ""
    )
