"""`--push-to-hub`, against a server on this machine that answers as the hub does."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from ivyport.core.errors import InputError, SourceError
from ivyport.folder.manifest import record_digest
from ivyport.zoo import hf_push

FILE: dict[str, Any] = {"size": 3, "sha256": "0" * 64}
RECORD: dict[str, Any] = {
    "format": 2,
    "target": "jax",
    "class": "Net",
    "config": None,
    "ivyport": "0.1.0",
    "file": "modeling_net.py",
    "weights": {"rows": []},
    "modules": {},
    "notes": [],
    "free": {},
    "files": dict.fromkeys(
        (
            *("modeling_net.py", "README.md", "config.json", "tokenizer.json"),
            *("model.safetensors", "absent.json"),
        ),
        FILE,
    ),
    "digest": "",
    "source": {
        "framework": "torch",
        "from": "../../home/alice",
        "rebuild": {"model": "/home/alice/tiny", "params": "../p.safetensors", "n": 2},
    },
}
RECORD["digest"] = record_digest(RECORD)


class Hub(http.server.BaseHTTPRequestHandler):
    """Creates repositories, takes large files and commits; `state` is what it saw."""

    state: dict[str, Any]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        state = self.state
        state["tokens"].add(self.headers["Authorization"])
        if self.path == "/api/repos/create":
            told = json.loads(body)
            state["created"] = told
            if state["refuse"]:
                self._send(403, {"error": "you may not write there"})
                return
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            self._send(200, {"url": f"{state['url']}/{name}", "name": name})
        elif "/preupload/" in self.path:
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs"
                    if f["path"].endswith(".safetensors")
                    else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})
        elif self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {
                    **o,
                    "authenticated": True,
                    "actions": {"upload": {"href": f"{state['url']}/lfs/{o['oid']}"}},
                }
                for o in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})
        elif self.path == "/api/validate-yaml":
            state["card"] = json.loads(body)["content"]
            self._send(200, {"errors": [], "warnings": []})
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            state["path"] = self.path
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    state["message"] = value["summary"]
                elif line["key"] == "file":
                    state["files"][value["path"]] = base64.b64decode(value["content"])
                else:
                    state["files"][value["path"]] = state["blobs"][value["oid"]]
            url = f"{state['url']}/me/net/commit/1"
            self._send(200, {"commitUrl": url, "commitOid": "1", "success": True})
        else:
            self._send(404, {"error": self.path})

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.state["blobs"][hashlib.sha256(data).hexdigest()] = data
        self._send(200, {})

    def do_GET(self) -> None:
        self._send(404, {"error": "no such file"})

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


# Of huggingface_hub's own upload with the HTTP library of the day.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch):
    state: dict[str, Any] = {"blobs": {}, "files": {}, "tokens": set(), "refuse": False}
    handler = type("Handler", (Hub,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state["url"] = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", state["url"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_only_for_this_test")
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "port.json").write_text(json.dumps(RECORD))
    for name in ("modeling_net.py", "README.md", "config.json", "tokenizer.json"):
        (folder / name).write_text(name)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    (folder / "notes.txt").write_text("the user's own")
    (folder / ".env").write_text("TOKEN=x")
    return folder


def test_the_ports_own_files_are_one_commit(hub, folder):
    address = hf_push.push(folder, "me/net", private=True)
    assert address == f"{hub['url']}/me/net"
    assert hub["created"]["name"] == "net"
    assert (
        hub["created"].get("private") or hub["created"].get("visibility") == "private"
    )
    assert hub["path"].startswith("/api/models/me/net/commit/main")
    assert hub["message"] == "Net by ivyport 0.1.0"
    assert hub["card"] == "README.md"  # the hub has seen its header
    names = {"modeling_net.py", "README.md", "config.json", "tokenizer.json"}
    assert set(hub["files"]) == names | {"model.safetensors", "port.json"}
    assert hub["files"]["model.safetensors"] == bytes(range(256)) * 40
    assert all(hub["files"][name] == name.encode() for name in names)
    assert hub["tokens"] == {"Bearer hf_only_for_this_test"}


def test_a_file_outside_of_the_folder_is_not_uploaded(hub, folder):
    listed = {**RECORD["files"], "../secret.txt": FILE}
    (folder / "port.json").write_text(json.dumps({**RECORD, "files": listed}))
    with pytest.raises(SourceError, match="no name of a file"):
        hf_push.push(folder, "me/net")
    assert not hub["files"]


def test_no_place_of_this_machine_is_uploaded(hub, folder):
    hf_push.push(folder, "me/net")
    record = json.loads(hub["files"]["port.json"])
    assert "alice" not in json.dumps(record)
    assert record["source"]["rebuild"] == {
        "model": "tiny",
        "params": "p.safetensors",
        "n": 2,
    }
    assert record["digest"] == record_digest(record)
    assert json.loads((folder / "port.json").read_text()) == RECORD


def test_a_refusal_of_the_hub_is_said_and_the_folder_stays(hub, folder):
    hub["refuse"] = True
    with pytest.raises(SourceError, match="pushing to me/net failed") as caught:
        hf_push.push(folder, "me/net")
    assert f"hf upload me/net {folder}" in str(caught.value)
    assert hub["files"] == {}


@pytest.mark.parametrize("repo", ["a/b/c", "", "../x", "a b", "a/-b", "x" * 200])
def test_what_is_no_repository_is_refused_before_any_work(repo):
    with pytest.raises(InputError, match="give a repository such as owner/name"):
        hf_push.demand_repo(repo)


def test_without_a_login_nothing_is_begun(monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="hf auth login"):
        hf_push.demand_repo("me/net")
