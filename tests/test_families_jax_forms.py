"""Every family that is promised, tiny and with random weights, from torch to Flax linen and haiku.

All 21 are in the slow run; `make test` has one that is a transformer with dropout and one that has
running statistics.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")
pytest.importorskip("haiku")

import ivyport
from ivyport.zoo import hf, hf_configs, hf_inputs
from tests.haiku_goldens import SIZES, golden
from tests.test_families import BASE_CLASSES, BASES, check

QUICK = {"linen": ("bert", "resnet"), "haiku": ("bert", "resnet")}


@pytest.mark.parametrize(
    ("to", "family"),
    [
        (to, f) if f in QUICK[to] else pytest.param(to, f, marks=pytest.mark.slow)
        for to in QUICK
        for f in BASES
    ],
)
def test_base_model(to: str, family: str) -> None:
    cls = BASE_CLASSES[family]
    model = hf.build(hf_configs.tiny_config(family), cls=cls, seed=0, perturb=True)
    inputs = hf_inputs.example_inputs(model)
    dims = hf_inputs.dims(model, inputs)
    # All of it is compared right below.
    ported = ivyport.transpile(model, to, kwargs=inputs, dims=dims, verify=False)
    check(ivyport.verify(model, ported))


@pytest.mark.slow
@pytest.mark.parametrize("to", QUICK)
@pytest.mark.parametrize("variant", SIZES)
def test_perceiver(to: str, variant: str) -> None:
    case = golden(variant)
    given = {"params": case.params, "state": case.state}
    source = case.model.transformed
    ported = ivyport.transpile(source, to, kwargs=case.inputs, verify=False, **given)
    report = ivyport.verify(source, ported, **given)
    assert report.passed, [row for row in report.rows if not row.passed]
