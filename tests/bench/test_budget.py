"""How long a run takes, and what a budget leaves out."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ivyport.bench import budget, runner, suite
from ivyport.bench.case import Row
from ivyport.bench.engines import baselines, ports
from ivyport.bench.runner import Options, Results, Runner, cases_of

ENGINES = [*baselines(["eager", "compile"]), *ports(["jax"])]


def cases(names, batches=(1,)):
    entries = suite.resolve(names)
    found = cases_of(
        entries,
        modes=["forward"],
        dtypes=["float32"],
        batches=list(batches),
        seq_lens=[128],
        device="cpu",
    )
    return entries, found


def test_an_estimate_grows_with_models_engines_and_calls():
    def seconds(names, engines=ENGINES, runs=30, batches=(1,)):
        return budget.estimate(*cases(names, batches), engines, runs, 10)

    three = seconds(["bert-base-uncased", "gpt2", "resnet-50"])
    # Measured on two cores: about nine minutes.
    assert 200 < three < 900
    assert seconds(["bert-base-uncased"]) < three
    assert seconds(["gpt2"], ENGINES[:1]) < seconds(["gpt2"])
    assert seconds(["gpt2"], runs=300) > seconds(["gpt2"])
    assert seconds(["gpt2"], batches=(1, 8)) > seconds(["gpt2"])


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (540, "9 min"), (9000, "2.5 h")]
)
def test_durations_in_words(seconds, words):
    assert budget.in_words(seconds) == words


def run(monkeypatch, limit, took, names=("tiny:bert", "tiny:gpt2", "tiny:vit")):
    """The rows of a run whose models each take `took` seconds by the clock."""
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    entries, planned = cases(list(names))
    results = Results({})
    options = Options(runs=4, rounds=2, budget=limit)

    def model(self, entry, dtype, mode, members, folder):
        now[0] += took
        for case in members:
            row = Row.of(case, "eager")
            row.median_ms = 1.0
            self._add(row)

    monkeypatch.setattr(Runner, "_model", model)
    made = Runner(
        entries, ENGINES, options, results, keep=lambda _: None, say=lambda _: None
    )
    made._clock = budget.Clock(limit, start=0.0)
    made.run(planned)
    return [(row.model, row.status) for row in results.rows], results


def test_without_a_budget_all_models_are_measured(monkeypatch):
    rows, _ = run(monkeypatch, 0, 10_000)
    assert [status for _, status in rows] == ["ok", "ok", "ok"]


def test_what_a_budget_leaves_out_is_a_row_that_says_so(monkeypatch):
    rows, results = run(monkeypatch, 900, 600)
    measured = [model for model, status in rows if status == "ok"]
    assert measured == ["tiny:bert", "tiny:gpt2"]
    left = [status for model, status in rows if model == "tiny:vit"]
    assert left == ["no_time"] * len(ENGINES)
    assert all("--budget" in text for text in results.details.values())


def test_the_first_model_is_measured_whatever_the_budget(monkeypatch):
    rows, _ = run(monkeypatch, 1, 600)
    assert rows[0] == ("tiny:bert", "ok")
    assert {status for _, status in rows[1:]} == {"no_time"}


def test_rounds_end_with_the_budget_but_not_before_there_are_enough(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])

    def turn(self, one, count, device):
        now[0] += 10
        return [0.01] * count

    monkeypatch.setattr(Runner, "_turn", turn)
    _, [case] = cases(["tiny:bert"])
    options = Options(runs=20, rounds=10)
    made = Runner([], [], options, Results({}), keep=lambda _: None, say=lambda _: None)

    def rounds(until):
        now[0] = 0.0
        one = runner._Running(ENGINES[0], None, Row.of(case, "eager"), 0.1)
        made._interleave(case, [one], until)
        return len(one.rounds)

    assert rounds(float("inf")) == 10
    assert rounds(55) == 6
    assert rounds(0) == runner.MIN_ROUNDS


def test_the_estimate_is_said_before_with_what_the_budget_means(capsys):
    from ivyport.cli_bench import _foretell

    entries, planned = cases(["gpt2", "bert-base-uncased"])
    _foretell(entries, planned, ENGINES, Options(runs=30, rounds=10, budget=60))
    said = capsys.readouterr().err
    assert said.startswith("about ")
    assert "for 2 models and 3 engines; the budget is 60 s" in said
    _foretell(entries, planned, ENGINES, Options(runs=30, rounds=10))
    assert "budget" not in capsys.readouterr().err


def test_a_row_of_an_earlier_version_is_read(tmp_path):
    from ivyport.bench import report

    row = Row.of(cases(["tiny:bert"])[1][0], "eager").to_json()
    del row["others"]
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"environment": {}, "rows": [row]}))
    assert report.read(file)[1][0].others is None
