"""The model card: a header that YAML reads, text that does nothing, an example that runs."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ivyport.card import card, code, example, header, text
from ivyport.core.report import Report, ReportRow
from ivyport.record import PortRecord

yaml = pytest.importorskip("yaml")

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b",
    "`x` :smile: $x$ **b** [l](http://evil)",
    "two\nlines\r\n---\nlicense: mit",
    "\x1b[31mred",
    "key: [x, {y: 1}] # comment",
    "‮gnp.exe",
    "&lt; &amp; @everyone #1 ~~s~~ !x",
]


def record(**changes: Any) -> PortRecord:
    told = {
        "ivyport": "0.1.0",
        "target": "jax",
        "file": "modeling_tiny.py",
        "class": "BertModel",
        "source": {"framework": "torch 2.13", "name": "transformers.BertModel"},
        "inputs": [
            {"name": "ids", "dtype": "int32", "shape": "(B, S)", "example": [2, 12]},
            {"name": "mask", "dtype": "bool", "shape": "(B, S)", "example": [2, 12]},
        ],
        "arguments": [
            {"name": "ids", "kind": "positional", "structure": {"input": "ids"}},
            {"name": "mask", "kind": "keyword", "structure": {"input": "mask"}},
            {"name": "flag", "kind": "keyword", "structure": {"constant": False}},
        ],
        "config": None,
        "weights": {"rows": []},
        "modules": {},
        "notes": [],
    } | changes
    return PortRecord.from_json(Path("port.json"), told)


def parsed(**changes: Any) -> dict[str, Any]:
    lines = header(record(**changes))
    assert (lines[0], lines[-1]) == ("---", "---")
    return yaml.safe_load("\n".join(lines[1:-1]))


def test_the_header_says_license_base_model_library_and_tags():
    source = {
        "id": "sentence-transformers/all-MiniLM-L6-v2",
        "revision": "c9745ed1",
        "model_type": "bert",
        "card": {"license": "apache-2.0", "language": ["en", "no"], "other": "x"},
    }
    assert parsed(source=source) == {
        "license": "apache-2.0",
        "language": ["en", "no"],
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "library_name": "flax",
        "tags": ["jax", "flax", "ivyport", "bert"],
    }
    assert parsed(target="torch")["library_name"] == "pytorch"


def test_a_folder_of_this_machine_is_no_base_model():
    assert "base_model" not in parsed(source={"id": "bert_tiny/model"})
    assert "license" not in parsed(source={"id": "bert_tiny/model"})


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_a_source_tells_is_a_string_of_yaml(value):
    source = {
        "id": value,
        "revision": value,
        "model_type": value,
        "card": {"license": value, "language": [value]},
    }
    found = parsed(source=source)
    assert found["license"] == value
    assert found["language"] == [value]
    assert found["base_model"] == value
    assert found["tags"][-1] == value
    assert set(found) == {"license", "language", "base_model", "library_name", "tags"}


@pytest.mark.parametrize("value", HOSTILE)
def test_text_and_code_are_one_line_that_does_nothing(value):
    for shown in (text(value), code(value)):
        assert shown.isprintable()
        assert not re.search(r"(?<!\\)\|", shown)
    shown = text(value)
    assert "<" not in shown
    assert not re.search(r":\w+:", shown)
    assert not re.search(r"(?<!\\)[`*\[$#]", shown.replace("&#58;", ""))


def test_a_hostile_record_makes_a_card_with_the_same_parts():
    hostile = "".join(HOSTILE)
    made = record(notes=[hostile], source={"framework": hostile, "id": hostile})
    [first, *others] = made.inputs
    first = replace(first, name=hostile, at=hostile, shape=hostile, example=None)
    made = replace(made, inputs=(first, *others), arguments=())
    lines = card(made, None).splitlines()
    assert sum(line == "---" for line in lines) == 2
    heads = [line for line in lines if line.startswith("#")]
    assert heads == [
        "# BertModel for Flax NNX",
        "## Use",
        "## Parity with the source",
        "## Notes",
    ]
    assert sum(line.startswith("```") for line in lines) == 2


ROW = ("(3,)", 1e-6, 2e-7, 1e-5)
ROWS = (
    ReportRow("last_hidden_state", "output", *ROW, True),
    ReportRow("pooler_output", "output", "(3,)", 1e-5, 9e-6, 1e-5, True),
    ReportRow("last_hidden_state", "output", *ROW, True, "", "second"),
    ReportRow("encoder|0", "gradient", "(3,)", 1e-2, 2e-2, 1e-4, False),
    ReportRow("embeddings", "train_step", *ROW, True),
)


def test_the_table_tells_outputs_from_gradients_from_training():
    shown = card(record(), Report(ROWS, "encoder.0", "float32", not_checked=("x",)))
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in shown.splitlines()
        if line.startswith("| ") and re.search(r"holds|differ \|", line)
    ]
    assert rows == [
        ["outputs", "as traced", "2", "`pooler_output`", "9.0e-06", "1e-05", "holds"],
        [
            "outputs",
            "other sizes",
            "1",
            "`last_hidden_state`",
            "2.0e-07",
            "1e-05",
            "holds",
        ],
        [
            "gradients",
            "as traced",
            "1",
            "`encoder\\|0`",
            "2.0e-02",
            "1e-04",
            "1 differ",
        ],
        ["training", "as traced", "1", "`embeddings`", "2.0e-07", "1e-05", "holds"],
    ]
    assert "**Parity with the source DOES NOT HOLD** (float32)" in shown
    assert "The first module that drifts: encoder.0." in shown
    assert "Not checked:\n\n- x\n" in shown
    assert "Not verified" in card(record(), None)


def test_the_example_gives_every_tensor_and_leaves_constants_alone():
    lines = example(record())
    assert lines[-1] == (
        "output = model(ids=jnp.ones((2, 12), jnp.int32), mask=jnp.ones((2, 12), jnp.bool_))"
    )
    lines = example(record(target="torch"))
    assert "ids=torch.ones((2, 12), dtype=torch.int32)" in "\n".join(lines)


def test_the_example_of_structured_arguments_is_code():
    pair = {"tuple": [{"input": "ids"}, {"constant": "a'b"}]}
    fields = {"record": "x.State", "fields": [["h", {"input": "mask"}]]}
    described = [
        {"name": "state", "kind": "positional", "structure": pair},
        {"name": "more", "kind": "variadic", "structure": {"tuple": [fields]}},
        {"name": "d", "kind": "keyword",
         "structure": {"dict": [["k", {"list": [{"input": "ids"}]}]]}},
    ]  # fmt: skip
    source = "\n".join(example(record(arguments=described)))
    [call] = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Assign)][-1:]
    shown = ast.unparse(call)
    assert '(jnp.ones((2, 12), jnp.int32), "a\'b")' in shown
    assert "SimpleNamespace(h=jnp.ones((2, 12), jnp.bool_))" in shown
    assert "d={'k': [jnp.ones((2, 12), jnp.int32)]}" in shown


def test_without_known_sizes_the_example_loads_alone():
    [first, *others] = record().inputs
    made = replace(record(), inputs=(replace(first, example=None), *others))
    assert example(made)[-1] == 'model = BertModel.from_pretrained(".")'
