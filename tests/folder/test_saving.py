"""What emitted files write with: old weights or new ones, and nothing of the user's lost."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ivyport.backends.files import described, write_pretrained


def tensors(value: float) -> dict[str, np.ndarray]:
    return {f"w{i}": np.full((4, 8), value + i, np.float32) for i in range(5)}


def listed(folder: Path) -> dict[str, Any]:
    """The files that a folder's port.json lists; each is as it says."""
    files = json.loads((folder / "port.json").read_text())["files"]
    for name, told in files.items():
        if name.endswith(".index.json"):
            continue  # for programs that do not read port.json
        data = (folder / name).read_bytes()
        assert told["size"] == len(data), name
        assert told["sha256"] == hashlib.sha256(data).hexdigest(), name
    return files


def read(folder: Path) -> dict[str, np.ndarray]:
    """What a reader of the folder finds: the weights that port.json lists, or a checkpoint's."""
    if not (folder / "port.json").is_file():
        return load_file(folder / "model.safetensors")
    found: dict[str, np.ndarray] = {}
    for name in listed(folder):
        if name.startswith("model") and name.endswith(".safetensors"):
            found |= load_file(folder / name)
    return found


def indexed(folder: Path) -> float:
    """The value for a reader that knows nothing of port.json, as transformers reads."""
    if (folder / "model.safetensors").is_file():
        return value(folder, load_file(folder / "model.safetensors"))
    told = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {
        name: load_file(folder / name) for name in set(told["weight_map"].values())
    }
    found = {name: files[file][name] for name, file in told["weight_map"].items()}
    return value(folder, found)


def value(folder: Path, found: dict[str, np.ndarray] | None = None) -> float:
    """The value that all of the folder's tensors were made with; they are of one writer."""
    found = read(folder) if found is None else found
    assert found.keys() == tensors(0).keys()
    values = {float(found[name][0, 0]) - int(name[1:]) for name in found}
    assert len(values) == 1
    return values.pop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of a port's file."""
    folder = tmp_path / "port"
    folder.mkdir()
    texts = {
        "config.json": '{"hidden_size": 8, "kept": "é"}',
        "modeling_x.py": "# the model\n",
        "vocab.txt": "a\nb\n",
        "README.md": "about the old weights",
    }
    files = {}
    for name, text in texts.items():
        (folder / name).write_text(text)
        data = text.encode()
        files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    record = {"weights": {"rows": []}, "digest": "d", "files": files}
    (folder / "port.json").write_text(json.dumps(record))
    (folder / "notes.txt").write_text("the user's")
    return folder


SIZES = {"one file": 10**9, "shards": 300, "a shard a tensor": 1}
TWICE = list(itertools.product(SIZES.values(), repeat=2))


@pytest.mark.parametrize("most", SIZES.values(), ids=SIZES)
def test_weights_configuration_and_the_ports_files_are_written(home, tmp_path, most):
    out = tmp_path / "new" / "folder"
    file = home / "modeling_x.py"
    write_pretrained(out, file, {"hidden_size": 9}, tensors(7), save_file, most)
    assert value(out) == 7
    values = json.loads((out / "config.json").read_text())
    assert values == {"hidden_size": 9, "kept": "é"}
    names = {p.name for p in out.iterdir() if not p.name.startswith("model")}
    assert names == {"config.json", "port.json", "vocab.txt"}
    assert (out / "modeling_x.py").read_text() == "# the model\n"
    assert set(listed(out)) == {p.name for p in out.iterdir()} - {"port.json"}
    assert not (out / "model.safetensors").exists()
    assert indexed(out) == 7
    record = json.loads((out / "port.json").read_text())
    assert record == {
        "weights": {"rows": []},
        "digest": "d",
        "files": listed(out),
        "replaced": {},
    }


@pytest.mark.parametrize(("first", "then"), TWICE)
def test_only_the_last_weights_are_left(home, first, then):
    (home / "model_step1000.safetensors").write_bytes(b"mine")
    file = home / "modeling_x.py"
    write_pretrained(home, file, {}, tensors(1), save_file, first)
    write_pretrained(home, file, {}, tensors(2), save_file, then)
    assert value(home) == 2
    count = {10**9: 1, 300: 3, 1: 5}[then]
    weights = [p.name for p in home.glob("model*.safetensors")]
    assert len(weights) == count + 1
    assert (home / "model_step1000.safetensors").read_bytes() == b"mine"
    assert (home / "notes.txt").read_text() == "the user's"
    assert not list(home.glob(".*"))


def whole(home: Path) -> None:
    """Put weights of the value 1 there as `ivyport.save` does, in one file without an index."""
    for path in (*home.glob("model.*"), *home.glob("model-*")):
        path.unlink()
    save_file(tensors(1), home / "model.safetensors")
    record = json.loads((home / "port.json").read_text())
    names = ("config.json", "modeling_x.py", "vocab.txt", "model.safetensors")
    record["files"] = {name: described(home / name) for name in names}
    record.pop("replaced", None)
    (home / "port.json").write_text(json.dumps(record))


@pytest.mark.parametrize(("first", "then"), [*TWICE, *((0, n) for n in SIZES.values())])
def test_a_writer_that_dies_leaves_the_old_weights_or_the_new(
    home, monkeypatch, first, then
):
    file, seen = home / "modeling_x.py", set()
    replace, unlink = os.replace, Path.unlink
    for stop in itertools.count(1):
        if first:
            write_pretrained(home, file, {}, tensors(1), save_file, first)
        else:
            whole(home)
        done = 0

        def counted(call: Any, *args: Any, stop: int = stop, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done == stop:
                raise KeyboardInterrupt
            return call(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", functools.partial(counted, replace))
            patch.setattr(Path, "unlink", lambda *a, **k: counted(unlink, *a, **k))
            try:
                write_pretrained(home, file, {}, tensors(2), save_file, then)
            except KeyboardInterrupt:
                seen.add((value(home), indexed(home)))
                continue
        break
    assert value(home) == indexed(home) == 2
    assert (1, 1) in seen
    assert {number for pair in seen for number in pair} == {1, 2}
    for path in home.iterdir():
        os.utime(path, (1, 1))
    write_pretrained(home, file, {}, tensors(3), save_file, then)
    assert not (home / "model.safetensors").exists()
    names = {p.name for p in (*home.glob("model-*"), *home.glob(".*"))}
    assert names <= listed(home).keys()  # nothing is left of those that died


def test_two_writers_do_not_take_each_other_s_weights(home, monkeypatch):
    """Every process of a training saves: the second one begins while the first one writes."""
    file, replace, begun = home / "modeling_x.py", os.replace, []
    write_pretrained(home, file, {}, tensors(1), save_file, 300)

    def replaced(part: Any, place: Any) -> None:
        if Path(place).name == "port.json" and not begun:
            begun.append(True)
            write_pretrained(home, file, {}, tensors(2), save_file, 300)
            assert value(home) == 2
        replace(part, place)

    monkeypatch.setattr(os, "replace", replaced)
    write_pretrained(home, file, {}, tensors(3), save_file, 300)
    assert value(home) == 3


def test_the_card_of_other_weights_goes_and_the_users_stays(home, tmp_path):
    file = home / "modeling_x.py"
    (home / "parity.json").write_text("{}")
    record = json.loads((home / "port.json").read_text())
    told = {"size": 2, "sha256": hashlib.sha256(b"{}").hexdigest()}
    record["files"]["parity.json"] = told
    (home / "port.json").write_text(json.dumps(record))
    (home / "README.md").write_text("my own words")
    write_pretrained(home, file, {}, tensors(1), save_file)
    assert not (home / "parity.json").exists()
    assert (home / "README.md").read_text() == "my own words"
    assert not {"README.md", "parity.json"} & listed(home).keys()
    write_pretrained(tmp_path / "new", file, {}, tensors(1), save_file)
    assert not (tmp_path / "new/README.md").exists()


def test_a_configuration_that_the_user_changed_is_saved_with_the_model(home):
    file = home / "modeling_x.py"
    write_pretrained(home, file, {}, tensors(1), save_file)
    changed = {"hidden_size": 9, "kept": "é"}
    (home / "config.json").write_text(json.dumps(changed))
    write_pretrained(home, file, changed, tensors(2), save_file)
    assert value(home) == 2
    before = (home / "port.json").read_text()
    with pytest.raises(ValueError, match="another one: choose another folder"):
        write_pretrained(home, file, {"hidden_size": 10}, tensors(3), save_file)
    assert (home / "port.json").read_text() == before
    assert value(home) == 2


def test_names_of_a_foreign_record_remove_nothing_outside(home, tmp_path):
    (tmp_path / "mine").write_text("x")
    out = tmp_path / "out"
    file = home / "modeling_x.py"
    write_pretrained(out, file, {}, tensors(1), save_file)
    record = json.loads((out / "port.json").read_text())
    told = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    record["files"]["model-/../../../mine"] = told
    (out / "port.json").write_text(json.dumps(record))
    write_pretrained(out, file, {}, tensors(2), save_file)
    assert (tmp_path / "mine").read_text() == "x"


def test_a_first_writer_that_died_is_no_hindrance(home, tmp_path, monkeypatch):
    out, file = tmp_path / "out", home / "modeling_x.py"
    replace = os.replace

    def dies(part: Any, place: Any) -> None:
        if Path(place).name == "port.json":
            raise KeyboardInterrupt
        replace(part, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            write_pretrained(out, file, {}, tensors(1), save_file)
    assert not (out / "port.json").exists()
    write_pretrained(out, file, {}, tensors(2), save_file)
    assert value(out) == 2


def test_what_a_killed_process_left_goes_at_once_and_what_lives_stays(home):
    """Names have the host and the number of the process that writes them."""
    file = home / "modeling_x.py"
    write_pretrained(home, file, {}, tensors(1), save_file)
    [weights] = home.glob("model-*.safetensors")
    host, mine = weights.name[6:10], f"{os.getpid():06x}"
    assert weights.name[10:16] == mine
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    there = "ffff" if host != "ffff" else "eeee"
    left = {
        f"model-{host}{process.pid:06x}01234567-00001-of-00001.safetensors": False,
        f".port.json.{host}{process.pid:06x}01234567.part": False,
        f"model-{host}{mine}01234567-00001-of-00001.safetensors": True,
        f"model-{there}{process.pid:06x}01234567-00001-of-00001.safetensors": True,
        "model-of-mine.safetensors": True,
    }
    for name in left:
        (home / name).write_text("half")
    write_pretrained(home, file, {}, tensors(2), save_file)
    assert {name: (home / name).exists() for name in left} == left
    assert value(home) == indexed(home) == 2


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00002.safetensors"]
)
@pytest.mark.parametrize("known", [False, True], ids=["new folder", "a port's"])
def test_weights_of_the_users_are_not_left_beside(home, tmp_path, name, known):
    out, file = tmp_path / "out", home / "modeling_x.py"
    out.mkdir()
    if known:
        write_pretrained(out, file, {}, tensors(1), save_file)
    save_file(tensors(5), out / name)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match=f"{name} is of yours: choose another folder"):
        write_pretrained(out, file, {}, tensors(2), save_file)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_weights_that_the_user_put_in_the_place_of_the_ports_stay(home):
    whole(home)
    save_file(tensors(5), home / "model.safetensors")
    with pytest.raises(ValueError, match="is of yours"):
        write_pretrained(home, home / "modeling_x.py", {}, tensors(2), save_file)
    assert load_file(home / "model.safetensors")["w0"][0, 0] == 5


@pytest.mark.parametrize("name", ["vocab.txt", "config.json", "modeling_x.py"])
def test_a_file_of_the_users_is_not_replaced(home, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="choose another"):
        write_pretrained(out, home / "modeling_x.py", {}, tensors(1), save_file)
    assert (out / name).read_text() == '{"mine": 1}'


def test_a_folder_of_another_port_is_not_written_to(home, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "port.json").write_text('{"weights": {"rows": [1]}}')
    with pytest.raises(ValueError, match="holds another port"):
        write_pretrained(other, home / "modeling_x.py", {}, tensors(1), save_file)
    assert [p.name for p in other.iterdir()] == ["port.json"]
