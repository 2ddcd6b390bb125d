"""The command line: what it refuses, and real ports through every command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import ivyport
from ivyport import cli_port
from ivyport.cli import app
from ivyport.cli_render import Screen, parity_table
from ivyport.targets import TARGETS

FACTORY = """
import torch

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(16)
        self.up = torch.nn.Linear(16, 24)
        self.down = torch.nn.Linear(24, 16)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.second = Block()

    def forward(self, x):
        return self.second(self.first(x))

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(16, 4)

    def forward(self, x, factor=1.0, mode="sum"):
        y = self.up(x) * factor
        return y.mean(-1) if mode == "mean" else y.sum(-1)

def build():
    print("a factory that prints")
    return Net()
"""
INPUT = "x=float32[2,16]"


def run(*args: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command, in this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, " ".join(result.stderr.split())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder with a module of factories."""
    (tmp_path / "cli_factories.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    """A port of `Net`, made by the command line: its folder and its JSON."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "cli_factories.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        target = ("torch", "cli_factories:build", "--to", "nnx", "--input", INPUT)
        code, out, err = run(*target, "-o", folder / "out", "--json")
    assert code == 0, err
    return folder / "out", json.loads(out)


def nothing_written(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names <= {"cli_factories.py", "__pycache__", "config.json", "full"}


@pytest.mark.parametrize("command", ["torch", "haiku", "flax"])
def test_the_help_shows_how_inputs_are_written(command):
    code, out, _ = run(command, "--help")
    assert code == 0
    shown = "".join(out.replace("│", "").split())
    assert "name=dtype[dims],integers<bound" in shown


def test_version():
    assert run("--version") == (0, f"ivyport {ivyport.__version__}\n", "")


@pytest.mark.parametrize(
    "args",
    [
        ("hf",),
        ("hf", "m"),
        ("hf", "m", "--to", "jax", "--batch", "0"),
        ("hf", "m", "--to", "jax", "--dtype", "float8"),
        ("torch", "a:b", "--to"),
        ("weights", "home", "folder"),
        ("nothing",),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(args):
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "Error" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("hf", "m", "--to", "keras"),
            "no target 'keras'. This version ports to: haiku",
        ),
        (("hf", "no/such/folder", "--to", "jax"), "no/such/folder"),
        (("hf", ".", "--to", "jax"), "config.json"),
        (("hf", "m", "--to", "jax", "--inputs", "x.npz"), "--inputs x.npz: no such"),
        (("hf", "m", "--to", "jax", "-o", "full"), "-o full: the folder is not empty"),
        (("hf", "m", "--to", "jax", "-o", "cli_factories.py"), "a file of that name"),
        (("torch", "cli_factories:build", "--to", "jax"), "no example inputs: give"),
        (
            ("torch", "cli_factories:build", "--to", "jax", "--input", "x=f32[2"),
            "'x=f32[2' does not read as name=dtype[d0,d1,...]",
        ),
        (
            ("torch", "cli_factories:Nett", "--to", "jax", "--input", INPUT),
            "no 'Nett' there, only: Block, Net, Scaled, build",
        ),
        (("verify", "."), "no ported model there (no port.json)"),
        (("weights", "home", "absent", "-o", "x"), "absent: no ported model there"),
    ],
)
def test_a_fault_is_one_panel_exit_code_2_and_nothing_written(here, args, message):
    (here / "full").mkdir()
    (here / "full/thesis.tex").write_text("mine")
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert message in err.replace(" │ │ ", " ")
    assert "Traceback" not in err
    assert nothing_written(here)


def test_a_fault_is_one_json_object_with_json(here):
    code, out, _ = run("hf", "m", "--to", "mlx", "--json")
    error = json.loads(out)["error"]
    assert (code, error["kind"]) == (2, "InputError")
    assert "no target 'mlx'" in error["message"]


@pytest.mark.parametrize(("debug", "shown"), [("0", False), ("1", True)])
def test_the_traceback_is_shown_where_it_is_asked_for(here, monkeypatch, debug, shown):
    monkeypatch.setenv("IVYPORT_DEBUG", debug)
    command = [sys.executable, "-m", "ivyport", "verify", "."]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert ("Traceback" in done.stderr) == shown
    assert "no ported model there" in done.stderr


def test_a_defect_of_the_factory_is_shown_whole_and_is_no_parity_failure(here):
    (here / "cli_factories.py").write_text("def build():\n    return 1 / 0\n")
    command = [sys.executable, "-m", "ivyport", "torch", "cli_factories:build"]
    command += ["--to", "jax", "--input", INPUT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
    assert "your own code raises" in done.stderr


def test_the_zoo_lists_published_models():
    code, out, _ = run("zoo", "list")
    assert code == 0
    assert "hf google-bert/bert-base-uncased" in out
    code, out, _ = run("zoo", "list", "--json")
    rows = {row["model"]: row for row in json.loads(out)["hf"]}
    assert rows["google-bert/bert-base-uncased"]["type"] == "bert"


def test_a_torch_module_ports_and_says_so_in_json(ported):
    folder, found = ported
    assert found["passed"] is True
    assert found["target"] == "jax"
    assert Path(found["source_file"]) == folder / "modeling_out.py"
    assert {row["kind"] for row in found["report"]["rows"]} >= {"output", "gradient"}
    names = {path.name for path in folder.iterdir()}
    assert names >= {"modeling_out.py", "model.safetensors", "port.json", "parity.json"}


def test_the_table_names_the_worst_rows(here):
    args = ("torch", "cli_factories:build", "--to", "jax", "--input", INPUT)
    code, out, err = run(*args)
    assert code == 0, err
    assert "parity holds" in out
    assert "source:  cli_factories:build\n" in out
    assert "port:    " + str(Path("ported/net/modeling_net.py")) in out
    assert "verify" in err  # the stages, and what the factory prints
    assert "a factory that prints" in err


def test_no_verify_writes_the_folder_alone(here):
    args = ("torch", "cli_factories:build", "--to", "jax", "--input", INPUT)
    code, out, err = run(*args, "--no-verify", "--json")
    assert code == 0, err
    assert json.loads(out)["report"] is None
    assert (here / "ported/net/model.safetensors").is_file()


def test_a_saved_port_verifies_again(ported, monkeypatch):
    folder, _ = ported
    monkeypatch.chdir(folder.parent)
    monkeypatch.syspath_prepend(folder.parent)
    code, out, err = run("verify", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["passed"] is True


def test_a_port_that_differs_is_exit_code_1_and_names_the_module(here, ported):
    import shutil

    copy = here / "copy"
    shutil.copytree(ported[0], copy)
    [file] = copy.glob("modeling_*.py")
    text = file.read_text()
    changed = text.replace("self.up(self.norm(x))", "self.up(self.norm(x)) + 0.5")
    assert changed != text
    file.write_text(changed)
    code, _, err = run("verify", copy)
    assert code == 2  # the code is no longer what was emitted
    assert "--trust" in err
    code, out, _ = run("verify", copy, "--trust")
    assert code == 1
    assert "the first module that drifts: first" in out
    assert "weights have changed" not in out


def test_a_port_that_was_trained_is_said_to_be_and_its_code_is_compared(
    here, ported, monkeypatch
):
    """From another folder than the one that it was made in, and with a name from there."""
    import shutil

    copy = ported[0].parent / "copy"
    shutil.copytree(ported[0], copy)
    tensors = load_file(copy / "model.safetensors")
    [name] = [n for n in tensors if "second" in n and "up" in n and "bias" in n]
    tensors[name] = tensors[name] + np.float32(0.5)
    save_file(tensors, copy / "model.safetensors")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    monkeypatch.delitem(sys.modules, "cli_factories", raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(here)])
    code, out, err = run("verify", copy)
    assert code == 0, err
    first = out.splitlines()[0]
    assert first.startswith("weights have changed since the port: 1 of 12.")
    assert "parity holds" in out
    code, out, _ = run("verify", copy, "--json")
    assert code == 0
    assert json.loads(out)["trained"] == [name]
    assert json.loads(out)["report"]["notes"][0].startswith("weights have changed")


def test_weights_go_home_bit_for_bit(here, ported):
    import torch
    from cli_factories import build

    code, _, err = run("weights", "home", ported[0], "-o", here / "home")
    assert code == 0, err
    torch.manual_seed(0)
    source = {name: value.numpy() for name, value in build().state_dict().items()}
    [file] = (here / "home").glob("*.safetensors")
    home = load_file(file)
    assert home.keys() == source.keys()
    assert all(np.array_equal(home[name], source[name]) for name in source)


def test_weights_that_are_there_go_with_overwrite_alone(here, ported):
    home = here / "home"
    home.mkdir()
    (home / "mine.txt").write_text("mine")
    save_file({"x": np.zeros(3)}, home / "model.safetensors")
    before = (home / "model.safetensors").read_bytes()
    code, _, err = run("weights", "home", ported[0], "-o", home)
    assert code == 2
    assert "holds weights already" in err
    assert "--overwrite" in err
    assert (home / "model.safetensors").read_bytes() == before
    code, out, err = run("weights", "home", ported[0], "-o", home, "--overwrite")
    assert code == 0, err
    assert "no weight has changed since the port" in " ".join(out.split())
    assert "first.up.weight" in load_file(home / "model.safetensors")
    assert (home / "mine.txt").read_text() == "mine"


def test_weights_that_ivyport_did_not_save_go_home_with_changed_alone(here, ported):
    shutil.copytree(ported[0], here / "edited")
    [file] = (here / "edited").glob("model*.safetensors")
    weights = load_file(file)
    name = min(n for n in weights if weights[n].ndim)
    weights[name] = weights[name] + 1
    save_file(weights, file)
    code, _, err = run("weights", "home", here / "edited", "-o", here / "home")
    assert code == 2
    assert "changed since the port was saved" in err
    assert not (here / "home").exists()
    code, out, err = run(
        "weights", "home", here / "edited", "-o", here / "home", "--changed"
    )
    assert code == 0, err
    assert "1 of 12 weights were trained since the port" in out


def test_settings_and_static_sizes_are_built_in_and_said(here):
    args = ("torch", "cli_factories:Scaled", "--to", "torch", "--input", INPUT)
    settings = ("--set", "factor=3.0", "--set", "mode=mean")
    code, out, err = run(*args, *settings, "--static", "-o", "out")
    assert code == 0, err
    record = json.loads((here / "out/port.json").read_text())
    assert record["free"] == {"x": {}}
    assert record["inputs"][0]["shape"] == "(2, 16)"
    for said in ("factor=3.0", "mode='mean'"):
        assert any(said in note for note in record["notes"]), record["notes"]
        assert said in out
        assert said.replace("'", "") in (here / "out/README.md").read_text().replace(
            "'", ""
        ).replace("\\", "")
    code, out, err = run("verify", "out")
    assert code == 0, err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--set", "factor"), "NAME=VALUE is due"),
        (("--set", "x=1"), "--set x: that is an input already"),
        (("--set", "a=1", "--set", "a=2"), "--set a is given twice"),
        (("--static", "--dims", "x=batch"), "--static fixes every size"),
    ],
)
def test_settings_that_do_not_read_are_refused(here, args, message):
    given = ("torch", "cli_factories:Scaled", "--to", "torch", "--input", INPUT)
    code, _, err = run(*given, *args)
    assert code == 2
    assert message in err


def test_ctrl_c_says_what_was_kept_and_is_no_parity_failure(here, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("ivyport.api.compile_port", interrupted)
    args = ("torch", "cli_factories:build", "--to", "torch", "--input", INPUT)
    code, _, err = run(*args, "-o", "out")
    assert code == 130
    assert "interrupted: out is as it was" in err
    assert not (here / "out").exists()


def test_params_are_loaded_into_the_source(here):
    import torch
    from cli_factories import build
    from safetensors.torch import save_file as save_torch

    torch.manual_seed(7)
    params = build().state_dict()
    save_torch(params, here / "params.safetensors")
    args = (
        "torch",
        "cli_factories:build",
        "--to",
        "jax",
        "--input",
        INPUT,
        "-o",
        "out",
    )
    code, _, err = run(*args, "--params", "params.safetensors")
    assert code == 0, err
    code, _, err = run("weights", "home", "out", "-o", "home")
    assert code == 0, err
    [file] = (here / "home").glob("*.safetensors")
    assert np.array_equal(load_file(file)["first.up.weight"], params["first.up.weight"])


def test_a_transformers_folder_ports_and_verifies_again(here):
    from transformers import BertModel

    from ivyport.zoo.hf_configs import tiny_config

    BertModel(tiny_config("bert")).save_pretrained(here / "tiny_bert")
    code, out, err = run("hf", "tiny_bert", "--to", "jax", "--seq-len", "7")
    assert code == 0, err
    assert "parity holds" in out
    assert (here / "ported/tiny_bert/modeling_tiny_bert.py").is_file()
    code, out, err = run("verify", "ported/tiny_bert")
    assert code == 0, err


def test_the_parity_table_shows_every_failure_and_the_worst_of_the_rest():
    from ivyport.core.report import ReportRow

    def row(i: int, passed: bool) -> ReportRow:
        return ReportRow(
            name=f"p[{i}]",
            kind="gradient",
            shapes="(3,)",
            max_abs=i * 1.0,
            max_rel=i * 1.0,
            tolerance=1e-4,
            passed=passed,
            note="",
        )

    rows = [row(i, passed=i % 10 != 0) for i in range(1, 91)]
    table = parity_table(rows)
    names = list(table.columns[1].cells)
    assert names[:2] == ["gradient p[90]\n  (3,)", "gradient p[80]\n  (3,)"]
    assert len(names) == 10
    assert names[-1] == "gradient: 81 more, all smaller"


LONG = "encoder.layers.layer.11.attention.self.query_projection.low_rank_adapter.kernel"


def _shown(width: int | None) -> list[str]:
    import io

    from rich.console import Console

    from ivyport.core.report import Report, ReportRow

    row = ReportRow(
        LONG, "gradient", "(1024, 64)", 1e-8, 1e-9, 1e-4, True, "a note " * 20
    )
    screen = Screen()
    file = io.StringIO()
    screen.out = Console(
        file=file, width=width, force_terminal=width is not None, soft_wrap=True
    )
    screen.parity(Report((row,), not_checked=("gradients: of nothing",)))
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()


def test_the_parity_table_fits_a_terminal_of_eighty_columns():
    lines = _shown(80)
    assert max(map(len, lines)) <= 80
    [named] = [line for line in lines if "gradient enc" in line]
    # The ends of a name tell what it is; numbers are beside it.
    assert "kernel" in named
    assert "…" in named
    assert named.rstrip().endswith("1e-04")
    assert any("(1024, 64)  a note" in line for line in lines)


def test_the_parity_table_is_whole_in_a_pipe():
    lines = _shown(None)
    [named] = [line for line in lines if LONG in line]
    assert named.rstrip().endswith("1e-04")
    [note] = [line for line in lines if "(1024, 64)" in line]
    assert note.count("a note") == 20
    assert "not checked: gradients: of nothing" in lines


def _screen(width: int | None, **options: bool) -> tuple[Screen, Any]:
    import io

    from rich.console import Console

    screen, file = Screen(**options), io.StringIO()
    terminal = width is not None
    screen.out = Console(
        file=file, width=width, force_terminal=terminal, soft_wrap=True
    )
    screen.err = Console(file=file, width=width, force_terminal=terminal)
    return screen, file


def test_numbers_beside_short_names_are_whole_in_a_pipe():
    from ivyport.core.report import Report, ReportRow

    row = ReportRow("y", "output", "(2,)", 1.2e-7, 2.5e-7, 1e-5, True)
    screen, file = _screen(None)
    screen.parity(Report((row,)))
    shown = file.getvalue()
    assert "…" not in shown
    assert all(text in shown for text in ("tolerance", "1.2e-07", "2.5e-07", "1e-05"))
    assert "✓" in shown


def test_every_target_is_in_the_help_of_to():
    shown = cli_port._TARGETS
    assert all(name in shown for name in TARGETS)


def test_lines_are_wrapped_between_words_in_a_terminal_and_whole_in_a_pipe():
    text = f"note: the weights of {LONG} are kept aside, for the computation needs none of them"
    screen, file = _screen(80)
    screen.line(text)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 + len("  ")
    assert any(LONG in line for line in lines)
    assert len(lines) > 1
    screen, file = _screen(None)
    screen.line(text)
    assert file.getvalue() == f"{text}\n"


def test_whole_names_are_shown_where_they_are_asked_for():
    from ivyport.core.report import Report, ReportRow

    row = ReportRow(LONG, "gradient", "(1024, 64)", 1e-8, 1e-9, 1e-4, True, "")
    screen, file = _screen(80, verbose=True)
    screen.parity(Report((row,)))
    assert LONG in file.getvalue()


def test_errors_are_whole_lines_in_a_pipe_and_a_panel_in_a_terminal():
    import typer

    from ivyport.core.errors import InputError

    for width, framed in ((None, False), (80, True)):
        screen, file = _screen(width)
        with pytest.raises(typer.Exit), screen.work():
            raise InputError(f"{LONG} is wrong " * 3)
        shown = file.getvalue()
        assert ("╭" in shown) == framed
        if not framed:
            assert f"InputError: {LONG} is wrong {LONG} is wrong" in shown


def test_what_verification_needs_is_said_before_it_and_a_warning_where_it_is_too_much(
    here,
):
    from ivyport.cli_render import Stages
    from ivyport.core import memory

    assert memory.needed(2 * 10**9) > 3 * memory.needed(10**8)
    assert memory.available() > 10**8
    args = ("torch", "cli_factories:Scaled", "--to", "torch", "--input", INPUT)
    code, _, err = run(*args, "-o", "out")
    assert code == 0
    assert re.search(r"memory +0\.0 s +\d[\d.]* GB of", err)
    assert err.index("memory") < err.index("verify")
    screen, file = _screen(None)
    with Stages(screen.err) as stages:
        stages("memory", 9 * 10**9, 4 * 10**9)
    assert "warning: verifying needs about 9.0 GB" in file.getvalue()
