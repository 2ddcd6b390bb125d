"""Reports: verdict, summary, and JSON that every parser takes."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from ivyport.cli_render import parity_table
from ivyport.core.errors import InputError
from ivyport.core.report import Report, ReportRow, worst


def row(name: str = "logits", **fields) -> ReportRow:
    values = {
        "kind": "output",
        "shapes": "(2, 3)",
        "max_abs": 1e-6,
        "max_rel": 2e-6,
        "tolerance": 1e-5,
        "passed": True,
        **fields,
    }
    return ReportRow(name, **values)


FULL = Report(
    rows=(
        row(),
        row("pooled", max_rel=math.nan, max_abs=math.inf, passed=False, note="NaN"),
        row("w", kind="gradient", max_rel=-math.inf, inputs="second"),
    ),
    first_drift="encoder.layer.3: something",
    precision="float32",
    dims={"batch": (2, 3)},
    notes=("a 'quoted' note",),
)


def test_json_round_trip_without_invalid_tokens():
    text = json.dumps(FULL.to_json(), allow_nan=False)
    assert '"NaN"' in text
    assert '"Infinity"' in text
    assert '"-Infinity"' in text
    # NaN is not equal to itself.
    assert repr(Report.from_json(json.loads(text))) == repr(FULL)


def test_an_empty_report_has_verified_nothing():
    assert not Report(rows=()).passed
    assert Report(rows=(row(),)).passed
    assert not FULL.passed


@pytest.mark.parametrize(
    "change",
    [
        {"rows": None},
        {"rows": [{"name": "x"}]},
        {"rows": [{**row().to_json(), "kind": "guess"}]},
        {"rows": [{**row().to_json(), "passed": 1}]},
        {"rows": [{**row().to_json(), "max_abs": "nan"}]},
        {"rows": [{**row().to_json(), "max_abs": True}]},
        {"rows": [{**row().to_json(), "max_abs": ["NaN"]}]},
        {"dims": {"batch": 2}},
        {"dims": []},
        {"notes": "text"},
        {"notes": [1]},
        {"first_drift": 3},
        {"more": 1},
    ],
)
def test_from_json_refuses(change):
    with pytest.raises(InputError):
        Report.from_json({**FULL.to_json(), **change})


def test_summary_has_the_worst_row_of_each_group():
    rows = (
        row("a", max_rel=1e-7),
        row("b", max_rel=5e-6),
        row("ids", max_rel=0.0, tolerance=0.0),
        row("w", kind="gradient", max_rel=1e-6, tolerance=1e-4),
        row("v", kind="gradient", max_rel=2e-4, tolerance=1e-4, passed=False),
        row("b", inputs="second", note="batch 3"),
    )
    output, gradient, second = Report(rows).summary()
    assert (output.name, output.note) == ("b", "worst of 3")
    assert (gradient.name, gradient.note) == ("v", "worst of 2, 1 fail")
    assert (second.inputs, second.note) == ("second", "batch 3")


def test_nan_and_failures_are_worse_than_any_number():
    rows = [
        row("big", max_rel=1e9, passed=False),
        row("nan", max_rel=math.nan, passed=False),
        row("wide", max_rel=1.0, tolerance=10.0),
    ]
    assert worst(rows).name == "nan"
    assert worst(rows[::2]).name == "big"


def test_the_command_line_shows_every_row():
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(parity_table(FULL.rows))
    text = console.export_text()
    assert "pooled" in text
    assert "NaN" in text
    assert "gradient w" in text
