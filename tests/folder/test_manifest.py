"""port.json: what is refused, in words and at once."""

from __future__ import annotations

import json

import pytest

from ivyport.core.errors import SourceError
from ivyport.folder import trust
from ivyport.folder.manifest import PORT, read_port, record_digest, to_bytes
from tests.folder.killing import write

FILE = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, '{"format": 2', "null", "3", '"text"', "\ufeff{}", "{}"],
)
def test_a_damaged_record_is_one_sentence(tmp_path, text):
    (tmp_path / PORT).write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"port\.json") as error:
        read_port(tmp_path)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("file", "../x.py"),
        ("file", "/tmp/modeling_x.py"),
        ("file", "modeling_x.py\n"),
        ("file", "modeling_../x.py"),
        ("file", "os.py"),
        ("file", "modeling_y.py"),
        ("file", 3),
        ("class", "os.abort"),
        ("class", "__import__"),
        ("config", "a b"),
        ("files", []),
        ("files", {"../secret": FILE}),
        ("files", {"a\\b": FILE}),
        ("files", {"..": FILE}),
        ("files", {"\x1b[2J": FILE}),
        ("files", {"port.json": FILE}),
        ("files", {"modeling_x.py": {"size": "1", "sha256": "0" * 64}}),
        ("files", {"modeling_x.py": {"size": 1, "sha256": "x"}}),
        ("notes", [3]),
        ("modules", {"a": 3}),
        ("free", {"x": {"-1": "B"}}),
        ("source", "os:abort"),
        ("target", ["jax"]),
    ],
)
def test_names_are_names(tmp_path, key, value):
    write(tmp_path / "out", 1)
    record = json.loads((tmp_path / "out" / PORT).read_bytes())
    record[key] = value
    record["digest"] = record_digest(record)
    (tmp_path / "out" / PORT).write_bytes(to_bytes(record))
    with pytest.raises(SourceError, match="is damaged"):
        read_port(tmp_path / "out")


def test_a_changed_record_is_no_record(tmp_path):
    write(tmp_path / "out", 1)
    path = tmp_path / "out" / PORT
    record = json.loads(path.read_bytes())
    record["source"]["rebuild"] = {"model": "os:abort"}
    path.write_bytes(to_bytes(record))
    with pytest.raises(SourceError, match="changed since"):
        read_port(tmp_path / "out")


def test_what_is_no_text_of_unicode_is_read_back(tmp_path):
    value = {"a\udc80": "\ud800", "\ufb01": "fi"}
    assert json.loads(to_bytes(value)) == value


def test_what_was_emitted_here_is_known_to_later_processes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file, known = tmp_path / "modeling_x.py", "d" * 64
    with pytest.raises(SourceError, match=r"trust=True .*--trust"):
        trust.demand_trust(file, b"code", known, trust=False)
    trust.demand_trust(file, b"code", known, trust=True)
    trust.remember(b"code", known)
    monkeypatch.setattr(trust, "_emitted", set())
    trust.demand_trust(file, b"code", known, trust=False)
    for code, digest in ((b"code ", "d" * 64), (b"code", "e" * 64)):
        with pytest.raises(SourceError):
            trust.demand_trust(file, code, digest, trust=False)
    assert oct(trust.state_file().stat().st_mode & 0o777) == "0o600"


def test_a_state_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    file, known = tmp_path / "modeling_x.py", "f" * 64
    trust.remember(b"code", known)
    trust.demand_trust(file, b"code", known, trust=False)
