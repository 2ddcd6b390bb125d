"""Writers that are killed at any file operation, and readers that say what is there."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ivyport.core.errors import WeightsError
from ivyport.folder import replace
from ivyport.folder.manifest import changed, read_port
from ivyport.folder.replace import replacing

#: The operations that change files, and `exchange`.
OPERATIONS: tuple[tuple[Any, str], ...] = (
    *((os, n) for n in ("open", "mkdir", "rename", "link", "symlink", "unlink")),
    *((os, n) for n in ("rmdir", "chmod", "utime", "fsync")),
    (io, "open"),
    (replace, "exchange"),
)
NAMES = ("config.json", "model.safetensors", "modeling_x.py")


class Killed(BaseException):
    """What a killed process does not live to see: no operation after it does anything."""


@contextmanager
def killed_at(limit: int) -> Iterator[list[int]]:
    """Let `limit` operations happen and none after them; gives how many were asked for."""
    asked = [0]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            asked[0] += 1
            if asked[0] > limit:
                raise Killed
            return call(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for module, name in OPERATIONS:
            patch.setattr(module, name, counted(getattr(module, name)))
        yield asked


def record(version: int) -> dict[str, Any]:
    """A record of a port that holds no weights."""
    return {
        "format": 2, "target": "jax", "file": "modeling_x.py", "class": "X",
        "config": None, "source": {"name": f"{version}"}, "weights": {},
        "modules": {}, "notes": [], "free": {},
    }  # fmt: skip


def write(folder: Path, version: int, **options: Any) -> None:
    """Put a port of small files in the place of a folder."""
    with replacing(folder, names={"modeling_x.py"}, **options) as draft:
        for name in NAMES:
            (draft.stage / name).write_text(f"{name} {version}")
        draft.describe(record(version))
        draft.commit()


def read_version(folder: Path) -> int:
    """The version of a folder that may be replaced meanwhile.

    Raises:
        WeightsError: files are of another version than ``port.json``.
    """
    held = read_port(folder)
    if changed(folder, held["files"], held["files"]):
        raise WeightsError("changed")
    return int(held["source"]["name"])


def version_of(folder: Path) -> int:
    """The version of a folder, all of whose files are of one."""
    held = read_port(folder)
    wrong = changed(folder, held["files"], held["files"])
    assert not wrong, f"{wrong} are of another version than port.json"
    assert set(held["files"]) == set(NAMES)
    return int(held["source"]["name"])
