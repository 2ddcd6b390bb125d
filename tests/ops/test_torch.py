"""Every row of the samples table, as the torch backend emits it, against torch."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ivyport.backends.pyast import Exprs, name
from ivyport.backends.torch import LANGUAGE, RULES, _rt
from ivyport.core import opdef
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node
from tests.ops.harness import (
    Backend,
    assert_random,
    results,
    row,
    torch_gradients,
    tunable,
)
from tests.ops.sample import SIZES, Sample
from tests.ops.samples import SAMPLES
from tests.support import as_torch, assert_close


@functools.cache
def _dropout_off() -> torch.nn.Dropout:
    return torch.nn.Dropout(0.5).eval()


BACKEND = Backend(LANGUAGE, narrow=False, dropout=_dropout_off)
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
every_exact_one = pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.mean is None], ids=lambda s: s.name
)
every_random_one = pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if s.mean is not None], ids=lambda s: s.name
)


def _compare(actual: Any, expected: Any, rtol: float) -> None:
    actual, expected = results(actual), results(expected)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_close(ours, theirs, rtol=rtol)


@every_exact_one
@pytest.mark.parametrize("sizes", SIZES, ids=["small", "large"])
def test_value(sample: Sample, sizes: dict[str, int]) -> None:
    tensors = [as_torch(a) for a in sample.arrays(sizes)]
    before = [t.clone() for t in tensors]
    function = BACKEND.function_of(sample)
    _compare(function(*tensors), sample.torch(*tensors), sample.rtol)
    _compare(tensors, before, 0.0)  # no operation changes its operands


@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if BACKEND.has_gradient(s)], ids=lambda s: s.name
)
def test_gradient(sample: Sample) -> None:
    expected, _ = torch_gradients(sample.torch, sample)
    actual, _ = torch_gradients(BACKEND.function_of(sample), sample)
    _compare(actual, expected, sample.grad_rtol)


@every_random_one
def test_draws(sample: Sample) -> None:
    torch.manual_seed(0)
    tensors = [as_torch(a) for a in sample.arrays(SIZES[0])]
    assert_random(BACKEND.function_of(sample), tensors, sample)


def _worth_compiling() -> list[Sample]:
    """The first row of each operation, and of each helper that a row calls."""
    found: dict[str, Sample] = {}
    for sample in SAMPLES:
        if sample.mean is None:
            _, e = BACKEND.emitted(BACKEND.node_of(sample))
            for key in (sample.op, *e.helpers):
                found.setdefault(key, sample)
    return list(dict.fromkeys(found.values()))


@pytest.mark.parametrize("sample", _worth_compiling(), ids=lambda s: s.name)
def test_compiles_as_one_graph(sample: Sample) -> None:
    tensors = [as_torch(a) for a in sample.arrays(SIZES[1])]
    function = BACKEND.function_of(sample)
    torch.compiler.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="eager")
    _compare(compiled(*tensors), sample.torch(*tensors), sample.rtol)


@every_sample
def test_writes_each_operand_once(sample: Sample) -> None:
    assert not BACKEND.repeated(sample), BACKEND.text(sample)


def test_every_operation_has_a_rule_and_a_row() -> None:
    assert set(RULES) == set(opdef.REGISTRY)
    assert {s.op for s in SAMPLES} == set(opdef.REGISTRY)


@pytest.mark.parametrize("op", sorted(opdef.REGISTRY))
def test_rule_has_the_operation_s_signature(op: str) -> None:
    _, *rule = inspect.signature(RULES[op]).parameters.values()
    operation = opdef.get(op).signature.parameters.values()
    assert [(p.name, p.kind) for p in rule] == [(p.name, p.kind) for p in operation]


@pytest.mark.parametrize(
    ("sample", "attr"), tunable(), ids=lambda x: getattr(x, "op", x)
)
def test_tunable_attribute_is_spelled_by_its_hole(sample: Sample, attr: str) -> None:
    assert BACKEND.spells_hole(sample, attr)


SDPA = "F.scaled_dot_product_attention"
IDIOMS = {
    "add-scalar_right": "x0 + 1.5",
    "arange-int32": "torch.arange(2, 6, dtype=torch.int32)",
    "arange-symbolic": "torch.arange(S)",
    "argmax-keepdims": "x0.argmax(dim=-1, keepdim=True)",
    "astype-truncates": "x0.long()",
    "astype-bfloat16": "x0.to(torch.bfloat16)",
    "attention-bool_mask": f"{SDPA}(x0, x1, x2, attn_mask=x3)",
    "attention-grouped_mask": f"{SDPA}(x0, x1, x2, attn_mask=x3, enable_gqa=True)",
    "attention-causal_lengths": f"{SDPA}(x0, x1, x2, is_causal=True)",
    "bitwise_invert": "~x0",
    "concat-axis_-1_of_2": "torch.cat([x0, x1], dim=-1)",
    "concat-axis_0_of_3": "torch.cat([x0, x1, x2])",
    "clip-lower": "x0.clamp(min=0.1)",
    "conv-plane": "F.conv2d(x0, x1, x2, stride=2, padding=1)",
    "divide-0": "x0 / x1",
    "embedding": "F.embedding(x0, x1)",
    "full-0_float32": "torch.zeros(B, S)",
    "full--inf_float32": "torch.full((B, S), -torch.inf)",
    "gelu-erf": "F.gelu(x0)",
    "gelu-tanh": "F.gelu(x0, approximate='tanh')",
    "getitem-integer": "x0[:, 0]",
    "getitem-new_axis": "x0[:, None, :, 2, None]",
    "getitem-own_bounds": "x0[:, :, 2:]",
    "index-int32": "x0[x1]",
    "index_update-mask": "x0.masked_fill(x1, -2.0)",
    "index_update-add": "x0.index_put((x2,), x1, accumulate=True)",
    "layer_norm-scale_bias": "F.layer_norm(x0, x1.shape, x1, x2, eps=1e-05)",
    "linear": "F.linear(x0, x1, x2)",
    "linear-io": "x0 @ x1 + x2",
    "logical_and-0": "x0 & x1",
    "max_pool-padded": "F.max_pool2d(x0, 3, 2, padding=1)",
    "maximum-scalar_right": "torch.maximum(x0, torch.tensor(1.5))",
    "mean-keepdims": "x0.mean(dim=(0, 2), keepdim=True)",
    "permute_dims-cycle": "x0.permute(1, 2, 0)",
    "permute_dims-last": "x0.mT",
    "permute_dims-swap": "x0.transpose(1, 2)",
    "pow-by_2": "x0 ** 2",
    "reshape-split": "x0.reshape(B, S, 2, 3)",
    "reshape-merge": "x0.reshape(-1, 6)",
    "slice_update-integer": "x0.select_scatter(x1, 1, 0)",
    "softmax": "F.softmax(x0, dim=-1)",
    "split-equal": "x0.chunk(3, dim=-1)",
    "split-unequal": "x0.split([1, 2, 3], dim=-1)",
    "stop_gradient": "x0.detach()",
    "take-middle": "x0[:, x1]",
    "take_along_axis-equal": "x0.gather(-1, x1)",
    "take_along_axis-int32": "x0.gather(-1, x1.long())",
    "topk-largest": "x0.topk(3)",
    "var-bessel": "x0.var(dim=-1)",
}


@pytest.mark.parametrize("label", IDIOMS)
def test_reads_as_people_write_it(label: str) -> None:
    assert BACKEND.text(row(label)) == IDIOMS[label]


ON_DEVICE = dataclasses.replace(BACKEND, device="x0.device")


def test_what_is_created_goes_to_the_device_at_hand() -> None:
    text = ON_DEVICE.text(row("arange-symbolic"))
    assert text == "torch.arange(S, device=x0.device)"


@every_sample
def test_stays_on_its_device(sample: Sample) -> None:
    """On the meta device, which mixes with no other."""
    arrays = sample.arrays(SIZES[0])
    tensors = [as_torch(a).to("meta") for a in arrays]
    expected = sample.torch(*map(as_torch, arrays))
    for ours, theirs in zip(
        results(ON_DEVICE.function_of(sample)(*tensors)), results(expected), strict=True
    ):
        assert ours.is_meta
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


def test_layer_norm_of_an_expression_reads_its_shape_in_a_helper() -> None:
    node = BACKEND.node_of(row("layer_norm"))
    e = BACKEND.exprs(node)
    expr = e.emit(node, [e.unary("-", name("x0")), None, None])
    assert ast.unparse(expr) == "layer_norm(-x0, eps=1e-05)"


def _batch_norm(**attrs: Any) -> tuple[Node, Exprs]:
    node = BACKEND.node_of(row("batch_norm-scale_bias"))
    node.attrs |= attrs
    e = BACKEND.exprs(node)
    e = e.within(training=name("self.training"))
    return node, e


@pytest.mark.parametrize("unbiased", [True, False])
def test_batch_norm_learns_where_the_body_can_train(unbiased: bool) -> None:
    node, e = _batch_norm(unbiased=unbiased)
    expr = e.emit(node, [name(f"x{i}") for i in (0, 1, 2, 3, 4)])
    function = "F.batch_norm" if unbiased else "batch_norm"
    assert ast.unparse(expr) == (
        f"{function}(x0, x3, x4, weight=x1, bias=x2, training=self.training, "
        "momentum=0.1, eps=1e-05)"
    )


def test_debiased_batch_norm_needs_its_layer() -> None:
    node, e = _batch_norm(unbiased=False, debias=True)
    with pytest.raises(GraphError, match="own layer"):
        e.emit(node, [name(f"x{i}") for i in (0, 1, 2, 3, 4)])


@pytest.mark.parametrize("training", [True, False])
def test_biased_batch_norm(training: bool) -> None:
    x = torch.randn(6, 3, 4, generator=torch.Generator().manual_seed(0))
    mean, var = torch.full((3,), 0.5), torch.full((3,), 2.0)
    ours = mean.clone(), var.clone()
    options = {"training": training, "momentum": 0.25, "eps": 1e-5}
    y = _rt.batch_norm(x, *ours, **options)
    assert_close(y, F.batch_norm(x, mean, var, **options))
    if training:
        batch = x.var(dim=(0, 2), correction=0)
        mean, var = 0.375 + 0.25 * x.mean(dim=(0, 2)), 1.5 + 0.25 * batch
    assert_close(ours[0], mean)
    assert_close(ours[1], var)


def test_attention_drops_weights_in_training() -> None:
    torch.manual_seed(0)
    sample = row("attention-dropout_off")
    tensors = [as_torch(a) for a in sample.arrays(SIZES[0])]
    layer = torch.nn.Dropout(0.5)
    run = functools.partial(
        dataclasses.replace(BACKEND, dropout=lambda: layer).function_of(sample),
        *tensors,
    )
    first, second = run(), run()
    assert not torch.allclose(first, second)
    mean = torch.stack([run() for _ in range(400)]).mean(dim=0)  # it is unbiased
    assert (mean - sample.torch(*tensors)).abs().max() < 0.5
    layer.eval()
    assert_close(run(), sample.torch(*tensors))


def test_grouped_matmul_leaves_the_rows_of_no_group_zero() -> None:
    x, weight, ends = torch.ones(5, 2), torch.ones(3, 2, 4), torch.tensor([1, 1, 3])
    expected = 2 * (torch.arange(5) < 3).float()[:, None].expand(5, 4)
    assert_close(_rt.grouped_matmul(x, weight, ends), expected)


def test_bincount_has_its_length_whatever_the_numbers() -> None:
    counts = _rt.bincount(torch.tensor([0, 2, 9, 2], dtype=torch.int32), 4)
    assert counts.tolist() == [1, 0, 2, 0]


def test_reflection_may_be_longer_than_the_axis() -> None:
    x = np.arange(3)
    for count in (5, 8):
        ours = _rt.pad_edges(torch.as_tensor(x), ((count, count),), "reflect")
        assert ours.tolist() == np.pad(x, count, mode="reflect").tolist()
