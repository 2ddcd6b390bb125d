"""Every family that is promised, tiny and with random weights, from torch to NumPy; and Perceivers.

All 21 are in the slow run; `make test` has a transformer and one of images.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("haiku")

import ivyport
from ivyport.zoo import hf, hf_configs, hf_inputs
from tests.haiku_goldens import SIZES, golden
from tests.test_families import BASE_CLASSES, BASES

QUICK = ("bert", "resnet")


@pytest.mark.parametrize(
    "family",
    [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in BASES],
)
def test_base_model(family: str) -> None:
    cls = BASE_CLASSES[family]
    model = hf.build(hf_configs.tiny_config(family), cls=cls, seed=0, perturb=True)
    inputs = hf_inputs.example_inputs(model)
    dims = hf_inputs.dims(model, inputs)
    # All of it is compared right below.
    ported = ivyport.transpile(model, "numpy", kwargs=inputs, dims=dims, verify=False)
    report = ivyport.verify(model, ported)
    assert report.passed, [row for row in report.rows if not row.passed]
    assert {row.inputs for row in report.rows} == {"traced", "second"}


@pytest.mark.slow
@pytest.mark.parametrize("variant", SIZES)
def test_perceiver(variant: str) -> None:
    case = golden(variant)
    given = {"params": case.params, "state": case.state}
    source = case.model.transformed
    ported = ivyport.transpile(
        source, "numpy", kwargs=case.inputs, verify=False, **given
    )
    report = ivyport.verify(source, ported, **given)
    assert report.passed, [row for row in report.rows if not row.passed]
