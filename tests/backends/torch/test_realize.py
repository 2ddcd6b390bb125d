"""From emitted source to a live torch module."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from ivyport.backends.torch import realize
from ivyport.core.errors import WeightsError

SOURCE = """
import dataclasses

import torch
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = 3


class Model(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.embed = nn.Embedding(4, config.width)
        self.head = nn.Linear(config.width, 4)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int32))
        self.register_buffer("range", torch.arange(4.0), persistent=False)

    def forward(self, x):
        return self.head(self.embed(x)) + self.range


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.randn(2))
"""


def _make(cls: str = "Model", config: str | None = "Config") -> realize.Make:
    return realize.factory(realize.compile_source(SOURCE, "sample"), cls, config)


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "embed.weight": rng.standard_normal((4, 3)).astype(np.float32),
        "head.bias": np.ones(4, np.float32),
        "steps": np.array(7, np.int32),
    }


def test_fill_makes_a_model_that_runs_in_eval_mode() -> None:
    arrays = _arrays()
    model = realize.fill(_make(), arrays)
    assert not model.training
    weight = arrays["embed.weight"]
    expected = weight[[1, 2]] @ weight.T + 1 + np.arange(4.0)
    np.testing.assert_allclose(
        model(torch.tensor([1, 2])).detach(), expected, rtol=1e-5
    )


def test_tied_tensors_stay_one_parameter_that_is_trained() -> None:
    model = realize.fill(_make(), _arrays())
    assert model.get_parameter("head.weight") is model.get_parameter("embed.weight")
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        "embed.weight",
        "head.bias",
    }
    assert {n for n, _ in model.named_buffers()} == {"steps", "range"}


def test_fill_copies() -> None:
    arrays = _arrays()
    model = realize.fill(_make(), arrays)
    before = arrays["embed.weight"].copy()
    with torch.no_grad():
        model.get_parameter("embed.weight").add_(1)
    np.testing.assert_array_equal(arrays["embed.weight"], before)


def test_fill_takes_arrays_that_cannot_be_written() -> None:
    arrays = _arrays()
    for array in arrays.values():
        array.flags.writeable = False
    realize.fill(_make(), arrays)


def test_fill_keeps_bfloat16() -> None:
    weight = np.array([1.5, -2.0]).astype(ml_dtypes.bfloat16)
    model = realize.fill(_make("Plain", None), {"weight": weight})
    assert model.get_parameter("weight").dtype == torch.bfloat16
    (array,) = realize.state(model).values()
    assert array.dtype == weight.dtype
    assert array.tolist() == weight.tolist()


def test_fill_lists_all_that_differs() -> None:
    arrays = _arrays()
    del arrays["steps"]
    arrays["head.bias"] = np.ones(5, np.float32)
    arrays["more"] = np.ones(1, np.float32)
    with pytest.raises(WeightsError) as error:
        realize.fill(_make(), arrays)
    for part in ("('head.bias', (4,))", "('head.bias', (5,))", "('steps', ())", "more"):
        assert re.search(re.escape(part), str(error.value)), part


def test_settle_names_are_the_first_of_tied_tensors() -> None:
    names = realize.settle_names(["head.weight", "embed.weight", "head.bias"], _make())
    assert names == {
        "head.weight": "embed.weight",
        "embed.weight": "embed.weight",
        "head.bias": "head.bias",
    }


def test_state_has_each_tensor_once() -> None:
    arrays = _arrays()
    state = realize.state(realize.fill(_make(), arrays))
    assert set(state) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[name], array)


def test_a_module_that_is_tied_as_a_whole() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 2)
            self.second = self.first

    weights = {"first.weight": np.eye(2), "first.bias": np.zeros(2)}
    model = realize.fill(Twice, weights)
    assert model.get_submodule("second") is model.get_submodule("first")
    names = realize.settle_names(["second.bias"], Twice)
    assert names == {"second.bias": "first.bias"}
