"""The driver, with real processes: what engines do wrong ends in their own rows."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ivyport.bench import suite
from ivyport.bench.case import Case, Row
from ivyport.bench.engines import Engine
from ivyport.bench.processes import Quiet, StepError, Worker, environment
from ivyport.bench.runner import Options, Results, Runner, speed_up

HERE = Path(__file__).resolve().parent
FAULTS = ("wrong", "stale", "late", "memory", "killed", "leaves", "refuses")
OPTIONS = Options(runs=50, rounds=5, warm_calls=20, quiet=Quiet(patience=0))


def engine(name, packages=(), framework="torch"):
    return Engine(name, name, framework, packages, f"faults:{name}", path=(str(HERE),))


ENGINES = [
    engine("exact"),
    *map(engine, FAULTS),
    engine("absent", ("no_such_package",)),
]


class Kept:
    """What was kept after every row, as the statuses of the rows so far."""

    def __init__(self):
        self.seen = []

    def __call__(self, results):
        self.seen.append([row.status for row in results.rows])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    entries = suite.resolve(["tiny:bert"])
    case = Case("tiny:bert", "forward", 1, 8, "float32", "cpu")
    results, kept = Results({}), Kept()
    work = tmp_path_factory.mktemp("work")
    options = Options(**vars(OPTIONS) | {"work": work})
    runner = Runner(entries, ENGINES, options, results, keep=kept, say=lambda _: None)
    runner.run([case])
    return results, kept, list(work.iterdir())


@pytest.mark.parametrize(
    ("name", "status", "detail"),
    [
        ("exact", "ok", None),
        ("wrong", "parity", "differs from torch by"),
        ("stale", "parity", "differs from torch by"),
        ("late", "out_of_memory", "RESOURCE_EXHAUSTED"),
        ("memory", "out_of_memory", "MemoryError: no room"),
        ("killed", "out_of_memory", "was killed"),
        ("leaves", "failed", "ended with code 3"),
        ("refuses", "compile_failed", "cannot compile that"),
        ("absent", "not_installed", "no_such_package"),
    ],
)
def test_each_engine_gets_its_row(measured, name, status, detail):
    results, *_ = measured
    [row] = [row for row in results.rows if row.engine == name]
    assert row.status == status
    if detail is None:
        assert row.key not in results.details
    else:
        assert detail in results.details[row.key]
        assert row.median_ms is None
        assert row.speedup_vs_best_torch is None
        assert row.key not in results.samples


def test_the_right_engine_is_timed(measured):
    results, *_ = measured
    row = results.rows[0]
    assert row.engine == "exact"
    assert row.runs == OPTIONS.runs
    assert 1.0 <= row.median_ms < 50
    assert row.p10_ms <= row.median_ms <= row.p90_ms
    assert row.peak_memory_mb == 5.0
    assert row.max_rel_diff == 0
    assert [len(times) for times in results.samples[row.key]] == [10] * 5


def test_rows_are_in_the_order_of_the_engines(measured):
    results, *_ = measured
    assert [row.engine for row in results.rows] == [e.name for e in ENGINES]


def test_rows_are_kept_as_they_come_and_nothing_else_is(measured):
    _, kept, left = measured
    assert [len(seen) for seen in kept.seen] == [
        *range(1, len(ENGINES) + 1),
        len(ENGINES),
    ]
    assert left == []


def test_an_engine_that_hangs_is_given_up(tmp_path):
    job = {
        "engine": "hangs",
        "loader": "faults:hangs",
        "port": None,
        "path": [str(HERE)],
        "model": str(tmp_path),
        "inputs": str(tmp_path),
        "cls": "",
        "mode": "forward",
        "dtype": "float32",
        "device": "cpu",
        "threads": 1,
        "tf32": False,
    }
    worker = Worker("hangs", job, tmp_path, environment("cpu", tmp_path))
    try:
        with pytest.raises(StepError, match="no answer in 1 s") as caught:
            worker.ready(1.0)
    finally:
        worker.kill()
    assert caught.value.status == "timeout"


def test_engines_without_their_device_are_named():
    results = Results({})
    runner = Runner(
        suite.resolve(["tiny:bert"]),
        [engine("exact", framework="jax")],
        OPTIONS,
        results,
        keep=lambda _: None,
        say=lambda _: None,
        seen={"torch"},
    )
    runner.run([Case("tiny:bert", "forward", 1, 8, "float32", "gpu")])
    assert [row.status for row in results.rows] == ["no_device"]


def test_a_model_that_cannot_be_built_is_said_in_every_row(tmp_path):
    results = Results({})
    runner = Runner(
        suite.resolve(["tiny:bert"]),
        [engine("exact"), engine("wrong")],
        OPTIONS,
        results,
        keep=lambda _: None,
        say=lambda _: None,
    )
    runner.run([Case("tiny:bert", "forward", 1, 4096, "float32", "cpu")])
    assert [row.status for row in results.rows] == ["failed", "failed"]
    assert all("4096" in text for text in results.details.values())


def test_speed_up_is_over_the_fastest_torch_mode():
    case = Case("gpt2", "forward", 1, 8, "float32", "cpu")
    rows = [Row.of(case, name) for name in ("eager", "compile", "jax", "broken")]
    for row, median in zip(rows, (4.0, 2.0, 1.0, None), strict=True):
        row.median_ms = median
    speed_up(rows, {"eager", "compile", "absent"})
    assert [row.speedup_vs_best_torch for row in rows] == [0.5, 1.0, 2.0, None]


def test_runs_are_spread_over_rounds():
    assert Options(runs=11, rounds=4).counts() == [3, 3, 3, 2]
    assert Options(runs=2, rounds=10).counts() == [1, 1]
