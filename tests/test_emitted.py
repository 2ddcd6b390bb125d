"""The emitted file as its reader sees it: imports, size, format, order, no leftovers."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ivyport
from ivyport.zoo import hf, hf_configs
from tests.modules.emission import statements

DATA = Path(__file__).parent / "data"
ALLOWED = {
    "dataclasses",
    "functools",
    "hashlib",
    "json",
    "os",
    "pathlib",
    "secrets",
    "time",
    "platform",
    "re",
    "typing",
    "jax",
    "flax",
    "numpy",
    "safetensors",
}
FAMILIES = ["bert", "gpt2", "resnet", "t5", "llama", "swin"]


def emitted(config, cls=None) -> str:
    model = hf.build(config, cls=cls, seed=0)
    inputs = hf.example_inputs(model)
    ported = ivyport.transpile(
        model,
        "jax",
        kwargs=inputs,
        dims=hf.dims(model, inputs),
        name="model",
        verify=False,  # its text is looked at
    )
    return ivyport.api._PORTS[ported].source


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return {family: emitted(hf_configs.tiny_config(family)) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_imports_are_the_targets_own(sources, family):
    for node in ast.walk(ast.parse(sources[family])):
        if isinstance(node, ast.Import):
            assert {a.name.partition(".")[0] for a in node.names} <= ALLOWED
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] in ALLOWED


@pytest.mark.parametrize("family", FAMILIES)
def test_formatted_and_clean(sources, family, tmp_path):
    file = tmp_path / "modeling_model.py"
    file.write_text(sources[family])
    ruff = [sys.executable, "-m", "ruff"]
    options = ["--isolated", "--line-length", "88", str(file)]
    checks = (["format", "--check"], ["check", "--select", "E,F,W,I,B"])
    for command in checks:
        done = subprocess.run(
            [*ruff, *command, *options], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_every_local_is_read(sources, family):
    for function in ast.walk(ast.parse(sources[family])):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
        stored = {n.id for n in names if isinstance(n.ctx, ast.Store)} - {"_"}
        read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
        assert stored <= read, f"{function.name}: {stored - read} never read"


@pytest.mark.parametrize("family", FAMILIES)
def test_names_are_roles_not_node_numbers(sources, family):
    names = {
        n.id for n in ast.walk(ast.parse(sources[family])) if isinstance(n, ast.Name)
    }
    numbered = r"(add|mul|view|transpose|linear|layer_norm|expand|unsqueeze)_\d+"
    assert not [n for n in names if re.fullmatch(numbered, n)]


def test_bert_base_is_as_short_as_by_hand():
    config = hf_configs.published_config("google-bert/bert-base-uncased")
    config.vocab_size, config.intermediate_size = (
        1000,
        1024,
    )  # smaller, the same structure
    source = emitted(config, cls="BertModel")
    by_hand = (DATA / "modeling_minilm_handwritten.py").read_text()
    without = ("saved_files", "demand_saved", "load_weights")
    without += (
        "save_pretrained",
        "write_pretrained",
        "write_weights",
        "remove_stale",
        "is_weights",
        "demand_own",
        "described",
    )
    assert statements(source, without) <= 1.5 * statements(by_hand)
    classes = [n.name for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
    assert classes.count("BertLayer") == 1
    assert "for _ in range(config.num_hidden_layers)" in source
    assert "config.attention_probs_dropout_prob" in source
    for layer in (
        "nnx.Linear",
        "nnx.LayerNorm",
        "nnx.Embed",
        "jax.nn.softmax(scores",
    ):
        assert layer in source


def test_a_reader_changes_the_number_of_layers_in_one_place(sources):
    namespace: dict = {"__name__": "edited"}
    sys.modules["edited"] = type(sys)("edited")
    exec(compile(sources["bert"], "edited.py", "exec"), namespace)
    import jax.numpy as jnp
    from flax import nnx

    config = namespace["BertConfig"](num_hidden_layers=3)
    model = namespace["BertModel"](config, rngs=nnx.Rngs(0))
    assert len(model.encoder.layer) == 3
    ids = jnp.ones((2, 5), jnp.int32)
    assert model(input_ids=ids, attention_mask=ids).last_hidden_state.shape[:2] == (
        2,
        5,
    )


SCRIPT = """
import sys
from tests.test_emitted import emitted
from ivyport.zoo import hf_configs
sys.stdout.write(emitted(hf_configs.tiny_config("t5")))
"""


def test_byte_identical_from_run_to_run(sources):
    root = Path(__file__).parent.parent
    env = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=env,
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == sources["t5"]


BLOCKER = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ivyport", "torch", "transformers"):
            raise ImportError(f"{name} is not needed")
sys.meta_path.insert(0, Block())
sys.path.insert(0, sys.argv[1])
import numpy as np
from modeling_alone import BertModel
model = BertModel.from_pretrained(sys.argv[1])
ids = np.ones((1, 4), np.int32)
print(float(model(input_ids=ids, attention_mask=ids).pooler_output[0, 0]))
"""


def test_folder_works_without_ivyport_and_torch(tmp_path):
    import torch

    model = hf.build(hf_configs.tiny_config("bert"), seed=0)
    inputs = hf.example_inputs(model)
    ivyport.port(
        model, "jax", tmp_path / "alone", kwargs=inputs, name="alone", verify=False
    )
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER, str(tmp_path / "alone")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ids = torch.ones(1, 4, dtype=torch.int64)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=ids).pooler_output[0, 0]
    assert float(done.stdout) == pytest.approx(float(expected), abs=1e-5)
