"""Ports whose folders were tampered with: nothing foreign runs, and no other model is loaded."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

import ivyport
from ivyport.core.errors import SourceError, WeightsError
from ivyport.folder.manifest import PORT, digest, record_digest, to_bytes
from ivyport.weights.convert import send_home
from tests.attacks.harness import attacked
from tests.support import as_numpy

OWNED = "import pathlib; pathlib.Path({!r}).write_text('ran')\n"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def port(tmp_path_factory) -> tuple[Path, Any, np.ndarray]:
    """A port of `Net` in a folder, an input, and its output."""
    torch.manual_seed(0)
    folder, x = tmp_path_factory.mktemp("port") / "out", torch.ones(2, 4)
    model = ivyport.transpile(Net().eval(), "torch", kwargs={"x": x})
    ivyport.save(model, folder)
    return folder, x, model(x=x).detach().numpy()


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / PORT).read_bytes())


def rewrite(folder: Path, **parts: Any) -> None:
    """Change parts of the record, with digests that are right."""
    record = record_of(folder) | parts
    for name in record["files"] if isinstance(record["files"], dict) else ():
        path = folder / name
        if path.is_file():
            told = {"size": path.stat().st_size, "sha256": digest(path)}
            record["files"][name] = told
    record["digest"] = record_digest(record)
    (folder / PORT).write_bytes(to_bytes(record))


def code(folder: Path, text: str) -> None:
    file = folder / record_of(folder)["file"]
    file.write_text(text + file.read_text())


def swapped_weights(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = ("first.weight", "second.weight")
    one, other = (tensors[n] for n in names)
    save_file({**tensors, names[0]: other, names[1]: one}, folder / "model.safetensors")


def swapped_map(folder: Path) -> None:
    weights = record_of(folder)["weights"]
    text = json.dumps(weights).replace("first", "#")
    text = text.replace("second", "first").replace("#", "second")
    rewrite(folder, weights=json.loads(text))


def away(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def text_of(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def cut(name: str, share: float) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def part(**parts: Any) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder, **parts)


def lost(key: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        record = record_of(folder)
        del record[key]
        (folder / PORT).write_bytes(to_bytes(record))

    return change


def ran(folder: Path) -> Path:
    return folder.parent / f"{folder.name}-ran"


FACTORY = {
    "kind": "torch",
    "rebuild": {"model": "os:abort", "inputs": ["x=float32[1]"]},
}
TAMPERED: dict[str, Callable[[Path], object]] = {
    "code": lambda f: code(f, OWNED.format(str(ran(f)))),
    "code and its digest": lambda f: (
        (
            code(f, OWNED.format(str(ran(f)))),
            rewrite(f),
        )
    ),
    "another file for the code": lambda f: (
        (
            (f / "modeling_evil.py").write_text(OWNED.format(str(ran(f)))),
            rewrite(f, file="modeling_evil.py", files={"modeling_evil.py": {}}),
        )
    ),
    "code from elsewhere": lambda f: (
        (
            (f.parent / "x.py").write_text(OWNED.format(str(ran(f)))),
            rewrite(f, file="../x.py"),
        )
    ),
    "code that is none": lambda f: code(f, "(\n"),
    "code with a null": lambda f: code(f, "\0"),
    "no code": lambda f: (f / record_of(f)["file"]).unlink(),
    "a folder for code": lambda f: (
        (
            (f / record_of(f)["file"]).unlink(),
            (f / record_of(f)["file"]).mkdir(),
        )
    ),
    "a factory": part(source=FACTORY),
    "another class": part(**{"class": "pathlib"}),
    "a class with a path": part(**{"class": "os.abort"}),
    "weights": swapped_weights,
    "weights and their digest": lambda f: (swapped_weights(f), rewrite(f)),
    "the map of the weights": swapped_map,
    "a map that is none": part(weights={"rows": 3}),
    "a map of paths": part(weights={"rows": [{"source": "../x", "target": "/"}]}),
    "cut weights": cut("model.safetensors", 0.7),
    "no weights": away("model.safetensors"),
    "empty weights": text_of("model.safetensors", ""),
    "weights of a pickle": text_of("model.safetensors", "\x80\x04N."),
    "no configuration": away("config.json"),
    "a configuration that is none": text_of("config.json", "["),
    "a configuration of NaN": text_of("config.json", '{"a": NaN}'),
    "a configuration of half a character": text_of("config.json", '{"\\ud800": 1}'),
    "no record": away(PORT),
    "an empty record": text_of(PORT, ""),
    "a list": text_of(PORT, "[]"),
    "a deep record": text_of(PORT, "[" * 100_000),
    "half a record": cut(PORT, 0.5),
    "a record and a half": lambda f: (f / PORT).write_bytes(
        (f / PORT).read_bytes() * 2
    ),
    "another format": part(format=99),
    "an odd target": part(target="os"),
    "a target of a list": part(target=["torch"]),
    "no files": part(files={}),
    "files of paths": part(files={"../../etc/passwd": {"size": 1, "sha256": "0" * 64}}),
    "an odd digest": lambda f: (f / PORT).write_bytes(
        to_bytes(record_of(f) | {"digest": "0"})
    ),
    "notes of numbers": part(notes=[1]),
    "modules of lists": part(modules={"a": []}),
    "free axes of texts": part(free={"x": {"a": "B"}}),
    "a class that is a number": part(**{"class": 3}),
    **{f"no {key}": lost(key) for key in ("files", "weights", "source", "class")},
}


def tampered(port: tuple[Path, Any, np.ndarray], folder: Path, name: str) -> None:
    shutil.copytree(port[0], folder)
    TAMPERED[name](folder)


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_folders(port, tmp_path, name):
    folder = tmp_path / "out"
    tampered(port, folder, name)
    found = attacked(lambda: ivyport.load(folder), run=True)
    assert not ran(folder).exists(), "foreign code ran"
    if name == "weights and their digest":
        # Of data that says of itself what it is, nobody knows what it was.
        return
    assert isinstance(found, str), found
    home = attacked(lambda: send_home(folder, tmp_path / "home"), run=True)
    assert not ran(folder).exists()
    if name in ("a factory", "the map of the weights"):
        return
    if not isinstance(home, str) and not name.startswith(("code", "weights")):
        whole = load_file(tmp_path / "home/model.safetensors")
        send_home(port[0], tmp_path / "right")
        right = load_file(tmp_path / "right/model.safetensors")
        assert all(np.array_equal(whole[n], right[n]) for n in right)


def test_at_least_forty():
    assert len(TAMPERED) >= 40


def test_what_is_trusted_runs(port, tmp_path):
    folder = tmp_path / "out"
    tampered(port, folder, "code")
    with pytest.raises(SourceError, match=r"trust=True .*--trust"):
        ivyport.load(folder)
    model = ivyport.load(folder, trust=True)
    assert ran(folder).read_text() == "ran"
    assert np.array_equal(model(x=port[1]).detach().numpy(), port[2])


def test_a_moved_folder_is_still_one_s_own(port, tmp_path):
    shutil.copytree(port[0], tmp_path / "elsewhere")
    model = ivyport.load(tmp_path / "elsewhere")
    assert np.array_equal(model(x=port[1]).detach().numpy(), port[2])


def test_a_neighbour_of_the_weights_is_not_read(port, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(port[0], folder)
    tensors = {n: x + 1 for n, x in load_file(folder / "model.safetensors").items()}
    for name in ("model_backup.safetensors", "model-00001-of-00002.safetensors"):
        save_file(tensors, folder / name)
    (folder / "model.safetensors.index.json").write_text("{}")
    model = ivyport.load(folder)
    assert np.array_equal(model(x=port[1]).detach().numpy(), port[2])


def test_mixed_folders_are_no_port(port, tmp_path):
    """The configuration and code of one model with the weights of another."""
    torch.manual_seed(1)
    other = ivyport.transpile(Net().eval(), "torch", kwargs={"x": port[1]})
    ivyport.save(other, tmp_path / "other" / "out")
    folder = tmp_path / "out"
    shutil.copytree(port[0], folder)
    shutil.copy(tmp_path / "other/out/model.safetensors", folder)
    with pytest.raises(WeightsError, match=r"model\.safetensors changed since"):
        ivyport.load(folder)
    ivyport.load(folder, changed=True)


def test_a_port_that_does_not_hold_is_written_only_where_it_is_kept(
    tmp_path, monkeypatch
):
    real = ivyport.verify

    def failing(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        first, *rest = found.rows
        rows = [dataclasses.replace(first, passed=False), *rest]
        return dataclasses.replace(found, rows=rows)

    x = torch.ones(2, 4)
    folder = tmp_path / "out"
    ivyport.port(Net().eval(), "torch", folder, kwargs={"x": x})
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert record_of(folder)["verified"] is True
    monkeypatch.setattr(ivyport, "verify", failing, raising=False)
    result = ivyport.port(Net().eval(), "torch", folder, kwargs={"x": x})
    assert not result.written
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    result = ivyport.port(Net().eval(), "torch", folder, kwargs={"x": x}, keep=True)
    assert result.written
    assert record_of(folder)["verified"] is False
    assert "DOES NOT HOLD" in (folder / "README.md").read_text()


def test_nan_in_the_weights_is_named(tmp_path):
    model = Net().eval()
    with torch.no_grad():
        model.second.weight[0, 0] = float("nan")
        model.first.bias[0] = float("inf")
    result = ivyport.port(
        model, "torch", tmp_path / "out", kwargs={"x": torch.ones(2, 4)}, keep=True
    )
    [note] = [n for n in result.notes if "NaN or infinity" in n]
    assert "2 of the source's weights" in note
    assert "'second.weight'" in note
    assert "'first.bias'" in note


#: Ligatures, which Python reads as the letters that they are made of.
FI, FF = "\ufb01", "\ufb00"


class Folded(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({FI: nn.Linear(4, 4), "fi": nn.Linear(4, 4)})
        self.add_module(FF, nn.Linear(4, 4))
        self.ff = nn.Linear(4, 4)

    def forward(self, x):
        x = self.parts[FI](x) - self.parts["fi"](x)
        return self._modules[FF](x) * 2 + self.ff(x)


@pytest.mark.parametrize("target", ["torch", "jax"])
def test_names_that_python_folds_together_stay_apart(tmp_path, target):
    torch.manual_seed(0)
    source, x = Folded().eval(), torch.randn(2, 4)
    model = ivyport.transpile(source, target, kwargs={"x": x})
    ivyport.save(model, tmp_path / "out")
    again = ivyport.load(tmp_path / "out")
    found = as_numpy(again(x=x if target == "torch" else x.numpy()))
    assert np.allclose(found, source(x).detach().numpy(), atol=1e-5)
    send_home(tmp_path / "out", tmp_path / "home")
    home = load_file(tmp_path / "home/model.safetensors")
    assert home.keys() == source.state_dict().keys()


def test_a_disk_that_fills_while_a_port_is_written(tmp_path, monkeypatch):
    x, folder = torch.ones(2, 4), tmp_path / "out"
    model = ivyport.transpile(Net().eval(), "torch", kwargs={"x": x})
    ivyport.save(model, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", mock.Mock(side_effect=full))
    with pytest.raises(WeightsError, match=r"No space left.*Nothing has changed"):
        ivyport.save(model, folder)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
