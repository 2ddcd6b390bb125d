"""The first module that drifts is named."""

from __future__ import annotations

import pytest
import torch
from flax import nnx

import ivyport


def spoil(variable: nnx.Variable) -> None:
    """Change one element: a layer norm would hide the same change of all."""
    variable[...] = variable[...].at[1].add(0.5)


@pytest.mark.parametrize(
    ("path", "start"),
    [
        ("first.norm", "first.norm (LayerNorm): its relative error is "),
        ("second.up", "second.up (Linear): its relative error is "),
    ],
)
def test_a_wrong_weight_is_traced_to_its_module(net, path, start):
    ported = ivyport.load(net.folder)
    owner, name = path.split(".")
    spoil(getattr(getattr(ported, owner), name).bias)
    report = net.run(ported=ported)
    assert report.first_drift.startswith(start)
    assert "in the port and float32[2, 7, " in report.first_drift


def test_in_deep_models(bert):
    ported = ivyport.load(bert.folder)
    spoil(ported.encoder.layer[1].attention.output.dense.bias)
    report = bert.run(ported=ported)
    assert report.first_drift.startswith("encoder.layer.1.attention.output.dense (")


def test_images_are_compared_in_either_layout(conv):
    ported = ivyport.load(conv.folder)
    spoil(ported.norm2.mean)
    report = conv.run(ported=ported)
    assert report.first_drift.startswith("norm2 (BatchNorm2d): ")
    assert "float32[2, 4, 4, 12] in the port" in report.first_drift
    assert "float32[2, 12, 4, 4] in the source" in report.first_drift


def test_a_wrong_line_is_traced_to_its_class(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port", lambda code: code.replace("x + self.down", "x - self.down")
    )
    assert report.first_drift.startswith("first (Block): ")


def test_a_wrong_line_between_modules_is_the_models_own(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port",
        lambda code: code.replace("self.second(", "-self.second("),
    )
    assert report.first_drift.startswith("the model itself (Net): ")


def test_a_wrong_gradient_is_traced_to_the_last_parameter_before_it(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port",
        lambda code: code.replace(
            "self.first(x)", "jax.lax.stop_gradient(self.first(x))"
        ),
    )
    assert report.first_drift.startswith("first.down: outputs agree, but the gradient")


def test_an_error_names_module_and_line(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port", lambda code: code.replace("self.down(", "self.dow(")
    )
    assert report.first_drift.startswith("first: the port raises AttributeError")
    assert "self.dow(" in report.first_drift
    [row] = report.rows
    assert (row.name, row.passed) == ("forward", False)


def test_a_baked_size_is_traced_on_the_second_inputs(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port",
        lambda code: code.replace("self.first(x)", "self.first(x * x.shape[0] / 2)"),
    )
    assert report.first_drift.startswith("first (Block): ")


def test_repeated_calls_are_counted(tmp_path):
    from tests.verification import models

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.sin(self.layer(x)))

    case = models.make(
        models.seeded(Twice), {"x": torch.randn(2, 4)}, tmp_path / "port"
    )
    report = case.spoilt(
        tmp_path / "spoilt", lambda code: code.replace("jnp.sin", "jnp.cos")
    )
    assert report.first_drift.startswith("layer (Linear, call 2): ")
