"""Every lowering rule on samples of torch code: types, structure, errors, values."""

from __future__ import annotations

import collections

import pytest
import torch

from ivyport.core import opdef
from ivyport.core.dims import evaluate
from ivyport.core.errors import GraphError
from ivyport.frontends.torch import rules
from tests.frontends.torch.harness import (
    export_sample,
    for_jax,
    lower,
    run_jax,
    sizes_of,
)
from tests.frontends.torch.sample import OTHER, Sample
from tests.frontends.torch.samples import SAMPLES
from tests.support import assert_close

# Kernels of even length are the trap that these samples are about.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")

INPLACE = {**rules.INPLACE, **rules.rules_random.INPLACE}
# Loops, which a module runs: tests/cases/test_rules_recurrent.py.
# torch.export sees these in `operations_whole` alone; tests/cases/test_rules_assembled.py has them.
WHOLE = {torch.ops.aten.cov.default, torch.ops.aten.corrcoef.default}
LOOPS = {
    getattr(torch.ops.aten, n).input for n in ("lstm", "gru", "rnn_tanh", "rnn_relu")
}
SOUND = [s for s in SAMPLES if not s.refuses]


def named(samples: list[Sample]) -> dict[str, object]:
    return {"argvalues": samples, "ids": [s.name for s in samples]}


def test_names_differ():
    repeated = collections.Counter(s.name for s in SAMPLES)
    assert [name for name, n in repeated.items() if n > 1] == []


@pytest.mark.parametrize("sample", **named(SOUND))
def test_types_structure_and_values(sample: Sample):
    lowered = lower(sample)
    if sample.ops is not None:
        assert lowered.ops() == sample.ops
    drawn = [op for op in lowered.ops() if op.startswith("random_")]
    assert drawn == [op for op, _, _ in sample.draws]
    if sample.random:
        return
    assert not any(opdef.get(op).random and op != "attention" for op in lowered.ops())
    for_jax(lowered)
    # Not the sizes of the trace: what holds at others was not baked in.
    tensors = sample.tensors(OTHER)
    expected = sample.fn(*(t.clone() for t in tensors))
    wanted = expected if isinstance(expected, list | tuple) else [expected]
    for actual, torch_value in zip(run_jax(lowered, tensors), wanted, strict=True):
        assert_close(actual, torch_value, rtol=sample.rtol, narrow=True)


@pytest.mark.parametrize("sample", **named([s for s in SOUND if s.draws]))
def test_what_is_drawn(sample: Sample):
    lowered = lower(sample)
    sizes = sizes_of(lowered.inputs, sample.tensors(OTHER))
    types = [(n.op, n.output.type) for n in lowered.nodes if opdef.get(n.op).random]
    assert [
        (op, tuple(evaluate(d, sizes) for d in t.shape), t.dtype) for op, t in types
    ] == [
        (op, tuple(OTHER.get(s, s) for s in shape), dtype)
        for op, shape, dtype in sample.draws
    ]


@pytest.mark.parametrize("sample", **named([s for s in SAMPLES if s.refuses]))
def test_refusal(sample: Sample):
    with pytest.raises(GraphError, match=sample.refuses):
        lower(sample)


def test_every_rule_has_a_sample():
    seen: set[object] = set()
    for sample in SAMPLES:
        nodes = export_sample(sample).graph.nodes
        seen |= {n.target for n in nodes if n.op == "call_function"}
    known = {*rules.RULES, *rules.RENAMED, *INPLACE}
    assert sorted(map(str, known - seen - LOOPS - WHOLE)) == []


def test_in_place_operators_have_a_rule():
    for target, functional in INPLACE.items():
        assert functional in rules.RULES or functional in rules.RENAMED, target
        ours, theirs = (
            [a.name for a in t._schema.arguments] for t in (target, functional)
        )
        assert [a.replace("self", "input") for a in ours] == [
            a.replace("self", "input") for a in theirs
        ]


def test_grouped_matmul_of_transformers():
    pytest.importorskip("transformers.integrations.moe", reason="needs transformers")
    operator = torch.ops.transformers.grouped_mm_fallback.default
    assert operator._schema.name in rules.NAMED
