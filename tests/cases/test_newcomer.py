"""A newcomer's path: port, train with the emitted class, save, home, and back in the source."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ivyport.core.errors import InputError, WeightsError
from ivyport.folder.manifest import record_digest
from tests.folder.test_saving import listed, read


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
    assert not any("Required by the port" in n for n in ivyport.api._PORTS[model].notes)
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
