"""Every family that is promised, tiny and with random weights, from torch to Flax linen.

All 21 are in the slow run; `make test` has one that is a transformer with dropout and one that has
running statistics.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("flax")

import ivyport
from ivyport.zoo import hf, hf_configs, hf_inputs
from tests.test_families import BASE_CLASSES, BASES, check

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
    ported = ivyport.transpile(model, "linen", kwargs=inputs, dims=dims, verify=False)
    module, variables = ported
    assert type(module).__name__ == cls
    assert "params" in variables
    check(ivyport.verify(model, ported))
