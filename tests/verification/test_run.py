"""Ports that hold, and ports with one mistake each, which verification must find."""

from __future__ import annotations

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport import verification
from ivyport.core.errors import InputError
from ivyport.core.report import Report
from ivyport.verification import aside
from ivyport.verification.torch_side import TorchSide
from ivyport.weights.mapping import Row, WeightMap
from ivyport.weights.transform import Permute
from tests.verification import models


def groups(report: Report) -> set[tuple[str, str]]:
    return {(row.kind, row.inputs) for row in report.rows}


def failing(report: Report) -> set[tuple[str, str]]:
    return {(row.kind, row.inputs) for row in report.rows if not row.passed}


def names(report: Report, kind: str) -> list[str]:
    return [row.name for row in report.rows if row.kind == kind]


OUTPUT, SECOND = ("output", "traced"), ("output", "second")
GRADIENT, STEP = ("gradient", "traced"), ("train_step", "traced")


def test_bert_holds(bert):
    report = bert.verify()
    assert report.passed, report
    assert groups(report) == {OUTPUT, SECOND, GRADIENT, STEP}
    assert report.first_drift is None
    assert report.dims["batch"] == (2, 3, 1)
    traced, larger, smaller = report.dims["seq"]
    assert smaller < traced < larger
    assert larger % 2 != traced % 2
    assert report.precision == "float32 at full precision"
    parameters = sum(1 for _ in bert.source.parameters())
    assert len(names(report, "gradient")) == parameters
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["passed"]
    assert report.notes == ()


def test_batch_norm_holds_in_train_mode(conv):
    report = conv.verify()
    assert report.passed, report
    rows = [row for row in report.rows if row.kind == "train_step"]
    statistics = {"norm1.mean", "norm1.var", "norm2.mean", "norm2.var"}
    assert statistics <= {row.name for row in rows}
    assert any("in train mode" in row.note for row in rows)
    assert any("after one step of SGD" in row.note for row in rows)
    # Among them biases in front of batch norm, whose gradients are rounding.
    [gradient] = [row for row in rows if row.name.startswith("gradient of")]
    assert "worst of 10" in gradient.note


def test_tied_and_frozen_parameters_hold(tied):
    report = tied.verify()
    assert report.passed, report
    # Tied weights are one parameter; frozen ones have no gradient.
    assert len(names(report, "gradient")) == 2
    [row] = [r for r in report.rows if r.name == "tensors that train"]
    assert row.note == "2 of 3, those of the source"


def test_integer_outputs_are_rows_and_none_is_not(net):
    report = net.verify()
    assert report.passed, report
    # Traced, one row for the eager call, two other sizes, and one row for a length of 1.
    once = ["hidden", "best"]
    found = [
        r.name for r in report.rows if r.kind == "output" and "eagerly" not in r.note
    ]
    assert found[:6] == once * 3
    assert len(found) == 7
    [eager] = [row for row in report.rows if "eagerly" in row.note]
    assert eager.name in once


MISTAKES = {
    "wrong value": ("self.down(", "1.0001 * self.down(", {OUTPUT, SECOND}),
    "tanh for erf": ("down(gelu(", "down(jax.nn.gelu(", {OUTPUT, SECOND}),
    "stopped gradient": (
        "self.first(x)",
        "jax.lax.stop_gradient(self.first(x))",
        {GRADIENT},
    ),
    "doubled gradient": (
        "self.first(x)",
        "2 * self.first(x) - jax.lax.stop_gradient(self.first(x))",
        {GRADIENT},
    ),
    "tensor for None": ('"cache": None', '"cache": x', {OUTPUT, SECOND}),
    "baked batch": (
        "self.first(x)",
        "self.first(x.reshape(2, 7, 16))",
        {SECOND},
    ),
    "batch times two": ("self.first(x)", "self.first(x * x.shape[0] / 2)", {SECOND}),
    "NaN": ("self.first(x)", "self.first(x) * jax.numpy.nan", {OUTPUT, SECOND}),
    "an error": ("self.first(x)", "self.fist(x)", {OUTPUT}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(net, tmp_path, mistake):
    old, new, expected = MISTAKES[mistake]
    report = net.spoilt(tmp_path / "port", lambda code: code.replace(old, new))
    assert not report.passed
    found = failing(report) - {STEP}
    assert found - {GRADIENT} == expected - {GRADIENT}
    assert expected <= found
    assert report.first_drift


def test_a_narrower_dtype_is_found(net, tmp_path):
    def edit(code: str) -> str:
        return code.replace('"hidden": hidden', '"hidden": hidden.astype("float16")')

    report = net.spoilt(tmp_path / "port", edit)
    row = next(row for row in report.rows if row.name == "hidden")
    assert not row.passed
    assert row.note == "dtype is float16, the source's float32"


def test_a_missing_output_is_found(net, tmp_path):
    report = net.spoilt(
        tmp_path / "port", lambda code: code.replace('"hidden": ', '"hid": ')
    )
    outputs = [r for r in report.rows if (r.kind, r.inputs) == OUTPUT]
    problems = {r.name: r.note for r in outputs if "eagerly" not in r.note}
    assert problems["hidden"] == "the source returns a tensor here, the port nothing"
    assert problems["hid"] == "the source returns nothing here"
    assert "gradients: outputs have other shapes" in report.not_checked


CONV_MISTAKES = {
    "momentum is not 1 - momentum": ("momentum=0.7", "momentum=0.3"),
    "biased variance": ("count / (count - 1)", "1"),
    "statistics never updated": ("self.mean[...] = ", "_ = "),
}


@pytest.mark.parametrize("mistake", CONV_MISTAKES)
def test_a_mistake_that_only_training_shows(conv, tmp_path, mistake):
    old, new = CONV_MISTAKES[mistake]
    report = conv.spoilt(tmp_path / "port", lambda code: code.replace(old, new))
    assert failing(report) == {STEP}


@pytest.fixture
def all_large(monkeypatch):
    """Every model counts as one whose gradients wait in a file."""
    monkeypatch.setattr(aside, "LEAST", -1)


def test_the_rounding_of_a_large_model_is_told_without_float64(
    bert, all_large, monkeypatch
):
    def widened(self):
        raise AssertionError("float64 takes too much memory")

    monkeypatch.setattr(TorchSide, "widened", widened)
    report = bert.verify()
    assert report.passed, report
    keys = [r for r in report.rows if r.kind == "gradient" and "key.bias" in r.name]
    assert keys
    assert all("rounding: the source's own is" in row.note for row in keys)


@pytest.mark.parametrize("mistake", ["stopped gradient", "doubled gradient"])
def test_a_mistake_of_a_large_model_is_found(net, tmp_path, mistake, all_large):
    old, new, expected = MISTAKES[mistake]
    report = net.spoilt(tmp_path / "port", lambda code: code.replace(old, new))
    assert failing(report) - {STEP} == expected


def test_a_large_model_that_only_training_shows(conv, tmp_path, all_large):
    old, new = CONV_MISTAKES["biased variance"]
    report = conv.spoilt(tmp_path / "port", lambda code: code.replace(old, new))
    assert failing(report) == {STEP}


def test_a_port_that_untied_its_weights():
    """The right values in two parameters: outputs agree, gradients do not."""
    source = models.seeded(models.Tied)
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}

    class Untied(nnx.Module):
        def __init__(self):
            weights = dict(source.named_parameters())
            arrays = {n: w.detach().numpy().copy() for n, w in weights.items()}
            self.embed = nnx.Param(jax.numpy.asarray(arrays["embed.weight"]))
            self.head = nnx.Param(jax.numpy.asarray(arrays["embed.weight"]))
            self.kernel = nnx.Param(jax.numpy.asarray(arrays["body.weight"].T))
            self.bias = nnx.Param(jax.numpy.asarray(arrays["body.bias"]))

        def __call__(self, input_ids):
            x = self.embed[...][input_ids]
            x = jax.numpy.tanh(x @ self.kernel[...] + self.bias[...])
            return x @ self.head[...].T

    rows = (
        Row("embed.weight", "embed", aliases=("head.weight",)),
        Row("body.weight", "kernel", (Permute((1, 0)),)),
        Row("body.bias", "bias"),
    )
    report = verification.run(source, Untied(), WeightMap(rows), {"": ""}, kwargs)
    notes = {r.name: r.note for r in report.rows if not r.passed}
    assert notes["head"] == "no parameter of the source"
    assert "embed" in notes
    assert not any(r.kind == "output" and not r.passed for r in report.rows)


def test_a_parameter_that_became_a_constant(net):
    ported = ivyport.load(net.folder)
    ported.first.up.bias = nnx.Variable(ported.first.up.bias[...])
    report = net.run(ported=ported)
    [row] = [row for row in report.rows if not row.passed and row.kind == "gradient"]
    assert (row.name, row.note) == ("first.up.bias", "no parameter of the port")


def test_neither_model_is_changed(conv):
    source, ported = copy.deepcopy(conv.source), ivyport.load(conv.folder)
    source.train()
    source.conv1.weight.grad = torch.ones_like(source.conv1.weight)
    ported.train()
    tensors = {n: t.clone() for n, t in source.state_dict().items()}
    grads = {n: p.requires_grad for n, p in source.named_parameters()}
    statistics = nnx.to_flat_state(nnx.state(ported, nnx.BatchStat))
    arrays = {path: np.array(variable[...]) for path, variable in statistics}
    torch.set_float32_matmul_precision("medium")
    try:
        report = dataclasses.replace(conv, source=source).run(ported=ported)
        assert report.passed
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, tensors[name]), name
    assert {n: p.requires_grad for n, p in source.named_parameters()} == grads
    assert torch.equal(source.conv1.weight.grad, torch.ones(8, 3, 3, 3))
    assert source.conv2.weight.grad is None
    assert all(module.training for module in source.modules())
    assert not source.conv1._forward_hooks
    after = nnx.to_flat_state(nnx.state(ported, nnx.BatchStat))
    assert all(np.array_equal(v[...], arrays[path]) for path, v in after)
    assert ported.norm1.use_running_average is False
    assert ported.drop.deterministic is False
    assert ported.drop.rate == 0.5


def test_given_second_inputs(net):
    free = {"x": {0: "batch"}}
    report = net.run(second={"x": torch.randn(5, 7, 16)}, free=free)
    assert report.passed
    assert report.dims == {"batch": (2, 5)}
    [row] = [r for r in report.rows if r.inputs == "second" and r.name == "hidden"]
    assert (row.shapes, row.note) == ("(5, 7, 16)", "batch 5")


class Counted(nn.Module):
    """An axis that a port fixes: the length is a number of its code."""

    def forward(self, x):
        return x.sum(2) / int(x.shape[2] ** 0.5)


def test_given_second_inputs_that_the_port_refuses():
    x = torch.randn(2, 3, 9, 4)
    source = Counted().eval()
    ported = ivyport.transpile(source, "torch", (x,))
    given = {"x": torch.randn(2, 3, 16, 4)}
    report = ivyport.verify(source, ported, second=given)
    assert not report.passed
    [row] = [row for row in report.rows if not row.passed]
    assert (row.name, row.inputs) == ("forward", "second")
    assert "axis 2 is 16, not 9" in row.note
    # Sizes that the port takes are no failure.
    given = {"x": torch.randn(2, 3, 9, 4)}
    assert ivyport.verify(source, ported, second=given).passed


def test_sizes_that_the_source_refuses(net):
    report = net.run(free={"x": {0: "batch", 2: "width"}})
    assert report.passed
    assert report.dims["batch"][:3] == (2, 3, 1)
    assert set(report.dims["width"]) == {16}
    report = net.run(free={"x": {2: "width"}})
    tried = {
        r.note.partition(";")[0] for r in report.rows if (r.kind, r.inputs) == SECOND
    }
    # Axes of which nothing was said, one by one; width 1 is nothing that the source takes.
    assert tried == {
        f"width 16, size {size} {other}"
        for size, others in ((2, (3, 1)), (7, (8, 6, 1)))
        for other in others
    }
    larger, smaller = report.not_checked
    assert larger.startswith("larger sizes: the source takes none (width 11: ")
    assert smaller.startswith("smaller sizes: the source takes none (width 10: ")


def test_the_source_must_take_the_inputs(net):
    with pytest.raises(InputError, match=r"source raises RuntimeError.*\[2, 7, 15\]"):
        net.run(kwargs={"x": torch.randn(2, 7, 15)})


def test_progress_counts_the_steps(net):
    seen = []
    net.run(progress=lambda *step: seen.append(step))
    assert seen[0] == ("verify", 0, 5)
    assert seen[-1] == ("verify", 5, 5)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_wider_tolerances_give_their_reason(net, tmp_path):
    wide = verification.DEFAULT.wider(output=1e-2, gradient=1e-2, reason="a test")
    assert wide.of("float32").output == 1e-2
    assert wide.of("bfloat16").output == verification.DEFAULT.of("bfloat16").output
    report = net.run(tolerance=wide)
    assert "wider tolerances: a test" in report.notes
    assert {r.tolerance for r in report.rows} == {0.0, 1e-2}
