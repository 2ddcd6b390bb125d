"""What every form of modules in JAX has to do alike: linen and haiku, from torch models."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")
pytest.importorskip("haiku")

import numpy as np
import torch
from torch import nn

import ivyport
from ivyport.core.errors import InputError
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


class Names(nn.Module):
    """Names that lists, haiku and linen have for themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.layer_1, self.layer_0 = nn.Linear(4, 4), nn.LayerNorm(4)
        self.enc = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)]
        )
        self.params, self.by = nn.Linear(4, 4), nn.ModuleDict({"é": nn.Linear(4, 4)})
        self.enc[1].requires_grad_(False)
        self.enc[2][0].weight.requires_grad = False

    def forward(self, x):
        y = self.layer_1(self.layer_0(self.layer[0](x))) + self.layer[1](x).tanh()
        for each in self.enc:
            y = each(y)
        return self.by["é"](self.params(y))


@pytest.mark.parametrize("to", ["linen", "haiku"])
def test_names_that_meet_those_of_lists_and_libraries(to: str) -> None:
    torch.manual_seed(0)
    source = Names().eval()
    ported = ivyport.transpile(source, to, (torch.randn(3, 4),), verify=False)
    assert ivyport.verify(source, ported).passed


class Named(nn.Module):
    """An argument that haiku's `apply` has, and one that linen's has."""

    def forward(self, x, rng, mutable):
        return x * rng + mutable


@pytest.mark.parametrize(("to", "name"), [("linen", "mutable"), ("haiku", "rng")])
def test_arguments_that_a_call_has_for_itself_are_refused(to: str, name: str) -> None:
    with pytest.raises(InputError, match=f"an argument {name}, and a call"):
        ivyport.transpile(Named(), to, (torch.ones(2),) * 3)


def test_a_linen_port_without_modes_has_the_flag_all_the_same() -> None:
    module, variables = ivyport.transpile(
        nn.Linear(4, 4), "linen", (torch.ones(2, 4),), verify=False
    )
    training = module.clone(deterministic=False)
    assert training.apply(variables, np.ones((2, 4), np.float32)).shape == (2, 4)
