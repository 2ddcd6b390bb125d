"""Result files: their schema, tables, plots, and what two of them say together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ivyport.bench import report
from ivyport.bench.case import FIELDS, Case, Row
from ivyport.bench.compare import compare, differences
from ivyport.bench.doubts import doubts
from ivyport.bench.runner import Results, speed_up
from ivyport.bench.timer import summary
from ivyport.core.errors import InputError

ENVIRONMENT = {
    "date": "2026-01-01T00:00:00+00:00",
    "processor": "a processor",
    "cores": 2,
    "memory_gb": 24.0,
    "clock_mhz": None,
    "load_before": (0.1, 0.1, 0.1),
    "python": "3.11",
    "versions": {"jax": "0.10.2"},
    "threads": 2,
    "tf32": False,
    "left_out": ["Llama-3.2-1B: 5 engines need 9 of 4 GB"],
}
SPEEDS = {"eager": 0.010, "compile": 0.008, "jax": 0.004}


def results(*, seed=0, factor=1.0, spread=0.02, rounds=10):
    """Three engines on two models, and one engine that failed."""
    generator = np.random.default_rng(seed)
    found = Results(dict(ENVIRONMENT))
    for model, length in (("gpt2", 128), ("resnet-50", None)):
        case = Case(model, "forward", 1, length, "float32", "cpu")
        rows = []
        for name, seconds in SPEEDS.items():
            row = Row.of(case, name)
            scale = seconds * (factor if name == "jax" else 1.0)
            drawn = scale * generator.lognormal(0, spread, (rounds, 5))
            found.samples[row.key] = drawn.tolist()
            for field, value in summary(drawn.ravel()).items():
                setattr(row, field, value)
            row.runs = drawn.size
            rows.append(row)
        broken = Row.of(case, "jax-scan", "parity")
        broken.max_rel_diff = 0.3
        found.details[broken.key] = "differs from torch by 3.0e-01"
        found.rows += [*rows, broken]
        speed_up(rows, {"eager", "compile"})
    return found


def test_json_has_the_published_schema(tmp_path):
    files = report.write(results(), tmp_path / "new" / "bench")
    assert [file.suffix for file in files] == [".json", ".csv", ".md"]
    data = json.loads(files[0].read_text())
    assert set(data) == {"environment", "rows"}
    assert all(tuple(row) == FIELDS for row in data["rows"])
    [jax] = [r for r in data["rows"] if r["engine"] == "jax" and r["model"] == "gpt2"]
    assert jax["speedup_vs_best_torch"] == pytest.approx(2.0, rel=0.05)
    assert not list(tmp_path.rglob(".*"))


def test_files_are_read_back(tmp_path):
    wanted = results()
    file, *_ = report.write(wanted, tmp_path / "bench")
    environment, rows, samples = report.read(file)
    assert environment["cores"] == 2
    assert rows == wanted.rows
    assert samples.keys() == wanted.samples.keys()
    for key, rounds in samples.items():
        np.testing.assert_allclose(rounds, wanted.samples[key], rtol=1e-4)


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [{}], "environment": {}}'])
def test_files_of_others_are_refused(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(InputError, match="is no result of `ivyport bench`"):
        report.read(file)
    with pytest.raises(InputError, match="no such file"):
        report.read(tmp_path / "b.json")


def test_page_has_speed_ups_and_failures():
    page = report.page(results())
    assert "geometric mean of 2 of 2 cases" in page
    [line] = [x for x in page.splitlines() if x.startswith("| gpt2, 1 x128 | jax | 4")]
    assert "| 2.5" in line or "| 2.4" in line
    assert "| gpt2, 1 x128 | jax-scan | parity |" in page
    assert "jax-scan: parity. differs from torch by 3.0e-01" in page
    assert "left out: Llama" in page
    widths = {x.count("|") for x in page.splitlines() if x.startswith("| gpt2")}
    assert len(widths) <= 2  # that of each table


def test_plots_are_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    files = report.write_plots(results(), tmp_path / "bench")
    assert [f.name for f in files] == ["bench_speedup.png", "bench_latency.png"]
    for file in files:
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert int.from_bytes(data[16:20], "big") >= 1200  # wide enough for a report
        assert len(data) > 4000
    assert report.write_plots(Results(dict(ENVIRONMENT)), tmp_path / "none") == []


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "within the noise"), (0.8, "faster"), (1.3, "slower")],
)
@pytest.mark.parametrize("keep_samples", [True, False])
def test_compare_tells_changes_from_noise(tmp_path, factor, verdict, keep_samples):
    first, *_ = report.write(results(seed=1), tmp_path / "a")
    second, samples, _ = report.write(results(seed=2, factor=factor), tmp_path / "b")
    if not keep_samples:
        samples.unlink()
    changes, different = compare(first, second)
    found = {(c.row.model, c.row.engine): c.verdict for c in changes}
    assert found[("gpt2", "jax")] == verdict
    assert found[("gpt2", "eager")] == "within the noise"
    assert found[("gpt2", "jax-scan")] == "not ok in either"
    assert different == []
    assert ("by p10 and p90" in changes[0].note) == (not keep_samples)


def test_noisy_runs_are_not_told_apart(tmp_path):
    first, *_ = report.write(results(seed=1, spread=0.6), tmp_path / "a")
    second, *_ = report.write(results(seed=2, spread=0.6, factor=0.9), tmp_path / "b")
    changes, _ = compare(first, second)
    assert changes[2].row.engine == "jax"
    assert changes[2].verdict == "within the noise"


def test_compare_names_what_only_one_side_has(tmp_path):
    a, b = results(), results()
    a.rows = [row for row in a.rows if row.engine != "jax"]
    b.rows = [row for row in b.rows if row.engine != "eager"]
    [scan] = [r for r in b.rows if r.engine == "jax-scan" and r.model == "gpt2"]
    scan.status, scan.median_ms = "ok", 1.0
    first, *_ = report.write(a, tmp_path / "a")
    second, *_ = report.write(b, tmp_path / "b")
    changes, _ = compare(first, second)
    found = {(c.row.model, c.row.engine): c for c in changes}
    assert found[("gpt2", "jax")].verdict == "only in the second"
    assert found[("gpt2", "eager")].verdict == "only in the first"
    assert found[("gpt2", "jax-scan")].verdict == "now ok"
    assert "parity, then ok" in found[("gpt2", "jax-scan")].cells()[-1]


def test_environments_are_compared():
    other = ENVIRONMENT | {"threads": 1, "versions": {"jax": "0.11.0", "torch": "2.13"}}
    assert differences(ENVIRONMENT, other) == [
        "threads: 2, then 1",
        "jax: 0.10.2, then 0.11.0",
        "torch: absent, then 2.13",
    ]


def test_a_result_is_read_back_as_it_was(tmp_path):
    found = results()
    [file, *_] = report.write(found, tmp_path / "bench")
    again = report.results_of(file)
    assert report.to_json(again) == json.loads(file.read_text())
    assert report.page(again) == report.page(found)


def disturbed():
    """The same with other processes beside the port."""
    found = results()
    for row in found.rows:
        row.others = 1.4 if row.engine == "jax" else 0.1
    return found


def test_a_loaded_machine_is_said_in_the_page_the_table_and_the_means():
    found = disturbed()
    page = report.page(found)
    assert "**Warning:** the machine was loaded: beside 2 of 6 rows (marked !)" in page
    assert "up to 1.4 of 2 cores busy" in page
    [line] = [x for x in page.splitlines() if x.startswith("| gpt2, 1 x128 | jax | 4")]
    assert line.split("|")[3].strip().endswith("!")
    assert all("on a loaded machine" in line for line in report.overall(found.rows))
    assert "Warning" not in report.page(results())


def test_a_loaded_machine_is_said_in_the_plots(monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from ivyport.bench import plots

    texts = []
    write = Figure.text

    def text(self, x, y, shown, *args, **kwargs):
        texts.append(shown)
        return write(self, x, y, shown, *args, **kwargs)

    monkeypatch.setattr(Figure, "text", text)
    assert plots.speedup(disturbed())
    shown = " ".join(texts)
    assert "Warning: the machine was loaded" in shown
    assert "a processor, forward, float32, batch 1, length 128, 2 threads" in shown
    texts.clear()
    assert plots.latency(results())
    assert "Warning" not in " ".join(texts)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"threads": 4}, "4 threads shared 2 cores"),
        ({"threads": 1}, "every engine had 1 of 2 cores"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "OMP_NUM_THREADS was 1"),
        ({"variables": {"XLA_FLAGS": "--xla"}}, "XLA_FLAGS was set: --xla"),
        ({"variables": {"JAX_DISABLE_JIT": "true"}}, "JAX_DISABLE_JIT=true was set"),
        ({"variables": {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}}, "programs were slow"),
        ({"variables": {"TORCHDYNAMO_DISABLE": "0"}}, ""),
        ({"load_before": (1.9, 0.1, 0.1)}, "1.9 processes on 2 cores"),
        ({"variables": {"OMP_NUM_THREADS": "2"}}, ""),
    ],
)
def test_oddly_set_threads_and_load_are_doubts(changes, said):
    found = doubts(ENVIRONMENT | changes, results().rows)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_intervals_are_those_of_rounds():
    from ivyport.bench import plots

    found = results(spread=0.2)
    [row] = [r for r in found.rows if r.engine == "jax" and r.model == "gpt2"]
    low, high = plots._interval(found, row)
    assert low < row.speedup_vs_best_torch < high
    assert high - low > 0.02
