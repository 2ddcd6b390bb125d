"""Torch modules against torch modules that were written by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ivyport import verification
from ivyport.core.errors import InputError
from ivyport.verification.torch_port import TorchPort
from ivyport.weights.mapping import Row, WeightMap
from tests.verification import models, ports

MODULES = {"": "", **ports.RENAMED}
FREE = {"x": {0: "batch", 2: "height", 3: "width"}}
OUTPUT, SECOND = ("output", "traced"), ("output", "second")
GRADIENT, STEP = ("gradient", "traced"), ("train_step", "traced")


def conv() -> nn.Module:
    source = models.seeded(models.Conv)
    with torch.no_grad():
        source.norm1.running_mean.normal_()
        source.norm2.running_var.uniform_(0.5, 2)
    return source


def pair(mistake: str = ""):
    source = conv()
    port, rows = ports.filled(
        ports.Renamed(mistake), ports.renamed_rows(source), source.state_dict()
    )
    return source, port, rows


def report(source, port, rows, **options):
    torch.manual_seed(1)
    kwargs = {"x": torch.randn(2, 3, 9, 9)}
    options = {"free": FREE, **options}
    return verification.run(source, port, rows, MODULES, kwargs, **options)


def failing(found):
    return {(row.kind, row.inputs) for row in found.rows if not row.passed}


def test_a_copy_by_hand_holds():
    found = report(*pair())
    assert found.passed, found
    kinds = {(row.kind, row.inputs) for row in found.rows}
    assert kinds == {OUTPUT, SECOND, GRADIENT, STEP}
    assert found.first_drift is None
    assert found.dims["batch"] == (2, 3, 1)
    assert found.precision == "float32 at full precision"
    statistics = {r.name for r in found.rows if r.kind == "train_step"}
    assert {"norms.0.running_mean", "norms.1.running_var"} <= statistics
    assert "norms.0.num_batches_tracked" in statistics
    assert any("after one step of SGD" in r.note for r in found.rows)
    assert len([r for r in found.rows if r.kind == "gradient"]) == 10


MISTAKES = {
    "momentum is not 1 - momentum": ({STEP}, "norms.1.running_mean"),
    "biased variance": ({STEP}, "norms.0.running_var"),
    "stopped gradient": ({GRADIENT, STEP}, "convs.0.weight"),
    "batch times two": ({SECOND}, "output"),
    "dropout in eval mode": ({OUTPUT, SECOND, GRADIENT, STEP}, "output"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_found(mistake):
    expected, name = MISTAKES[mistake]
    found = report(*pair(mistake))
    assert failing(found) == expected
    assert name in {row.name for row in found.rows if not row.passed}


@pytest.mark.parametrize("module", ["conv1", "norm2", "head"])
def test_a_wrong_weight_is_traced_to_its_module(module):
    source, port, rows = pair()
    with torch.no_grad():
        port.get_submodule(ports.RENAMED[module]).bias[1] += 0.5
    found = report(source, port, rows)
    assert {OUTPUT, SECOND} <= failing(found)
    cls = type(source.get_submodule(module)).__name__
    assert found.first_drift.startswith(f"{module} ({cls}): its relative error")


def test_a_wrong_gradient_is_traced():
    found = report(*pair("stopped gradient"))
    assert found.first_drift.startswith("norm1: outputs agree, but the gradient of ")


def test_an_error_names_module_and_line():
    found = report(*pair("an error"))
    [row] = found.rows
    assert (row.name, row.passed) == ("forward", False)
    assert "RuntimeError at line " in row.note
    assert "(h = self.convs[1](h) @ h)" in row.note
    start = "the model itself: the port raises RuntimeError"
    assert found.first_drift.startswith(start)


def test_neither_model_is_changed():
    source, port, rows = pair()
    source.train()
    port.train()
    source.conv1.weight.grad = torch.ones(8, 3, 3, 3)
    port.classifier.weight.grad = torch.ones(5, 12)
    for module in (source.head, port.classifier):
        module.bias.requires_grad_(False)
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in (source, port)]
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    try:
        assert report(source, port, rows).passed
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    for module, tensors in zip((source, port), before, strict=True):
        assert all(m.training for m in module.modules())
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, tensors[name]), name
    assert torch.equal(port.classifier.weight.grad, torch.ones(5, 12))
    assert port.convs[0].weight.grad is None
    assert not port.classifier.bias.requires_grad
    assert source.drop.p == 0.5
    assert "forward" not in vars(nn.Conv2d(1, 1, 1))
    assert nn.BatchNorm2d.forward is torch.nn.modules.batchnorm._BatchNorm.forward


class Tied(nn.Module):
    """`models.Tied`, with its weights tied or not."""

    def __init__(self, tie: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, 30, bias=False)
        if tie:
            self.head.weight = self.embed.weight

    def forward(self, input_ids):
        return self.head(torch.tanh(self.body(self.embed(input_ids))))


@pytest.mark.parametrize("target", ["embed.weight", "head.weight"])
def test_tied_weights_by_either_name(target):
    source = models.seeded(models.Tied)
    port = Tied(tie=True)
    port.load_state_dict(source.state_dict())
    port.body.bias.requires_grad_(False)
    rows = [Row("embed.weight", target, aliases=("head.weight",))]
    rows += [Row(f"body.{n}", f"body.{n}") for n in ("weight", "bias")]
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}
    found = verification.run(source, port, WeightMap(tuple(rows)), {"": ""}, kwargs)
    assert found.passed, found
    # One parameter is frozen on both sides.
    assert len([r for r in found.rows if r.kind == "gradient"]) == 2
    [row] = [r for r in found.rows if r.name == "tensors that train"]
    assert row.note == "2 of 3, those of the source"


def test_what_trains_is_compared():
    source = models.seeded(models.Tied)
    port = Tied(tie=True)
    port.load_state_dict(source.state_dict())
    rows = [Row("embed.weight", "embed.weight", aliases=("head.weight",))]
    rows += [Row(f"body.{n}", f"body.{n}") for n in ("weight", "bias")]
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}
    found = verification.run(source, port, WeightMap(tuple(rows)), {"": ""}, kwargs)
    [row] = [r for r in found.rows if r.name == "tensors that train"]
    assert (row.passed, row.note) == (False, "in the port body.bias is trained")


def test_a_port_that_untied_its_weights():
    source = models.seeded(models.Tied)
    port = Tied(tie=False)
    port.load_state_dict(source.state_dict())
    # Distinct parameters stay distinct, even on one memory.
    port.head.weight.data = port.embed.weight.data
    rows = [Row("embed.weight", "embed.weight", aliases=("head.weight",))]
    rows += [Row(f"body.{n}", f"body.{n}") for n in ("weight", "bias")]
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}
    found = verification.run(source, port, WeightMap(tuple(rows)), {"": ""}, kwargs)
    notes = {r.name: r.note for r in found.rows if not r.passed}
    assert notes["head.weight"] == "no parameter of the source"
    assert "embed.weight" in notes


def test_a_source_whose_weights_are_not_tied():
    """The map claims a tie that the source does not have: its gradient is missed."""
    source, port = Tied(tie=False).eval(), Tied(tie=True)
    source.head.weight.data = source.embed.weight.data.clone()
    port.load_state_dict(source.state_dict())
    rows = [Row("embed.weight", "embed.weight", aliases=("head.weight",))]
    rows += [Row(f"body.{n}", f"body.{n}") for n in ("weight", "bias")]
    kwargs = {"input_ids": torch.randint(0, 30, (2, 5))}
    found = verification.run(source, port, WeightMap(tuple(rows)), {"": ""}, kwargs)
    notes = {r.name: r.note for r in found.rows if not r.passed}
    assert notes["head.weight"] == "the port lacks it"
    assert "embed.weight" in notes


def test_torch_has_sixty_four_bits():
    """Narrowed integers are right in JAX, which has no others, and wrong here."""

    class Best(nn.Module):
        def __init__(self, narrow):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.narrow = narrow

        def forward(self, x):
            best = self.layer(x).argmax(-1)
            return best.int() if self.narrow else best

    source = models.seeded(lambda: Best(narrow=False))
    rows = WeightMap(tuple(Row(n, n) for n in source.state_dict()))
    for narrow in (False, True):
        port = Best(narrow)
        port.load_state_dict(source.state_dict())
        kwargs = {"x": torch.randn(2, 4)}
        found = verification.run(source, port, rows, {"": ""}, kwargs)
        assert found.passed is not narrow
        if narrow:
            assert found.rows[0].note == "dtype is int32, the source's int64"


class Attention(nn.Module):
    """Dropout where no layer of it stands, beside batch norm that needs train mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.BatchNorm1d(4)
        self.inner = nn.MultiheadAttention(8, 2, dropout=rate, batch_first=True)
        self.rate = rate

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        p = self.rate if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p)
        z = F.scaled_dot_product_attention(q, k, v, None, p, True)
        return self.inner(y, z, F.dropout(z, p, self.training))[0]


def test_dropout_is_off_wherever_it_is():
    source = models.seeded(lambda: Attention(0.5))
    port = Attention(0.5)
    port.load_state_dict(source.state_dict())
    parameters = dict(source.named_parameters())
    rows = tuple(
        Row(n, n, kind="parameter" if n in parameters else "buffer")
        for n in source.state_dict()
    )
    kwargs = {"x": torch.randn(3, 4, 8)}
    found = verification.run(source, port, WeightMap(rows), {"": ""}, kwargs)
    assert found.passed, found
    assert any(r.note.startswith("in train mode") for r in found.rows)
    assert port.inner.dropout == 0.5


def test_a_port_whose_code_names_float32_runs_in_float64():
    class Named(nn.Linear):
        def forward(self, input):
            ones = torch.ones_like(input, dtype=torch.float32)
            return torch.einsum("bi,oi->bo", ones, self.weight) + F.linear(
                ones, self.weight, self.bias
            )

    side = TorchPort(Named(3, 2)).widened()
    made = side.gradients(
        {"input": torch.ones(2, 3).numpy()}, {"output": torch.ones(2, 2).numpy()}
    )
    assert made.outputs.leaves["output"].dtype == "float64"
    assert made.gradients["weight"].dtype == "float64"


def test_a_port_must_be_a_module():
    source, _, rows = pair()
    with pytest.raises(
        InputError, match=r"flax\.nnx\.Module or .* or a torch\.nn\.Module"
    ):
        report(source, lambda x: x, rows)


def test_inputs_by_position():
    source, port, rows = pair()
    found = verification.run(
        source, port, rows, MODULES, {}, args=(torch.randn(2, 3, 9, 9),), free=FREE
    )
    assert found.passed, found
    assert found.dims["batch"] == (2, 3, 1)


def test_parameters_are_not_for_torch():
    with pytest.raises(InputError, match="params= given for a Conv"):
        report(*pair(), params={})


WITHOUT_JAX = """
import sys
for name in ("jax", "jaxlib", "flax", "haiku"):
    sys.modules[name] = None
import torch
from ivyport import verification
from ivyport.weights.mapping import Row, WeightMap
source, port = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
port.load_state_dict(source.state_dict())
rows = WeightMap(tuple(Row(n, n) for n in source.state_dict()))
kwargs = {"input": torch.randn(4, 3)}
free = {"input": {0: "batch"}}
report = verification.run(source, port, rows, {"": ""}, kwargs, free=free)
assert report.passed, report
with torch.no_grad():
    port.bias += 1
report = verification.run(source, port, rows, {"": ""}, kwargs, free=free)
assert report.first_drift.startswith("the model itself (Linear)"), report.first_drift
"""


def test_without_jax():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
