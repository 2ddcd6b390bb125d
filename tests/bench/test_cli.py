"""`ivyport bench` as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ivyport.bench import environment, report
from ivyport.bench.case import FIELDS
from ivyport.cli import app
from tests.bench.test_report import results

QUICK = ["--runs", "4", "--rounds", "2", "--threads", "1", "--patience", "0"]


def call(*arguments):
    return CliRunner().invoke(app, ["bench", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-model"], "no benchmark model 'no-such-model'"),
        (["gpt2", "--mode", "sideways"], "mode 'sideways' is none of: forward, train"),
        (["gpt2", "--dtype", "int8"], "dtype 'int8' is none of"),
        (["gpt2", "--device", "tpu"], "--device 'tpu' is none of: cpu, gpu"),
        (["gpt2", "--batch", "one"], "--batch 'one': give positive whole numbers"),
        (["gpt2", "--seq-len", "0"], "--seq-len '0': give positive whole numbers"),
        (["gpt2", "--to", "cobol"], "no target 'cobol'"),
        (["gpt2", "--baseline", "fast"], "--baseline 'fast' is none of"),
        (["compare", "a.json"], "takes two result files, and got 1"),
        (["compare", "a.json", "b.json"], "a.json: no such file"),
    ],
)
def test_bad_requests_are_one_clear_error(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*arguments, "--json")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "InputError"
    assert message in error["message"]
    assert not (tmp_path / "results").exists()


def test_a_gpu_that_is_not_there_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(environment, "frameworks_with_gpu", set)
    done = call("gpt2", "--device", "gpu", "--json")
    assert done.exit_code == 2
    assert "neither torch nor jax sees a GPU" in done.stdout


def test_compare_prints_what_changed(tmp_path):
    first, *_ = report.write(results(seed=1), tmp_path / "a")
    second, *_ = report.write(results(seed=2, factor=0.5), tmp_path / "b")
    done = call("compare", str(first), str(second))
    assert done.exit_code == 0
    [line] = [x for x in done.stdout.splitlines() if "gpt2" in x and " jax " in x]
    assert line.rstrip().endswith("faster")
    done = call("compare", str(first), str(second), "--json")
    changes = json.loads(done.stdout)["changes"]
    assert {c["verdict"] for c in changes if c["engine"] == "jax"} == {"faster"}


def test_the_environment_is_described():
    found = environment.describe(device="cpu", threads=1, tf32=False)
    assert found["versions"]["torch"]
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    text = json.dumps(found)
    assert os.uname().nodename not in text.replace("localhost", "")
    assert str(Path.home()) not in text


@pytest.mark.parametrize(("width", "whole"), [(80, False), (200, True), (None, True)])
def test_the_table_fits_the_terminal_and_says_what_it_leaves_out(width, whole):
    import io
    import re

    from rich.console import Console

    from ivyport.cli_bench import _show
    from ivyport.cli_render import Screen

    screen, file = Screen(), io.StringIO()
    terminal = width is not None
    screen.out = Console(
        file=file, width=width, force_terminal=terminal, soft_wrap=True
    )
    _show(results(), Path("results/bench"), screen)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    table = [line for line in shown.splitlines() if re.match(r" *(eager|jax) ", line)]
    assert table
    assert (max(map(len, table)) <= 80) or whole
    assert (" mean " in shown.partition("eager  ")[0]) == whole
    assert ("in a wider terminal" in " ".join(shown.split())) != whole
    assert "4.0" in shown


@pytest.mark.slow
def test_a_whole_run(tmp_path):
    arguments = ["tiny:bert", "--seq-len", "8", "--baseline", "eager,compile", "--json"]
    done = call(*arguments, *QUICK, "-o", str(tmp_path))
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert [r["engine"] for r in data["rows"]] == ["eager", "compile", "jax"]
    for row in data["rows"]:
        assert tuple(row) == FIELDS
        assert row["status"] == "ok"
        assert row["runs"] == 4
        assert row["max_rel_diff"] <= 1e-4
    assert data["rows"][0]["compile_s"] is None
    assert data["rows"][2]["compile_s"] > 0
    assert sorted(f.suffix for f in tmp_path.iterdir())[:3] == [".csv", ".json", ".md"]


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_rows(tmp_path):
    command = [sys.executable, "-m", "ivyport", "bench", "tiny:bert", "tiny:gpt2"]
    command += ["--seq-len", "8", "--baseline", "eager", "-o", str(tmp_path), *QUICK]
    with subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if line.startswith("tiny:gpt2"):  # the second model has begun
                break
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130
    assert "interrupted: the rows that are done are kept (2)" in rest
    [file] = tmp_path.glob("*.json")
    data = json.loads(file.read_text())
    assert [(r["model"], r["engine"]) for r in data["rows"]] == [
        ("tiny:bert", "eager"),
        ("tiny:bert", "jax"),
    ]
