"""Attribute names of emitted classes."""

from __future__ import annotations

import ast

import pytest

from ivyport.backends import pyast
from ivyport.core.ir import Param, TensorType, Value
from ivyport.modules.instances import Instance
from ivyport.modules.layout import Layout, Slot


def instance(children: list[str], params: list[str] | None = None) -> Instance:
    made = Instance("", "pkg.Net", [])
    made.children = {path: Instance(path, "pkg.Part", []) for path in children}
    type_ = TensorType("float32", (1,))
    made.params = {
        path: Param(path, type_, "parameter", Value(type_)) for path in params or []
    }
    return made


def paths(children: list[str], params: list[str] | None = None) -> list[str]:
    layout = Layout(instance(children, params))
    return [layout.slots[p].path for p in [*children, *(params or [])]]


def test_names_are_the_source_s() -> None:
    assert paths(["query", "LayerNorm"], ["scale"]) == ["query", "LayerNorm", "scale"]


def test_a_full_list_is_a_list() -> None:
    layout = Layout(instance(["layer.0", "layer.1", "norm"]))
    assert layout.slots["layer.1"] == Slot("layer", (1,))
    assert layout.slots["layer.1"].path == "layer.1"
    assert layout.lists == {"layer": ["layer.0", "layer.1"]}


def test_a_list_with_gaps_is_attributes() -> None:
    assert paths(["body.0", "body.3"]) == ["body_0", "body_3"]


def test_nested_names_join() -> None:
    assert paths(["stages.0.blocks.0", "stages.0.blocks.1"]) == [
        "stages_0_blocks.0",
        "stages_0_blocks.1",
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "name",
    ["class", "0", "a-b", "a b", "rngs", "config", "training", "__init__", "x'y", "é"],
)
def test_what_cannot_be_an_attribute_becomes_one(name: str) -> None:
    (made,) = paths([name])
    assert made.isidentifier()
    assert not made.startswith("__")
    assert made not in {"class", "rngs", "config", "training"}


def test_names_that_become_equal_stay_apart() -> None:
    names = ["a.b", "a_b", "a-b", "a b"]
    made = paths(names[:2], names[2:])
    assert len(set(made)) == 4


def test_a_child_and_a_parameter_of_one_name() -> None:
    layout = Layout(instance(["weight"]))
    assert layout.free("weight") != "weight"
    assert layout.free("other") == "other"


def test_slots_as_code() -> None:
    owner = pyast.name("self")
    assert ast.unparse(Slot("fc").on(owner)) == "self.fc"
    assert ast.unparse(Slot("layer", (3,)).on(owner)) == "self.layer[3]"
