"""What cannot be ported is said whole, and where; hostile names never become code."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")

from torch import nn  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import ivyport  # noqa: E402
from ivyport.cli import app  # noqa: E402
from ivyport.core.errors import (  # noqa: E402
    InputError,
    TraceError,
    UnsupportedOpsError,
)
from tests.plain_models import seeded  # noqa: E402
from tests.porting import as_jax, assert_same  # noqa: E402
from tests.support import assert_close  # noqa: E402

HERE = Path(__file__).name


def line_of(marker: str) -> int:
    """The line of this file that ends with ``# <marker>``."""
    lines = Path(__file__).read_text(encoding="utf-8").split("\n")
    (found,) = [i for i, line in enumerate(lines, 1) if line.endswith(f"# {marker}")]
    return found


# ---- unsupported operations


class Spectral(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 4))

    def forward(self, x):
        y = torch.fft.fft(x * self.scale).real  # fft line
        return torch.linalg.svd(y).S  # svd line


class Unsupported(nn.Module):
    """Three kinds of operations without a rule, one of them in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Spectral()
        self.inner = nn.ModuleDict({"second": Spectral()})

    def forward(self, x):
        s = self.first(x) + self.inner["second"](x)
        return torch.linalg.eigvalsh(s[..., None] * torch.eye(4))  # eigvalsh line


@pytest.fixture(scope="module")
def unsupported() -> str:
    with pytest.raises(UnsupportedOpsError) as caught:
        ivyport.transpile(seeded(Unsupported), "jax", kwargs={"x": torch.ones(2, 4, 4)})
    return str(caught.value)


@pytest.mark.parametrize("op", ["fft", "svd", "eigvalsh"])
def test_every_unsupported_operation_is_reported_at_once(
    op: str, unsupported: str
) -> None:
    assert re.search(rf"\d+ x aten\.\w*{op}\w*\.", unsupported), unsupported


def test_unsupported_operations_are_counted(unsupported: str) -> None:
    count = re.search(r"(\d+) x aten\.\w*svd", unsupported)
    assert count is not None
    assert int(count.group(1)) == 2, unsupported


@pytest.mark.parametrize("marker", ["fft line", "svd line", "eigvalsh line"])
def test_unsupported_operations_name_their_lines(marker: str, unsupported: str) -> None:
    assert f"{HERE}:{line_of(marker)}" in unsupported


def test_unsupported_operations_name_their_modules(unsupported: str) -> None:
    assert "first" in unsupported
    assert "inner.second" in unsupported


# ---- control flow and sizes that depend on data


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # branch line
            return x * 2
        return x - 1


class Loop(nn.Module):
    def forward(self, x):
        while float(x.abs().max()) > 1:  # loop line
            x = x / 2
        return x


class Nonzero(nn.Module):
    def forward(self, x):
        return x[torch.nonzero(x > 0)[:, 0]].sum()  # nonzero line


class Selected(nn.Module):
    def forward(self, x):
        return x[x > 0] * 2  # selection line


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stage = nn.ModuleList([nn.Identity(), inner])

    def forward(self, x):
        return self.stage[1](self.stage[0](x))


@pytest.mark.parametrize(
    ("cls", "marker"), [(Branch, "branch line"), (Loop, "loop line")]
)
def test_control_flow_on_data_names_the_line(cls: Any, marker: str) -> None:
    with pytest.raises(TraceError) as caught:
        ivyport.transpile(Wrapped(cls()), "jax", kwargs={"x": torch.ones(2, 4)})
    text = str(caught.value)
    assert f"{HERE}:{line_of(marker)}" in text
    assert "stage.1" in text
    assert "torch.where" in text


@pytest.mark.parametrize(
    ("cls", "marker"), [(Nonzero, "nonzero line"), (Selected, "selection line")]
)
def test_sizes_that_depend_on_data_are_refused(cls: Any, marker: str) -> None:
    with pytest.raises((TraceError, UnsupportedOpsError)) as caught:
        ivyport.transpile(Wrapped(cls()), "jax", kwargs={"x": torch.ones(2, 4)})
    assert f"{HERE}:{line_of(marker)}" in str(caught.value)


def test_a_model_that_does_not_run_on_the_inputs() -> None:
    source = nn.Sequential(nn.Linear(3, 4))
    with pytest.raises((TraceError, InputError)) as caught:
        ivyport.transpile(source, "jax", (torch.ones(2, 5),))
    assert "(2, 5)" in str(caught.value) or "2, 5" in str(caught.value)


# ---- the command line


def test_a_failed_port_is_exit_code_2_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_factory.py").write_text(
        "import torch\n"
        "class Broken(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return torch.fft.fft(x).real\n"
        "build = Broken\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    result = CliRunner().invoke(
        app,
        ["torch", "broken_factory:build", "--to", "jax", "--input", "x=float32[2,4]"],
    )
    assert result.exit_code == 2, result.output
    assert "fft" in result.stderr
    assert "Traceback" not in result.stderr
    assert {p.name for p in tmp_path.iterdir()} - {"__pycache__"} == before


# ---- names that would like to be code

EVIL = [
    "x'); import os; os.system('echo hi'); ('",
    'quote"inside',
    "triple''' + __import__('os').system('echo hi') + '''",
    'double""" + evil() + """',
    "new\nline = evil()",
    "back\\slash",
    "a b; evil()",
    "λ",
    "0",
    "None",
    "import",
    "self",
    "__init__",
    "__class__",
    "f(evil)",
    "{evil()}",
    "#",
    "",
]
#: `os` alone is what saving uses, for one function of it.
FORBIDDEN = {"evil", "system", "popen", "__import__", "exec", "echo"}


class Hostile(nn.Module):
    """Children and parameters under every name of `EVIL` that torch takes."""

    def __init__(self, layers: bool) -> None:
        super().__init__()
        self.taken: list[str] = []
        for name in EVIL:
            try:
                if layers:
                    self.add_module(name, nn.Linear(4, 4))
                else:
                    self.register_parameter(name, nn.Parameter(torch.randn(4)))
            except KeyError:  # an empty name, or one that an attribute has
                continue
            self.taken.append(name)

    def forward(self, x):
        for module in self._modules.values():
            x = torch.tanh(module(x))
        for parameter in self._parameters.values():
            x = x * parameter
        return x


Hostile.__qualname__ = "Outer.<locals>.Evil'); evil(); ('"
Weird = type("Weird'); evil(); ('", (nn.Linear,), {"__module__": 'a"\nevil()'})


class Containers(nn.Module):
    """Hostile keys of containers, hostile classes, and hostile strings in the output."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(
            {k: nn.Linear(4, 4) for k in EVIL if k and "." not in k and k != "__class__"
             and not hasattr(nn.ModuleDict, k)}
        )  # fmt: skip
        self.weird = Weird(4, 4)

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        x = self.weird(x)
        return {name: x * i for i, name in enumerate(EVIL)}


def source_of(folder: Path) -> str:
    (file,) = folder.glob("modeling_*.py")
    return file.read_text(encoding="utf-8")


def demand_harmless(source: str) -> None:
    """No name, attribute, argument or import of what was injected."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.alias):
            names = [node.name]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.arg):
            names = [node.arg]
        assert not FORBIDDEN & set(names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
            known = ("replace", "fsync", "getpid", "name", "kill")
            assert node.attr in known, ast.unparse(node)
        # A question about a process, whether it runs, and no signal to it.
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.kill":
            assert ast.unparse(node) == "os.kill(int(process, 16), 0)"
    roots = {"dataclasses", "hashlib", "json", "math", "pathlib", "typing"}
    roots |= {"jax", "flax", "numpy", "safetensors"}
    # Of what writes a folder.
    roots |= {"functools", "os", "platform", "re", "secrets", "time"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {a.name.partition(".")[0] for a in node.names} <= roots
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).partition(".")[0] in roots


@pytest.mark.parametrize("layers", [True, False], ids=["modules", "parameters"])
def test_hostile_names(layers: bool, tmp_path: Path) -> None:
    source = seeded(Hostile, layers)
    assert len(source.taken) > 10
    inputs = {"x": torch.randn(2, 4)}
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    ivyport.save(ported, tmp_path / "port")
    demand_harmless(source_of(tmp_path / "port"))
    assert_same(source, ivyport.load(tmp_path / "port"), inputs)


def test_hostile_keys_classes_and_outputs(tmp_path: Path) -> None:
    source = seeded(Containers)
    inputs = {"x": torch.randn(2, 4)}
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    ivyport.save(ported, tmp_path / "port")
    demand_harmless(source_of(tmp_path / "port"))
    loaded = ivyport.load(tmp_path / "port")(x=as_jax(inputs["x"]))
    assert list(loaded) == EVIL
    assert_close(loaded[EVIL[1]], source(**inputs)[EVIL[1]], rtol=1e-5)


HOSTILE_TEXT = 'a """ + evil() + """ \\ \' \n evil() #'


class HostileConfig:
    """What a configuration looks like to ivyport, with strings and keys that are code."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "hidden_size": 4,
            "name": HOSTILE_TEXT,
            HOSTILE_TEXT: 4,
            "evil()": 4,
            "__class__": 4,
            "import": 4,
            "layer_norm_eps": 1e-5,
            "hidden size; evil()": 4,
        }


class Configured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = HostileConfig()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        return self.norm(self.linear(x))


Configured.__doc__ = HOSTILE_TEXT
Configured.__module__ = HOSTILE_TEXT


def test_hostile_configuration(tmp_path: Path) -> None:
    source = seeded(Configured)
    inputs = {"x": torch.randn(2, 4)}
    ported = ivyport.transpile(source, "jax", kwargs=inputs)
    ivyport.save(ported, tmp_path / "port")
    demand_harmless(source_of(tmp_path / "port"))
    assert_same(source, ivyport.load(tmp_path / "port"), inputs)


@pytest.mark.parametrize("name", ["../up", "a b", "x'); evil()", "model.py", ""])
def test_a_port_s_name_is_a_file_name_and_no_code(name: str, tmp_path: Path) -> None:
    source = seeded(Configured)
    folder = tmp_path / "port"
    inputs = {"x": torch.randn(2, 4)}
    try:
        result = ivyport.port(
            source, "jax", folder, kwargs=inputs, name=name, verify=False
        )
    except (InputError, FileNotFoundError):
        assert not list(tmp_path.iterdir())
        return
    assert result.source_file.parent == folder
    assert {p.parent for p in tmp_path.rglob("modeling_*")} == {folder}
    demand_harmless(result.source_file.read_text(encoding="utf-8"))
