"""Finding a Hugging Face model's files: a local folder, the hub's cache, or the hub.

The rest of `ivyport.zoo.hf` sees a folder only. Only `config.json`, safetensors files and
the data of tokenizers and processors (`hf_beside.NAMES`) are ever fetched, and nothing in a
folder is executed.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ivyport.core.errors import DependencyError, SourceError
from ivyport.zoo.hf_beside import CARD, NAMES

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_PATTERN = "model-*-of-*.safetensors"

# A hub that does not answer in this time counts as absent. Both the request and the
# name look-up before it are bounded: the system's resolver may try for much longer.
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 10.0

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)?")
_SNAPSHOT = re.compile(r"models--(?P<id>.+)/snapshots/(?P<revision>[^/]+)")
# Folder names that say nothing about the model in them; the parent's name is used
# instead.
_PLAIN_NAMES = frozenset(
    {
        "checkpoint",
        "ckpt",
        "final",
        "hf",
        "main",
        "model",
        "models",
        "snapshot",
        "snapshots",
        "weights",
    }
)

T = TypeVar("T")


@dataclass(frozen=True)
class Located:
    """A model folder on this machine and what it may be called in a port's files."""

    folder: Path
    id: str  # the hub id, or the folder's name: never a path of this machine
    name: str  # safe as an identifier and as a part of a file name
    revision: str | None  # the commit, where known


def safe_name(model_id: str) -> str:
    """A short lower-case identifier from a hub id or a folder path.

    The last part that says something: `sentence-transformers/all-MiniLM-L6-v2` gives
    `all_minilm_l6_v2`, and `bert_tiny/model` gives `bert_tiny`.
    """
    names = []
    for part in reversed(re.split(r"[/\\]+", model_id)):
        name = re.sub(r"[^0-9a-z]+", "_", part.lower()).strip("_")
        if name:
            names.append(name)
    chosen = next((name for name in names if name not in _PLAIN_NAMES), None)
    name = chosen or (names[0] if names else "model")
    return f"m_{name}" if name[0].isdigit() else name


def is_folder(model_id: str) -> bool:
    """Whether a model argument means a folder that exists here."""
    return Path(model_id).expanduser().is_dir()


def locate(
    model_id: str,
    *,
    weights: bool,
    revision: str | None = None,
    local_only: bool | None = None,
) -> Located:
    """The folder of a model: local, or fetched from the hub into its cache.

    A folder of that name here comes first. `revision` is a hub branch, tag or commit.
    With `local_only`, or with `HF_HUB_OFFLINE=1`, only the cache is read. Without
    `weights`, only `config.json` is fetched.

    Raises SourceError where there is nothing to be had, saying which of the causes it
    is.
    """
    path = Path(model_id).expanduser()
    if path.is_dir():
        found = _local(path)
        if revision is not None and revision != found.revision:
            raise SourceError(
                f"revision {revision!r} was asked of the local folder {model_id!r}; "
                "revisions belong to hub ids"
            )
        return found
    if path.exists():
        raise SourceError(
            f"{model_id!r} is a file; give the folder that holds {CONFIG_FILE} and the "
            "safetensors weights"
        )
    if not _HUB_ID.fullmatch(model_id) or ".." in model_id:
        raise SourceError(
            f"there is no folder {model_id!r}, and this is no hub id either (those "
            "look like 'owner/name')"
        )
    return _from_hub(model_id, weights, revision, local_only)


def _local(path: Path) -> Located:
    """A folder as given; one inside the hub's cache keeps its id and commit."""
    folder = path.resolve()
    match = _SNAPSHOT.search(folder.as_posix())
    if match:
        model_id = match["id"].replace("--", "/")
        return Located(folder, model_id, safe_name(model_id), match["revision"])
    plain = folder.name.lower() in _PLAIN_NAMES and len(folder.parts) > 2
    shown = "/".join(folder.parts[-2:]) if plain else folder.name
    return Located(folder, shown, safe_name(shown), None)


def _from_hub(
    model_id: str, weights: bool, revision: str | None, local_only: bool | None
) -> Located:
    try:
        import huggingface_hub
    except ImportError as error:
        raise DependencyError(
            f"fetching {model_id!r} needs the package huggingface_hub; install "
            "'ivyport[hf]', or give a local folder"
        ) from error
    # Whatever cuts the network off is said in the message: a user who set the offline
    # switch in a shell profile long ago should find it there.
    offline = huggingface_hub.constants.is_offline_mode()
    if local_only or offline:
        cause = (
            "HF_HUB_OFFLINE is set" if offline else "local files only were asked for"
        )
        folder = _cached(model_id, weights, revision)
        if folder is None:
            raise SourceError(_absent(model_id, cause))
        return _local(folder)
    try:
        files = _hub_files(model_id, revision)
    except _Unreachable as error:
        folder = _cached(model_id, weights, revision)
        if folder is None:
            raise SourceError(
                _absent(model_id, f"no network, or the hub does not answer ({error})")
            ) from error
        return _local(folder)
    return _local(_download(model_id, files, weights, revision))


def _absent(model_id: str, cause: str) -> str:
    return (
        f"{model_id!r} is no folder here, and it cannot be fetched from the Hugging "
        f"Face hub: {cause}, and it is not in the local cache. A local folder with "
        f"{CONFIG_FILE} and {WEIGHTS_FILE} works without a network"
        f"{_table_hint(model_id)}"
    )


def _table_hint(model_id: str) -> str:
    from ivyport.zoo.hf_configs import published_id

    if published_id(model_id) is None:
        return ""
    return "; so does this id with random weights (--no-weights, weights=False)"


class _Unreachable(Exception):
    """The hub did not answer; the message is the short reason."""


def _hub_files(model_id: str, revision: str | None) -> list[str]:
    """The file names of a hub model; raises _Unreachable or SourceError."""
    from huggingface_hub import HfApi, errors

    try:
        info = _within(
            ANSWER_SECONDS,
            lambda: HfApi().model_info(
                model_id, revision=revision, timeout=REQUEST_SECONDS
            ),
        )
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{model_id!r} is gated on the hub: accept its terms there and log in with "
            "`hf auth login`, or give a local folder"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(
            f"{model_id!r} has no revision {revision!r} on the hub"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no model {model_id!r} that you may read, and there is no "
            "folder of that name here"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _Unreachable(f"HTTP status {error.response.status_code}") from error
    except TimeoutError as error:
        raise _Unreachable(f"no answer within {ANSWER_SECONDS:g} s") from error
    except errors.HFValidationError as error:
        raise SourceError(f"{model_id!r} is no hub id: {error}") from error
    except Exception as error:
        # The client's own transport errors: their classes depend on its HTTP library.
        raise _Unreachable(f"{type(error).__name__}: {error}") from error
    return [sibling.rfilename for sibling in info.siblings or []]


def _download(
    model_id: str, files: list[str], weights: bool, revision: str | None
) -> Path:
    from huggingface_hub import snapshot_download

    if CONFIG_FILE not in files:
        raise SourceError(f"{model_id!r} on the hub has no {CONFIG_FILE}")
    if weights and WEIGHTS_FILE not in files and INDEX_FILE not in files:
        raise SourceError(_no_safetensors(f"{model_id!r} on the hub", files))
    try:
        folder = snapshot_download(
            model_id, revision=revision, allow_patterns=_patterns(weights, files)
        )
    except Exception as error:
        raise SourceError(
            f"fetching {model_id!r} from the hub failed: {type(error).__name__}: "
            f"{error}"
        ) from error
    return Path(folder)


def _patterns(weights: bool, files: list[str] | None = None) -> list[str]:
    """What to fetch; a repository with one file and with shards gives the one file."""
    if not weights:
        return [CONFIG_FILE]
    beside = [name for name in (*NAMES, CARD) if name in (files or ())]
    if files is not None and WEIGHTS_FILE in files:
        return [CONFIG_FILE, WEIGHTS_FILE, *beside]
    return [CONFIG_FILE, INDEX_FILE, SHARD_PATTERN, *beside]


def _cached(model_id: str, weights: bool, revision: str | None) -> Path | None:
    """The cached snapshot with the files that are needed, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(model_id, revision=revision, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        return None
    if not (folder / CONFIG_FILE).is_file():
        return None
    if weights and not any(
        (folder / name).is_file() for name in (WEIGHTS_FILE, INDEX_FILE)
    ):
        return None
    return folder


def no_safetensors_in(folder: Path) -> str:
    """The message for a folder without safetensors weights."""
    return _no_safetensors(
        f"the folder {folder.name!r}", sorted(path.name for path in folder.iterdir())
    )


def _no_safetensors(where: str, files: list[str]) -> str:
    pickled = [f for f in files if f.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl"))]
    other = [f for f in files if f.endswith(".safetensors")]
    message = f"{where} has no {WEIGHTS_FILE} (nor {INDEX_FILE})"
    if other:
        message += f"; its safetensors files are named otherwise: {', '.join(other)}"
    elif pickled:
        message += (
            f"; its weights are pickled ({', '.join(pickled)}), and loading a pickle "
            "runs code from it. Convert them with transformers "
            "(model.save_pretrained(folder) writes safetensors), or give the "
            "--revision of a safetensors conversion"
        )
    return f"{message}. Random weights need no file (--no-weights, weights=False)"


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Run a call in a thread, for at most some seconds; TimeoutError after that."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            answer.set_exception(error)

    # A daemon: a look-up that hangs in the system's resolver cannot be interrupted, and
    # must not keep the process alive.
    threading.Thread(target=run, daemon=True, name="ivyport-hub").start()
    return answer.result(timeout=seconds)
