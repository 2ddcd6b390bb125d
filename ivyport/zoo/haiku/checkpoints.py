"""Weights of haiku models from files: pickles, .npz and safetensors.

A file names its tensors by haiku's module path and the parameter's name in it:

    .pystate, .pickle, .pkl  {"params": {MODULE: {NAME: array}}, "state": {...}}, or the
                             params alone; see `ivyport.weights.unpickle` for what is read
    .npz                     params:MODULE:NAME and state:MODULE:NAME; in:ARGUMENT and out,
                             which record an example, are skipped
    .safetensors             MODULE:NAME or MODULE/NAME, with or without params: and state:
                             in front
"""

from __future__ import annotations

import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.core.errors import SourceError, WeightsError
from ivyport.weights import unpickle
from ivyport.weights.differences import Differences
from ivyport.zoo.array_files import fitted, read_npz, read_safetensors
from ivyport.zoo.haiku.model import Specs, Tree

PICKLES = (".pystate", ".pickle", ".pkl")
#: Seconds until a server that says nothing counts as absent.
TIMEOUT = 20.0

#: A tensor's collection (``params``, ``state``, or None where the file does not say), its
#: module and its name.
Key = tuple[str | None, str, str]


def load(
    path: Path, params: Specs, state: Specs, *, what: str = "the model"
) -> tuple[Tree, Tree]:
    """Parameters and state from a file, of the given shapes and dtypes.

    A number of lower precision is widened (bfloat16 to float32); nothing is narrowed.

    Raises:
        WeightsError: the file cannot be read, is truncated or is refused; or its tensors do
            not fit, in which case every difference is listed.
    """
    wanted: dict[Key, Any] = {
        (collection, module, name): spec
        for collection, tree in (("params", params), ("state", state))
        for module, own in tree.items()
        for name, spec in own.items()
    }
    found = Differences()
    given: dict[str, np.ndarray] = {}
    for key, array in read(path):
        name = _shown(_settled(key, wanted))
        if name in given:
            found.add("twice in the file", name)
        given[name] = array
    specs = {_shown(key): spec for key, spec in wanted.items()}
    arrays = fitted(given, specs, found, f"{path} does not fit {what}:")
    trees: dict[str | None, Tree] = {"params": {}, "state": {}}
    for collection, module, name in wanted:
        array = arrays[_shown((collection, module, name))]
        trees[collection].setdefault(module, {})[name] = array
    return trees["params"], trees["state"]


def _settled(key: Key, wanted: Mapping[Key, Any]) -> Key:
    """A key with its collection: the one that the model has it in, or else params."""
    collection, module, name = key
    if collection is not None:
        return key
    in_state = ("state", module, name)
    return in_state if in_state in wanted else ("params", module, name)


def _shown(key: Key) -> str:
    collection, module, name = key
    return f"{module}:{name}" if collection == "params" else f"state:{module}:{name}"


def read(path: Path) -> list[tuple[Key, np.ndarray]]:
    """The tensors of a file, whatever they are; `WeightsError` as in `load`."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if path.suffix in PICKLES:
        return list(_in_pickle(path))
    if path.suffix == ".npz":
        return list(_in_npz(path))
    if path.suffix == ".safetensors":
        return list(_in_safetensors(path))
    kinds = ", ".join((*PICKLES, ".npz", ".safetensors"))
    raise WeightsError(f"{path}: weights of haiku models are read from {kinds} files")


def _in_pickle(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    held = unpickle.load(path)
    both = (
        isinstance(held, dict) and "params" in held and set(held) <= {"params", "state"}
    )
    for collection, tree in held.items() if both else [("params", held)]:
        for module, own in _items(path, tree, collection):
            for name, array in _items(path, own, f"{collection}:{module}"):
                if not isinstance(array, np.ndarray | np.generic | int | float):
                    raise WeightsError(
                        f"{path}: {collection}:{module}:{name} is a "
                        f"{type(array).__name__}, expected an array"
                    )
                yield (collection, module, name), np.asarray(array)


def _items(path: Path, tree: Any, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise WeightsError(
            f"{path}: {where} is a {type(tree).__name__}, expected a mapping by names: "
            '{"params": {MODULE: {NAME: array}}, "state": {...}}, or the params alone'
        )
    yield from tree.items()


def _in_npz(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    for text, array in read_npz(path).items():
        if text != "out" and not text.startswith("in:"):
            yield _key(path, text, need_collection=True), array


def _in_safetensors(path: Path) -> Iterator[tuple[Key, np.ndarray]]:
    for text, array in read_safetensors(path).items():
        yield _key(path, text, need_collection=False), array


def _key(path: Path, text: str, *, need_collection: bool) -> Key:
    first, colon, rest = text.partition(":")
    collection = first if colon and first in ("params", "state") else None
    body = rest if collection else text
    separator = ":" if ":" in body else "/"
    module, found, name = body.rpartition(separator)
    if not found or not module or not name or (need_collection and collection is None):
        forms = "params:MODULE:NAME or state:MODULE:NAME"
        if not need_collection:
            forms += ", MODULE:NAME or MODULE/NAME"
        raise WeightsError(f"{path}: {text!r} does not read as {forms}")
    return collection, module, name


# ---- published files


def cache_folder() -> Path:
    """Where downloads are kept: below IVYPORT_CACHE, XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("IVYPORT_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ivyport"


def fetch(url: str, progress: Callable[[int], None] | None = None) -> Path:
    """The file at `url`, from the cache or else downloaded into it.

    It appears under its name only when it is whole. `progress` gets the bytes as they come.

    Raises:
        SourceError: it cannot be downloaded; the message says where to get it and which
            option to pass.
    """
    _, _, place = url.partition("://")
    file = cache_folder().joinpath(*place.split("/")[1:])
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _download(url, file, progress)
    except (OSError, http.client.HTTPException) as error:
        # Those of urllib are OSErrors; their reason says more than their class.
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer too, with its connection
        raise SourceError(
            f"{url} cannot be downloaded: {reason or type(error).__name__}. Get it where there "
            f"is a network and pass --weights FILE, or put it at {file}; --no-weights draws "
            "random ones instead."
        ) from error
    return file


def _download(url: str, file: Path, progress: Callable[[int], None] | None) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "ivyport"})
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with (
            os.fdopen(handle, "wb") as out,
            urllib.request.urlopen(request, timeout=TIMEOUT) as answer,
        ):
            length = answer.headers.get("Content-Length")
            shutil.copyfileobj(_Counted(answer, progress), out, 2**20)
            size = out.tell()
        if length is not None and size != int(length):
            raise OSError(f"the connection ended after {size} of {length} bytes")
        os.replace(temporary, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


class _Counted:
    """A stream that tells how much is read from it."""

    def __init__(self, stream: Any, progress: Callable[[int], None] | None) -> None:
        self.stream = stream
        self.progress = progress

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        if self.progress is not None and data:
            self.progress(len(data))
        return data
