"""A saved folder works where neither ivyport nor the source's framework is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

import ivyport  # noqa: E402
from ivyport.zoo import hf, hf_configs, hf_inputs  # noqa: E402
from tests.plain_models import PLAIN, seeded  # noqa: E402
from tests.support import as_numpy, assert_close  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BLOCKED = ("ivyport", "torch", "transformers", "tensorflow", "ruff")

BLOCKER = f"""
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError("blocked: " + name)


sys.meta_path.insert(0, Blocker())
"""
# Arguments: the folder, its module, its class, inputs, outputs.
SCRIPT = """
import importlib
import sys

import numpy as np

folder, module, cls, given, out = sys.argv[1:]
sys.path.insert(0, folder)
model = getattr(importlib.import_module(module), cls).from_pretrained(folder)
model.eval()
with np.load(given) as arrays:
    found = model(**dict(arrays))
found = found if isinstance(found, tuple) else (found,)
np.savez(out, *[np.asarray(x) for x in found if x is not None])
"""


class Case:
    """A port in a folder, its inputs in a file, and what the source makes of them."""

    def __init__(self, source: Any, inputs: dict[str, Any], folder: Path) -> None:
        self.folder = folder / "port"
        ivyport.save(ivyport.transpile(source, "jax", kwargs=inputs), self.folder)
        narrow = {"int64": np.int32}
        arrays = {k: as_numpy(v) for k, v in inputs.items()}
        arrays = {
            k: v.astype(narrow.get(v.dtype.name, v.dtype)) for k, v in arrays.items()
        }
        np.savez(folder / "inputs.npz", **arrays)
        with torch.no_grad():
            found = source(**inputs)
        found = found.to_tuple() if hasattr(found, "to_tuple") else found
        found = found if isinstance(found, tuple) else (found,)
        self.expected = [as_numpy(x) for x in found]

    def check(self, python: str | Path, prelude: str, script: Path) -> None:
        """Load and run the port in a process of its own."""
        record = json.loads((self.folder / "port.json").read_text(encoding="utf-8"))
        module = record["file"].removesuffix(".py")
        script.write_text(prelude + SCRIPT)
        out = script.with_suffix(".npz")
        keep = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        given = self.folder.parent / "inputs.npz"
        done = subprocess.run(
            [python, "-I", script, self.folder, module, record["class"], given, out],
            capture_output=True, text=True, check=False, cwd=script.parent,
            env={**keep, "JAX_PLATFORMS": "cpu"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(out) as found:
            assert len(found.files) == len(self.expected)
            for name, expected in zip(found.files, self.expected, strict=True):
                assert_close(found[name], expected, rtol=1e-5, narrow=True)


def _bert(folder: Path) -> Case:
    source = hf.build(hf_configs.tiny_config("bert"), cls="BertModel", perturb=True)
    return Case(source, hf_inputs.example_inputs(source), folder)


def _plain(folder: Path) -> Case:
    make, inputs, _ = PLAIN["Images"]
    return Case(seeded(make), inputs, folder)


CASES = {"bert": _bert, "images": _plain}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Case:
    return CASES[request.param](tmp_path_factory.mktemp(request.param))


def test_without_ivyport_and_torch(case: Case, tmp_path: Path) -> None:
    case.check(sys.executable, BLOCKER, tmp_path / "run.py")


def test_the_folder_can_be_moved(case: Case, tmp_path: Path) -> None:
    import shutil

    moved = tmp_path / "somewhere else" / "moved"
    shutil.copytree(case.folder, moved)
    shutil.copy(case.folder.parent / "inputs.npz", moved.parent)
    original, case.folder = case.folder, moved
    try:
        case.check(sys.executable, BLOCKER, tmp_path / "run.py")
    finally:
        case.folder = original


def test_no_machine_path_is_written(case: Case) -> None:
    for file in case.folder.iterdir():
        if file.suffix in {".py", ".json", ".md"}:
            text = file.read_text(encoding="utf-8")
            assert str(ROOT) not in text, file.name
            assert str(case.folder.parent) not in text, file.name


@pytest.fixture(scope="module")
def bare(tmp_path_factory: Any) -> Path:
    """A Python with jax, flax, numpy and safetensors, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    packages = ["jax", "flax", "numpy", "safetensors"]
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
         "-c", ROOT / "constraints.txt", *packages],
        check=True,
    )  # fmt: skip
    return python


@pytest.mark.slow
def test_in_an_environment_of_its_own(bare: Path, case: Case, tmp_path: Path) -> None:
    absent = (
        "import importlib.util\n"
        f"assert not [p for p in {BLOCKED!r} if importlib.util.find_spec(p)]\n"
    )
    case.check(bare, absent, tmp_path / "run.py")
