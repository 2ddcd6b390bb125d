"""What every form of modules in JAX has to do alike: linen and haiku, from torch models."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")
pytest.importorskip("haiku")

import torch

import ivyport
from tests.small_models import MODELS


@pytest.mark.parametrize("to", ["linen", "haiku"])
@pytest.mark.parametrize("name", MODELS)
def test_torch_models_are_equal_in_both_modes(name: str, to: str) -> None:
    torch.manual_seed(0)
    cls, make = MODELS[name]
    source = cls().eval()
    ported = ivyport.transpile(source, to, (make(),), verify=False)
    report = ivyport.verify(source, ported)
    wrong = [(r.name, r.max_rel, r.note) for r in report.rows if not r.passed]
    assert report.passed, wrong
