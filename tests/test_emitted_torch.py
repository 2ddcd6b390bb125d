"""Standalone torch files as their reader sees them, and where nothing else is installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from typer.testing import CliRunner  # noqa: E402

import ivyport  # noqa: E402
from ivyport.cli import app  # noqa: E402
from ivyport.zoo import hf, hf_configs, hf_inputs  # noqa: E402
from tests.modules.emission import classes, family, methods  # noqa: E402

ALLOWED = {
    "dataclasses",
    "functools",
    "hashlib",
    "json",
    "math",
    "os",
    "pathlib",
    "secrets",
    "time",
    "platform",
    "re",
    "typing",
    "torch",
    "numpy",
}
FAMILIES = ["bert", "resnet", "t5", "swin", "wav2vec2"]


def text(name: str) -> str:
    return family(name, None, "torch").source


@pytest.mark.parametrize("name", FAMILIES)
def test_imports(name: str) -> None:
    for node in ast.walk(ast.parse(text(name))):
        if isinstance(node, ast.Import):
            assert {a.name.partition(".")[0] for a in node.names} <= ALLOWED
        if isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] in ALLOWED | {"safetensors"}


@pytest.mark.parametrize("name", FAMILIES)
def test_formatted_and_clean(name: str, tmp_path: Path) -> None:
    file = tmp_path / "modeling_model.py"
    file.write_text(text(name), encoding="utf-8")
    for command in (["format", "--check"], ["check", "--select", "E,F,W,I,B"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated",
             "--line-length", "88", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", FAMILIES)
def test_classes_read_like_torch(name: str) -> None:
    for cls in classes(text(name)).values():
        found = methods(cls)
        if cls.name in ("BatchNorm", "SharedDropout"):  # helpers, written by hand
            continue
        assert found[:2] == ["__init__", "forward"], cls.name
        first = cls.body[0]
        assert isinstance(first, ast.FunctionDef)
        assert ast.unparse(first.body[0]) == "super().__init__()"
        assert "rngs" not in ast.unparse(cls)


SCRIPT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ivyport", "jax", "flax", "transformers", "ruff"):
            raise ImportError("blocked: " + name)

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import torch
from modeling_alone import BertModel

model = BertModel.from_pretrained(sys.argv[1])
ids = torch.ones(1, 4, dtype=torch.int64)
with torch.no_grad():
    print(float(model(input_ids=ids, attention_mask=ids).pooler_output[0, 0]))
"""


def test_the_command_ejects_a_standalone_file(tmp_path: Path) -> None:
    model = hf.build(hf_configs.tiny_config("bert"), cls="BertModel", seed=0)
    model.save_pretrained(tmp_path / "source")
    options = ["--class", "BertModel", "-o", str(tmp_path / "alone")]
    done = CliRunner().invoke(
        app, ["hf", str(tmp_path / "source"), "--to", "torch", *options]
    )
    assert done.exit_code == 0, done.output
    file = tmp_path / "alone" / "modeling_alone.py"
    title = file.read_text(encoding="utf-8").partition("\n")[0]
    assert title == (
        f'"""BertModel in plain PyTorch, taken out of transformers by ivyport '
        f"{ivyport.__version__}."
    )
    run = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, str(tmp_path / "alone")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    ids = torch.ones(1, 4, dtype=torch.int64)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=ids).pooler_output[0, 0]
    assert float(run.stdout) == pytest.approx(float(expected), abs=1e-6)
    checked = CliRunner().invoke(app, ["verify", str(tmp_path / "alone")])
    assert checked.exit_code == 0, checked.output


def test_verification_sees_a_wrong_weight(tmp_path: Path) -> None:
    model = hf.build(hf_configs.tiny_config("distilbert"), seed=0)
    inputs = hf_inputs.example_inputs(model)
    ported = ivyport.transpile(model, "torch", kwargs=inputs)
    with torch.no_grad():
        next(ported.parameters()).mul_(1.01)
    assert not ivyport.verify(model, ported).passed
