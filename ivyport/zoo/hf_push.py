"""A port's folder as a model repository on the Hugging Face hub.

Only the port's own files go: what else lies in the folder stays. Names of files and folders of this
machine are left out of the record.
https://huggingface.co/docs/huggingface_hub/guides/upload
"""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePath
from typing import Any

from ivyport.core.errors import DependencyError, InputError, SourceError
from ivyport.folder.manifest import record_digest
from ivyport.record import PortRecord

PORT = "port.json"
_REPO = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}(/[A-Za-z0-9][\w.\-]{0,95})?")
# Fields of an origin that may name files of this machine.
_PLACES = ("model", "inputs", "params", "file")


def demand_repo(repo: str) -> None:
    """Refuse what is no name of a repository, and a machine that is not logged in.

    Raises:
        InputError: the name, or the login, with what to do.
        DependencyError: the hub's client is not installed.
    """
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise InputError(
            f"--push-to-hub {repo!r}: give a repository such as owner/name"
        )
    try:
        from huggingface_hub import get_token
    except ImportError as error:
        raise DependencyError(
            "--push-to-hub needs the package huggingface_hub: pip install 'ivyport[hf]'"
        ) from error
    if get_token() is None:
        raise InputError(
            "--push-to-hub: this machine is not logged in to the hub. Run `hf auth login` first."
        )


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a saved port as one commit, in a new repository or an old one; its address.

    Raises:
        SourceError: the hub does not take it, with its reason. The folder is as it was.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    record = PortRecord.read(folder)
    operations = [
        CommitOperationAdd(name, str(folder / name))
        for name in files_of(folder, record)
    ]
    shared = json.dumps(public(record), indent=2, ensure_ascii=False) + "\n"
    operations.append(CommitOperationAdd(PORT, shared.encode()))
    api = HfApi()
    try:
        made = api.create_repo(repo, exist_ok=True, private=private or None)
        message = f"{record.cls} by ivyport {record.ivyport}"
        api.create_commit(made.repo_id, operations, commit_message=message)
    except Exception as error:
        # The client's errors are of several libraries; each has the hub's own reason.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"pushing to {repo} failed: {reason[0]}. The port is whole in {folder}; "
            f"`hf upload {repo} {folder}` tries again."
        ) from error
    return str(made)


def files_of(folder: Path, record: PortRecord) -> list[str]:
    """The names of the port's files, but for its record."""
    names = [name for name in record.files if PurePath(name).name == name != PORT]
    return [name for name in names if (folder / name).is_file()]


def public(record: PortRecord) -> dict[str, Any]:
    """A record without the places of this machine: of a path the last name is left."""
    source = {k: v for k, v in record.source.items() if k != "from"}
    rebuild = source.get("rebuild")
    if isinstance(rebuild, dict):
        named = {
            k: v for k, v in rebuild.items() if k in _PLACES and isinstance(v, str)
        }
        kept = {
            k: PurePath(v).name
            for k, v in named.items()
            if PurePath(v).is_absolute() or v.startswith((".", "~"))
        }
        source["rebuild"] = rebuild | kept
    shared = {**record.to_json(), "source": source}
    return {**shared, "digest": record_digest(shared)}


__all__ = ["demand_repo", "files_of", "public", "push"]
