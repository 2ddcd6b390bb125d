"""Captures of models on the meta device, and of inputs beside them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import ivyport
from ivyport.core.errors import InputError
from ivyport.core.text import render
from ivyport.frontends.torch.kinds import demand_inputs
from ivyport.frontends.torch.trace import trace
from tests.frontends.torch.tiny_models import TINY, tokens


def test_meta_device() -> None:
    row = TINY["LlamaForCausalLM"]
    with torch.device("meta"):
        model = row.build()
    found = trace(model, kwargs=tokens())
    assert {human for human, _, _ in found.dims.values()} == row.dims
    assert all(p.is_meta for p in model.parameters())


def test_meta_weights_beside_buffers_with_numbers() -> None:
    """What `accelerate.init_empty_weights` makes of a model."""
    row = TINY["LlamaForCausalLM"]
    model = row.build()
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            setattr(module, name, nn.Parameter(weight.to("meta")))
    assert not any(b.is_meta for b in model.buffers())
    found = trace(model, kwargs=tokens())
    assert {human for human, _, _ in found.dims.values()} == row.dims


def test_meta_weights_take_inputs_with_numbers() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    x = torch.randn(3, 4)
    loaded = render(ivyport.trace(model, (x,)))
    model.to("meta")
    assert render(ivyport.trace(model, (x,))) == loaded
    assert not x.is_meta
    with pytest.raises(InputError, match=r"running_mean.*hold no numbers"):
        ivyport.transpile(model, "jax", (x,))


def test_a_model_that_is_loaded_by_half() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].to("meta")
    with pytest.raises(InputError, match=r"2 of 4 weights .*1\.weight.*assign=True"):
        ivyport.transpile(model, "jax", (torch.randn(3, 4),))


class OnDevice(torch.Tensor):
    """A tensor that says that it is on a GPU, for machines without one."""

    device = torch.device("cuda:0")


@pytest.mark.parametrize("weights", ["cpu", "meta"])
def test_inputs_on_devices_with_numbers_are_not_mixed(weights: str) -> None:
    model = nn.Linear(4, 4).to(weights)
    if weights == "meta":
        model.register_buffer("b", torch.ones(4))
    leaves = {"x": torch.randn(3, 4).as_subclass(OnDevice)}
    with pytest.raises(InputError, match=r"several devices .*cuda:0: input x"):
        demand_inputs(model, leaves)
