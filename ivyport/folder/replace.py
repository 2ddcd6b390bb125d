"""A folder is replaced whole: whoever looks finds the old one or the new one, and never a mix.

The new folder is made beside the old one, in a hidden folder of the run's own, and both trade
places at the end, in one step where the system can (`exchange`). What the user keeps in the old
folder comes along. A process may be killed at any place: what it leaves is removed by the next one
that writes there, which tells the dead from the living by the lock that each run holds.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ivyport.core.errors import InputError
from ivyport.folder import manifest
from ivyport.folder.exchange import exchange
from ivyport.folder.locks import Lock, locked

_SUFFIX = ".ivyport"
_MOST_CARRIED = 20_000
#: Python makes it again.
_CACHE = "__pycache__"
_PROBE = 2**16


class Draft:
    """A folder in the making.

    Attributes:
        folder: what it will replace.
        stage: where its files are to be written.
    """

    def __init__(self, folder: Path, run: Path, overwrite: bool) -> None:
        self.folder, self.stage = folder, run / "new"
        self._run, self._overwrite = run, overwrite
        self._digests: dict[tuple[Any, ...], str] = {}

    def describe(self, record: dict[str, Any]) -> None:
        """Write ``port.json``: the record, with size and digest of every file of the stage."""
        names = sorted(p.name for p in self.stage.iterdir() if p.name != manifest.PORT)
        record["files"] = {name: self._told(self.stage / name) for name in names}
        record.pop("replaced", None)
        record["digest"] = manifest.record_digest(record)
        (self.stage / manifest.PORT).write_bytes(manifest.to_bytes(record))

    def demand_space(self, size: int) -> None:
        """Demand that the disk has room for `size` more bytes.

        Raises:
            InputError: it has not.
        """
        free = shutil.disk_usage(self.stage).free
        if free < size:
            raise InputError(
                f"{self.folder} needs about {size} bytes and its disk has {free} left. Give a "
                "folder on another one."
            )

    def check(self, names: set[str]) -> None:
        """Refuse to replace what ivyport did not write.

        `names` are to be written, beside those that ivyport always writes.

        Raises:
            InputError: files of those names are in the folder that ``port.json`` does not list,
                or that were changed since.
        """
        if self._overwrite or not self.folder.is_dir():
            return
        owned = _owned(self.folder)
        foreign, changed = [], []
        for name in sorted(os.listdir(self.folder)):
            if name in owned:
                if owned[name] is not None and not self._is_as(name, owned[name]):
                    changed.append(name)
            elif name in names or manifest.is_reserved(name):
                foreign.append(name)
        if foreign or changed:
            raise InputError(_refusal(self.folder, foreign, changed))

    def commit(self, *, lost: Iterable[str] = ()) -> None:
        """Put the stage in the folder's place, without the files of the names in `lost`.

        Raises:
            InputError: as `check` does.
        """
        names = {path.name for path in self.stage.iterdir()}
        for name in sorted(names):
            _flush(self.stage / name)
        with locked(_lock_of(self.folder)):
            self.check(names)
            self._swap(self._carry(names, set(lost)))

    # ---- parts

    def _told(self, path: Path) -> dict[str, Any]:
        """Size and digest; a file that stays as it is, is read once."""
        found = path.stat()
        key = (found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = manifest.digest(path)
        return {"size": found.st_size, "sha256": self._digests[key]}

    def _is_as(self, name: str, told: Any) -> bool:
        path = self.folder / name
        return path.is_file() and self._told(path) == told

    def _carry(self, names: set[str], gone: set[str]) -> set[str]:
        """Bring what the user keeps in the folder along; the names that the old one may lose."""
        if self.folder.is_dir():
            lost = {*names, *gone, *_owned(self.folder), _CACHE}
            shutil.copymode(self.folder, self.stage)
            _link(self.folder, self.stage, lost, [0])
        else:
            lost = {*names, _CACHE}
        _flush(self.stage)
        return lost

    def _swap(self, lost: set[str]) -> None:
        parent = self.folder.parent
        if not self.folder.exists():
            os.rename(self.stage, self.folder)
            _flush(parent)
            return
        old = self.stage
        if not exchange(self.stage, self.folder):
            old = self._run / "old"
            os.rename(self.folder, old)
            try:
                os.rename(self.stage, self.folder)
            except OSError:
                os.rename(old, self.folder)
                raise
        _flush(parent)
        # What came into the old folder since it was looked through.
        for entry in sorted(os.scandir(old), key=lambda e: e.name):
            place = self.folder / entry.name
            if entry.name not in lost and not os.path.lexists(place):
                os.rename(entry.path, place)


@contextlib.contextmanager
def replacing(
    folder: Path, *, names: set[str] | None = None, overwrite: bool = False
) -> Iterator[Draft]:
    """A draft of `folder`, which `Draft.commit` puts in its place; without that it vanishes.

    Whether the folder can be written is found out here, before any work is done. `names` are files
    to be written beside those that ivyport always writes. With `overwrite` files of the user's that
    have the names of the port's are replaced.

    Raises:
        InputError: the folder cannot be written, or as `Draft.check` does.
    """
    made: list[Path] = []
    try:
        folder = _target(Path(folder))
        run, lock = _begun(folder, made)
    except OSError as error:
        _remove_empty(made)
        raise _unwritable(folder, error) from error
    try:
        draft = Draft(folder, run, overwrite)
        with locked(_lock_of(folder)):
            draft.check(names or set())
        yield draft
    finally:
        _end(run, lock, made)


def settled(folder: Path) -> bool:
    """Put a folder back that a run was killed over between two steps; whether it is there now.

    Only where a system cannot swap two folders at once there is such a moment.
    """
    folder = Path(os.path.realpath(folder))
    if not folder.exists() and _runs(folder):
        with contextlib.suppress(OSError), locked(_lock_of(folder)):
            _clean(folder)
    return folder.exists()


def _target(folder: Path) -> Path:
    """The real place of a folder to be written.

    Raises:
        InputError: it is none, or cannot be replaced as a whole.
    """
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{folder} is a link to nothing. Give another folder.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: a file of that name exists. Give another folder.")
    real = Path(os.path.realpath(folder))
    why = None
    if os.path.ismount(real):
        why = "it is where a file system is mounted"
    elif real == (here := Path(os.path.realpath("."))) or real in here.parents:
        why = "the process works in it"
    elif real.exists() and not os.access(real, os.W_OK | os.X_OK):
        why = "it may not be written"
    if why is not None:
        raise InputError(
            f"{folder} cannot be replaced as a whole, because {why}. Give a folder of the "
            f"port's own, like {folder / 'port'}."
        )
    return real


def _begun(folder: Path, made: list[Path]) -> tuple[Path, Lock]:
    """A hidden folder of this run's own, and its lock; leftovers of killed runs are removed.

    Folders that have to be there before go to `made`.
    """
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            made.append(parent)
    run = folder.parent / f".{folder.name}.{secrets.token_hex(6)}{_SUFFIX}"
    lock = Lock(run.with_name(f"{run.name}-run"))
    try:
        with locked(_lock_of(folder)):
            _clean(folder)
            lock.acquire(wait=True)
            run.mkdir()
            (run / "new").mkdir()
        probe = run / "probe"
        # A full disk says so when it has to keep something.
        with probe.open("wb") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except BaseException:
        _end(run, lock, made)
        raise
    return run, lock


def _end(run: Path, lock: Lock, made: list[Path]) -> None:
    """Remove what a run has made for itself, and give its lock back whatever happens."""
    try:
        shutil.rmtree(run, ignore_errors=True)
    finally:
        lock.release()
    _remove_empty(made)


def _remove_empty(folders: list[Path]) -> None:
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _runs(folder: Path) -> list[Path]:
    start = f".{folder.name}."
    try:
        names = sorted(os.listdir(folder.parent))
    except FileNotFoundError:
        return []
    return [
        folder.parent / name
        for name in names
        if name.startswith(start) and _is_run(name[len(start) :])
    ]


def _is_run(rest: str) -> bool:
    token = rest.removesuffix("-run").removesuffix(_SUFFIX)
    return len(token) == 12 and set(token) <= set("0123456789abcdef") and token != rest


def _clean(folder: Path) -> None:
    """Remove what killed runs left; a folder that one of them had moved away comes back."""
    for path in _runs(folder):
        run = path.with_name(path.name.removesuffix("-run"))
        lock = Lock(run.with_name(f"{run.name}-run"))
        if not lock.acquire(wait=False):
            continue
        try:
            old = run / "old"
            if old.is_dir() and not folder.exists():
                os.rename(old, folder)
            shutil.rmtree(run, ignore_errors=True)
        finally:
            lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.parent / f".{folder.name}{_SUFFIX}-lock"


def _owned(folder: Path) -> dict[str, Any]:
    """What ivyport wrote in a folder, by name; its own record has no digest."""
    try:
        content = json.loads((folder / manifest.PORT).read_bytes())
        files = {**content.get("replaced", {}), **content["files"]}
        listed = {n: f for n, f in files.items() if manifest.is_plain(n)}
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ):
        return {}
    # An index says nothing that the record does not say.
    return {**listed, manifest.PORT: None} | dict.fromkeys(
        {manifest.INDEX} & listed.keys()
    )


def _refusal(folder: Path, foreign: list[str], changed: list[str]) -> str:
    parts = []
    if foreign:
        parts.append(f"holds files that ivyport did not write: {_some(foreign)}")
    if changed:
        parts.append(f"holds files that were changed since: {_some(changed)}")
    return (
        f"{folder} {', and '.join(parts)}. The port would replace them. Give another folder, or "
        "move them; overwrite=True (on the command line: --overwrite) replaces them."
    )


def _some(names: list[str], most: int = 5) -> str:
    shown = ", ".join(ascii(name)[1:-1] for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"{folder} cannot be written: {error.strerror or error}. Give another folder."
    )


def _link(source: Path, target: Path, without: set[str], count: list[int]) -> None:
    """Give `target` all that `source` holds, as second names of the same files."""
    for entry in list(os.scandir(source)):
        if entry.name in without:
            continue
        count[0] += 1
        if count[0] > _MOST_CARRIED:
            raise InputError(
                f"{source} holds over {_MOST_CARRIED} files of yours, and a port is "
                "written as a whole folder. Give a folder of the port's own."
            )
        place = target / entry.name
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            place.mkdir()
            _link(Path(entry.path), place, set(), count)
            shutil.copystat(entry.path, place)
        else:
            _link_file(entry, place)


def _link_file(entry: os.DirEntry[str], place: Path) -> None:
    try:
        os.link(entry.path, place, follow_symlinks=False)
    except OSError:
        # A file system without second names.
        if not stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
            raise
        shutil.copy2(entry.path, place, follow_symlinks=False)


def _flush(path: Path) -> None:
    """Have the disk keep a file, or a folder's names."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
