"""`PortRecord` says what ``port.json`` says: all of it, and nothing of another kind."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ivyport.core.errors import SourceError, WeightsError
from ivyport.record import PortRecord

PATH = Path("out/port.json")
TOLD: dict[str, Any] = {
    "format": 2,
    "ivyport": "0.1.0",
    "target": "jax",
    "file": "modeling_tiny.py",
    "class": "Tiny",
    "config": "TinyConfig",
    "source": {"framework": "torch 2.13", "rebuild": {"model": "a:b"}},
    "versions": {"torch": "2.13"},
    "inputs": [
        {"name": "ids", "dtype": "int32", "shape": "(B, S)", "at": "x.ids",
         "example": [2, 12], "below": 99},
        {"name": "x", "dtype": "float32", "shape": "()", "at": "x", "example": None},
    ],
    "arguments": [{"name": "x", "kind": "keyword", "structure": {"input": "x"}}],
    "free": {"ids": {"0": "batch"}},
    "dims": {"batch": [1, None]},
    "rounded": {"output": "float64"},
    "checks": [{"left": "T%2", "relation": "==", "right": "0", "line": "x.py:3"}],
    "modules": {"encoder.0": "encoder.layers[0]"},
    "notes": ["a note"],
    "weights": {"rows": [{"source": "w", "target": "kernel"}], "unused": []},
    "built_in": {"act": "gelu"},
    "as_ported": {"kernel": "01234567"},
    "compared": "the outputs",
    "verified": True,
    "ported_weights": "0" * 64,
    "files": {"modeling_tiny.py": {"size": 3, "sha256": "0" * 64}},
    "digest": "1" * 64,
}  # fmt: skip


def test_everything_that_is_read_is_written() -> None:
    record = PortRecord.from_json(PATH, TOLD)
    written = record.to_json()
    assert written.keys() == TOLD.keys()
    rows = [{"source": "w", "target": "kernel"}]
    assert [
        {k: row[k] for k in ("source", "target")} for row in written["weights"]["rows"]
    ] == rows
    assert {k: v for k, v in written.items() if k != "weights"} == {
        k: v for k, v in TOLD.items() if k != "weights"
    }
    assert PortRecord.from_json(PATH, written) == record
    # Every part is looked at: the sample leaves none at its default.
    plain = {f.name for f in fields(PortRecord) if getattr(record, f.name) in ((), {})}
    assert not plain


def test_parts_with_defaults_may_be_missing() -> None:
    needed = ("ivyport", "target", "file", "class", "config", "source", "weights")
    told = {k: TOLD[k] for k in (*needed, "modules")}
    record = PortRecord.from_json(PATH, told)
    assert record.inputs == ()
    for key in needed:
        with pytest.raises(SourceError, match=f"without {key}"):
            PortRecord.from_json(PATH, {k: v for k, v in told.items() if k != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inputs", {"ids": {}}),
        ("inputs", [{"name": "ids"}]),
        ("inputs", ["ids"]),
        ("inputs", [{**TOLD["inputs"][0], "example": [-1]}]),
        ("inputs", [{**TOLD["inputs"][0], "below": "99"}]),
        ("arguments", [{"name": "x"}]),
        ("arguments", {"x": 1}),
        ("dims", {"batch": 3}),
        ("dims", {"batch": ["1", None]}),
        ("dims", {"batch": [1, 2, 3]}),
        ("free", {"ids": {"x": "batch"}}),
        ("rounded", {"output": 64}),
        ("checks", [{"left": "__import__('os')", "relation": "==", "right": "0"}]),
        ("checks", [{"left": "T", "right": "0"}]),
        ("checks", [{"left": "T", "relation": "is", "right": "0"}]),
        ("checks", [{"left": "(" * 5000, "relation": "==", "right": "0"}]),
        ("as_ported", ["kernel"]),
        ("verified", "yes"),
        ("versions", {"torch": 2}),
        ("notes", [1]),
        ("source", "a:b"),
    ],
)
def test_a_part_of_another_kind_is_damage(key: str, value: Any) -> None:
    with pytest.raises(SourceError, match=rf"port\.json is damaged \({key}"):
        PortRecord.from_json(PATH, {**TOLD, key: value})


def test_a_weight_map_that_contradicts_itself_names_the_file() -> None:
    with pytest.raises(WeightsError, match=r"port\.json"):
        PortRecord.from_json(PATH, {**TOLD, "weights": {"rows": [{"source": 1}]}})
