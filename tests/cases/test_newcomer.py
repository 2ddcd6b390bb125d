"""A newcomer's path: port, train with the emitted class, save, home, and back in the source."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ivyport.backends.files import described, write_pretrained
from ivyport.core.errors import InputError, WeightsError
from ivyport.folder.manifest import record_digest

# ---- the function that emitted files write with


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


# ---- real ports


def imported(folder: Path) -> Any:
    """The emitted file as a user imports it."""
    [file] = folder.glob("modeling_*.py")
    name = f"newcomer_{folder.name}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source() -> Any:
    from ivyport.zoo import hf, hf_configs

    return hf.build(hf_configs.tiny_config("bert"), cls="BertModel", perturb=True)


@pytest.fixture(scope="module", params=["jax", "torch"])
def ported(request: Any, source: Any, tmp_path_factory: Any) -> Path:
    """The folder of a port; its pooler is not used by the source's output."""
    import ivyport
    from ivyport.zoo import hf_inputs

    folder = tmp_path_factory.mktemp("newcomer") / request.param
    inputs = hf_inputs.example_inputs(source)
    ivyport.save(ivyport.transpile(source, request.param, kwargs=inputs), folder)
    return folder


def trained(folder: Path) -> Any:
    """The class's own model with every weight half as large."""
    model = imported(folder).BertModel.from_pretrained(folder)
    if hasattr(model, "state_dict"):
        import torch

        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return model
    import jax
    from flax import nnx

    nnx.update(model, jax.tree.map(lambda x: x * 0.5, nnx.state(model, nnx.Param)))
    return model


def halved(source: Any) -> dict[str, np.ndarray]:
    named = dict(source.named_parameters())
    return {name: tensor.detach().numpy() / 2 for name, tensor in named.items()}


def assert_halved(folder: Path, source: Any) -> None:
    found = read(folder)
    for name, wanted in halved(source).items():
        np.testing.assert_array_equal(found[name], wanted, err_msg=name)


def test_what_the_class_saves_goes_home_trained(ported, source, tmp_path):
    from transformers import AutoModel

    import ivyport

    model = trained(ported)
    model.save_pretrained(tmp_path / "tuned")
    names = ivyport.send_home(tmp_path / "tuned", tmp_path / "home")
    assert len(names) == len(list(source.parameters()))
    assert_halved(tmp_path / "home", source)
    again = AutoModel.from_pretrained(tmp_path / "home")
    for name, wanted in halved(source).items():
        found = again.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_what_the_class_saves_is_loaded_by_ivyport_and_by_itself(ported, tmp_path):
    import ivyport

    model = trained(ported)
    model.save_pretrained(tmp_path / "tuned")
    before = read(tmp_path / "tuned")
    ivyport.save(ivyport.load(tmp_path / "tuned"), tmp_path / "again")
    after = read(tmp_path / "again")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[n], after[n]) for n in before)
    own = imported(tmp_path / "tuned").BertModel.from_pretrained(tmp_path / "tuned")
    own.save_pretrained(tmp_path / "tuned")
    assert all(np.array_equal(before[n], read(tmp_path / "tuned")[n]) for n in before)


def test_save_and_home_take_what_the_class_made(ported, source, tmp_path):
    import ivyport

    model = trained(ported)
    assert len(ivyport.send_home(model, tmp_path / "home")) > 10
    assert_halved(tmp_path / "home", source)
    ivyport.save(model, tmp_path / "saved")
    ivyport.send_home(tmp_path / "saved", tmp_path / "second")
    assert_halved(tmp_path / "second", source)


def test_a_model_of_another_kind_is_refused(tmp_path):
    import torch

    import ivyport

    with pytest.raises(InputError, match="import the class from the port's own folder"):
        ivyport.save(torch.nn.Linear(2, 2), tmp_path / "x")


def test_weights_that_the_record_does_not_know_are_refused(ported, tmp_path):
    import ivyport

    shutil.copytree(ported, tmp_path / "port")
    record = json.loads((tmp_path / "port/port.json").read_text())
    record["weights"]["rows"].pop()
    record["digest"] = record_digest(record)
    (tmp_path / "port/port.json").write_text(json.dumps(record))
    module = imported(tmp_path / "port")
    model = module.BertModel.from_pretrained(tmp_path / "port")
    with pytest.raises(WeightsError, match="other weights than its port"):
        ivyport.save(model, tmp_path / "x")


def test_all_readers_agree_when_a_save_is_killed(ported, source, tmp_path, monkeypatch):
    """The index names the new weights, port.json the old ones."""
    import ivyport

    shutil.copytree(ported, tmp_path / "port")
    model = trained(tmp_path / "port")
    replace = os.replace

    def dies(part: Any, place: Any) -> None:
        if Path(place).name == "port.json":
            raise KeyboardInterrupt
        replace(part, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            model.save_pretrained(tmp_path / "port")
    assert (tmp_path / "port/model.safetensors.index.json").is_file()
    assert ivyport.send_home(tmp_path / "port", tmp_path / "home") == []
    ivyport.send_home(ported, tmp_path / "wanted")
    wanted = read(tmp_path / "wanted")
    found = read(tmp_path / "home")
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[n], wanted[n]) for n in wanted)
    ivyport.send_home(ivyport.load(tmp_path / "port"), tmp_path / "live")
    assert all(np.array_equal(read(tmp_path / "live")[n], wanted[n]) for n in wanted)
    model.save_pretrained(tmp_path / "port")
    ivyport.send_home(tmp_path / "port", tmp_path / "new")
    assert_halved(tmp_path / "new", source)
    ivyport.save(ivyport.load(tmp_path / "port"), tmp_path / "port")
    assert not [n for n in listed(tmp_path / "port") if n.startswith("model-")]


def test_a_port_in_memory_saves_itself(tmp_path):
    import torch

    import ivyport

    x = torch.ones(2, 4)
    for target in ("jax", "torch"):
        model = ivyport.transpile(torch.nn.Linear(4, 2), target, kwargs={"input": x})
        for _ in range(2):
            model.save_pretrained(tmp_path / target)
        again = imported(tmp_path / target).Linear.from_pretrained(tmp_path / target)
        given = {"input": x if target == "torch" else x.numpy()}
        assert np.allclose(
            np.asarray(again(**given).tolist()), np.asarray(model(**given).tolist())
        )


def test_weights_go_home_as_a_whole_folder(ported, source, tmp_path, monkeypatch):
    import ivyport
    from ivyport import home

    out = tmp_path / "home"
    ivyport.send_home(ported, out)
    (out / "mine.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    model = trained(ported)
    with pytest.raises(InputError, match=r"holds weights already .*--overwrite"):
        ivyport.send_home(model, out)
    with monkeypatch.context() as patch:
        patch.setattr(home, "_bring", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(Exception, match="full"):
            ivyport.send_home(model, out, overwrite=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    ivyport.send_home(model, out, overwrite=True)
    assert_halved(out, source)
    assert (out / "mine.txt").read_text() == "mine"
    with pytest.raises(InputError, match="what goes home is a folder"):
        ivyport.send_home(model, tmp_path / "x.safetensors")


def test_weights_that_the_port_did_not_save_go_home_when_asked(ported, tmp_path):
    import ivyport

    shutil.copytree(ported, tmp_path / "port")
    file = tmp_path / "port/model.safetensors"
    mine = {name: tensor * 2 for name, tensor in load_file(file).items()}
    save_file(mine, file)
    with pytest.raises(WeightsError, match="changed since the port was saved"):
        ivyport.send_home(tmp_path / "port", tmp_path / "home")
    assert not (tmp_path / "home").exists()
    assert ivyport.send_home(tmp_path / "port", tmp_path / "home", changed=True)


def test_untrained_weights_that_go_home_are_said_to_be(ported, tmp_path):
    import ivyport
    from tests.test_cli import run

    assert ivyport.send_home(ported, tmp_path / "home") == []
    code, out, err = run("weights", "home", ported, "-o", tmp_path / "second")
    assert code == 0, err
    assert "no weight has changed since the port" in " ".join(out.split())
    trained(ported).save_pretrained(tmp_path / "tuned")
    code, out, _ = run("weights", "home", tmp_path / "tuned", "-o", tmp_path / "third")
    assert code == 0
    assert "weights were trained since the port" in out


def test_the_example_of_the_card_runs(ported, monkeypatch):
    import re

    [block] = re.findall(
        r"^```python\n(.*?)^```$", (ported / "README.md").read_text(), re.M | re.S
    )
    assert "attention_mask=" in block
    monkeypatch.chdir(ported)
    monkeypatch.syspath_prepend(ported)
    monkeypatch.delitem(sys.modules, f"modeling_{ported.name}", raising=False)
    found: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), found)
    assert found["output"].last_hidden_state.shape[-1] == 32


def test_tokenizer_and_card_come_along(source, tmp_path, monkeypatch):
    """From a folder to a port, to a port that was trained, and home."""
    from transformers import BertTokenizer

    from tests.test_cli import run

    folder = tmp_path / "tiny_bert"
    source.save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    (folder / "code.py").write_text("raise SystemExit")
    code, _, err = run(
        "hf", folder, "--to", "torch", "-o", tmp_path / "out", "--no-verify"
    )
    assert code == 0, err
    out = tmp_path / "out"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (folder / name).read_bytes()
    assert not (out / "code.py").exists()
    assert "license: apache-2.0" in (out / "README.md").read_text()
    module = imported(out)
    module.BertModel.from_pretrained(out).save_pretrained(tmp_path / "tuned")
    assert (tmp_path / "tuned/tokenizer.json").is_file()
    import ivyport

    ivyport.save(ivyport.load(tmp_path / "tuned"), tmp_path / "again")
    assert (tmp_path / "again/tokenizer.json").is_file()
    ivyport.send_home(tmp_path / "tuned", tmp_path / "home")
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(tmp_path / "home")("hello world")["input_ids"]
    assert ids == [2, 5, 6, 3]


def test_transformers_does_not_take_a_jax_port_for_its_own(source, tmp_path):
    """Weights that have other names there would be drawn anew, with a word in a table."""
    from transformers import AutoModel, BertModel

    import ivyport
    from ivyport.zoo import hf_inputs

    inputs = hf_inputs.example_inputs(source)
    model = ivyport.transpile(source, "jax", kwargs=inputs)
    assert any("Required by the port" in n and "attention_mask" in n
               for n in ivyport.api._PORTS[model].notes)  # fmt: skip
    ivyport.save(model, tmp_path / "port")
    with pytest.raises(ValueError, match="ivyport_jax"):
        AutoModel.from_pretrained(tmp_path / "port")
    for options in ({}, {"ignore_mismatched_sizes": True}):
        with pytest.raises((OSError, ValueError), match="port"):
            BertModel.from_pretrained(tmp_path / "port", **options)
    ivyport.send_home(tmp_path / "port", tmp_path / "home")
    values = json.loads((tmp_path / "home/config.json").read_text())
    assert values["model_type"] == "bert"
    assert "transformers_weights" not in values
    again = BertModel.from_pretrained(tmp_path / "home")
    for name, wanted in source.named_parameters():
        found = again.get_parameter(name).detach().numpy()
        np.testing.assert_array_equal(found, wanted.detach().numpy(), err_msg=name)
