from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree

import ivyport
from ivyport.core.errors import InputError, TraceError
from ivyport.core.ir import Record, walk
from ivyport.frontends.nested import Leaf, Opaque
from ivyport.frontends.torch.trace import TorchTrace, trace
from tests.frontends.torch.tiny_models import TINY


def symbols(program: torch.export.ExportedProgram) -> set[str]:
    """Every symbol in the shape of any node."""
    found: set[str] = set()
    for node in program.graph.nodes:
        value = node.meta.get("val")
        for tensor in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(tensor, torch.Tensor):
                sizes = [s for s in tensor.shape if isinstance(s, torch.SymInt)]
                found |= {str(x) for s in sizes for x in s.node.expr.free_symbols}
    return found


def state_of(model: nn.Module) -> dict[str, Any]:
    """What a trace must not change: flags, hooks, attributes, tensors by identity."""
    state: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            known = isinstance(value, (int, float, str, bool, type(None)))
            state[f"{path}.{name}"] = value if known else id(value)
        state[f"{path} hooks"] = len(module._forward_hooks) + len(
            module._forward_pre_hooks
        )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        state[name] = (id(tensor), tensor.requires_grad, tensor.grad, tensor._version)
    config = vars(model).get("config")
    if config is not None:
        state["config"] = str(config.to_dict())
        state["experts"] = config._experts_implementation
    state["numpy"] = str(np.random.get_state())
    state["python"] = random.getstate()
    state["torch"] = torch.get_rng_state().tolist()
    return state


def check_calls(found: TorchTrace, program: torch.export.ExportedProgram) -> None:
    nodes = set(program.graph.nodes)
    calls = found.calls if program is found.program else found.train_calls
    seen: set[tuple[str, int]] = set()
    for call in calls:
        assert call.parent is None or call.parent in seen
        seen.add((call.path, call.index))
        values = [v for _, item in call.args for v in walk(item)]
        values += list(walk(call.outputs))
        assert all(v in nodes for v in values if isinstance(v, fx.Node))
        assert not any(isinstance(v, Opaque) for v in values), call
    assert calls[0].path == ""


@pytest.mark.parametrize("name", TINY)
def test_tiny_models(name: str) -> None:
    row = TINY[name]
    model, inputs = row.build(), row.inputs()
    before = state_of(model)
    found = trace(model, kwargs=inputs)
    assert state_of(model) == before
    assert found.train_program is not None
    assert sorted(found.input_names) == sorted(inputs)
    assert {human for human, _, _ in found.dims.values()} == row.dims
    assert found.train_dims == found.dims
    for program in (found.program, found.train_program):
        assert symbols(program) == set(found.dims)
        check_calls(found, program)
        targets = {node.target for node in program.graph.nodes}
        assert not any(isinstance(t, torch._ops.HigherOrderOperator) for t in targets)
    # What the convolutions of a signal ask of its length are checks of the port.
    asks = "Sizes are taken with " + ("seq <= " if "samples" not in row.dims else "")
    kept = ("Train mode", asks, "Sizes of ")
    given_up = [n for n in found.notes if not n.startswith(kept)]
    assert given_up == []
    # The capture computes what the model does, at another batch size and length.
    if name in SAMPLE:
        other = row.inputs(batch=3, seq=11)
        with torch.no_grad():
            expected = [
                leaf
                for leaf in _pytree.tree_leaves(
                    model(**other, **CACHELESS.get(name, {}))
                )
                if isinstance(leaf, torch.Tensor)
            ]
            actual = found.program.module()(**other)
        assert len(actual) == len(expected)
        for ours, theirs in zip(actual, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


SAMPLE = {"BertModel", "LlamaForCausalLM", "MixtralModel", "T5Model", "SwinModel"}
CACHELESS = {
    name: {"use_cache": False}
    for name in ("LlamaForCausalLM", "MixtralModel", "T5Model")
}


def notes_of(name: str) -> list[str]:
    row = TINY[name]
    return trace(row.build(), kwargs=row.inputs()).notes


def test_layer_drop_is_noted_and_keeps_functional_dropout() -> None:
    row = TINY["BartForConditionalGeneration"]
    found = trace(row.build(), kwargs=row.inputs())
    assert len(found.notes) == 1
    assert "'model.encoder'" in found.notes[0]
    assert "rate 0.1" in found.notes[0]
    assert found.train_program is not None
    dropouts = [
        node
        for node in found.train_program.graph.nodes
        if node.target is torch.ops.aten.dropout.default
    ]
    assert dropouts
    assert all(node.args[2] for node in dropouts)


def test_spec_augment_and_layer_drop_of_wav2vec2() -> None:
    first, second, size, *trained = notes_of("Wav2Vec2Model")
    assert "the root" in first
    assert "SpecAugment" in first
    assert "the port masks nothing" in first
    assert "'encoder'" in second
    assert "rate 0.1" in second
    # The longest of the chain's conditions, which the others follow from.
    assert size.startswith("Sizes are taken with samples >= 20, ")
    assert all(" in train mode, which the port checks" in note for note in trained)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        if x.sum() > 0:
            x = x * 2
        return x


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Branches()

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.inner(x) * scale


def test_data_dependent_control_flow(capfd: pytest.CaptureFixture[str]) -> None:
    model, example = Outer(), torch.randn(2, 4)
    before = state_of(model)
    with pytest.raises(TraceError) as caught:
        trace(model, (example,))
    message = str(caught.value)
    assert "'inner'" in message
    assert "test_trace.py:" in message
    assert "if x.sum() > 0:" in message
    assert "Eq(u0, 1)" in message
    assert "torch.where" in message
    assert len(message.splitlines()) < 8
    assert state_of(model) == before
    # torch would print the partial graph and warnings of its own.
    assert capfd.readouterr() == ("", "")


class Compares(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if torch.equal(x, x * 2) else x + 1


def test_data_dependent_operator() -> None:
    with pytest.raises(TraceError, match=r"aten\.equal"):
        trace(Compares(), (torch.randn(2, 4),))


def test_a_wrong_shape_names_the_module_and_the_line() -> None:
    with pytest.raises(TraceError) as caught:
        trace(nn.Sequential(nn.Linear(4, 4)), (torch.randn(2, 5),))
    assert "module '0' (torch.nn.modules.linear.Linear)" in str(caught.value)
    assert "input=float32[2, 5]" in str(caught.value)


@pytest.mark.parametrize(
    ("args", "kwargs", "match"),
    [
        ((), {}, r"required argument: 'x'.*x \(required\), scale"),
        ((), {"x": torch.ones(2), "y": 1}, "unexpected keyword argument 'y'"),
        ((torch.ones(2),), {"x": torch.ones(2)}, "multiple values"),
        ((3,), {}, "no tensor among the example inputs"),
    ],
)
def test_inputs_that_do_not_fit(args: Any, kwargs: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        trace(Outer(), args, kwargs)


class Flexible(nn.Module):
    def __init__(self, fixed: bool = False) -> None:
        super().__init__()
        self.fixed = fixed

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.fixed and ids.shape[1] == 5:
            ids = ids + 1
        return ids * mask


def ids(batch: int = 2, seq: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    ones = torch.ones(batch, seq, dtype=torch.int64)
    return ones, ones.bool()


def test_equal_dimensions_share_a_symbol() -> None:
    found = trace(Flexible(), ids(), train=False)
    assert found.train_program is None
    assert sorted(found.dims.values()) == [("batch", 1, None), ("seq", 1, None)]
    assert found.input_dims["ids"] == found.input_dims["mask"]


def test_a_fixed_dimension_is_noted_with_its_line() -> None:
    found = trace(Flexible(fixed=True), ids(), train=False)
    assert [human for human, _, _ in found.dims.values()] == ["batch"]
    (note,) = found.notes
    assert "'seq' (axis 1 of 'ids') is fixed at 5" in note
    assert "if self.fixed and ids.shape[1] == 5:" in note


def test_a_batch_of_one_stays_free() -> None:
    found = trace(Flexible(), ids(batch=1))
    assert sorted(found.dims.values()) == [("batch", 1, None), ("seq", 1, None)]
    assert found.train_dims == found.dims
    assert not found.notes


class One(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        if self.kind == "guards" and x.shape[0] != 1:
            x = x + 1  # a batch of two would be another computation
        if self.kind == "squeezes":
            x = x.squeeze()
        return x * (scale if self.kind == "broadcasts" else scale[0])


KINDS = ["guards", "squeezes", "broadcasts"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_size_of_one_that_must_be_one_is_noted(kind: str) -> None:
    found = trace(One(kind), (torch.ones(1, 5, 3), torch.ones(1)), train=False)
    (length,) = found.dims
    assert found.dims == {length: ("length", 1, None)}
    assert found.input_dims == {"x": {1: length}, "scale": {}}
    assert "'batch' (axis 0 of 'x') is 1 in the example" in found.notes[0]
    single = trace(One(kind), (torch.ones(1, 1, 3), torch.ones(1)), train=False)
    assert single.dims == {}
    assert "'batch' (axis 0 of 'x') is 1 in the example" in single.notes[0]
    assert "'length' (axis 1 of 'x') is 1 in the example" in single.notes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_beside_a_size_of_one_is_free_or_refused(kind: str) -> None:
    model = One(kind)
    port = ivyport.transpile(model, "jax", (torch.randn(1, 5, 3), torch.randn(1)))
    for length in (1, 2, 3, 5):
        x, scale = torch.randn(1, length, 3), torch.randn(1)
        if kind == "squeezes" and length == 1:
            with pytest.raises(ValueError, match=r"length >= 2 are due .*squeeze"):
                port(x.numpy(), scale.numpy())
            continue
        result = torch.from_numpy(np.array(port(x.numpy(), scale.numpy())))
        torch.testing.assert_close(result, model(x, scale), rtol=0, atol=0)
    with pytest.raises(ValueError, match="axis 0 is 2, not 1"):
        port(np.ones((2, 5, 3), np.float32), np.ones(1, np.float32))


def test_one_beside_more_is_broadcast() -> None:
    found = trace(Flexible(), (ids()[0], ids(batch=1)[1]), train=False)
    assert list(found.input_dims["ids"]) == [0, 1]
    assert list(found.input_dims["mask"]) == [1]


class Numpy(nn.Module):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ids + torch.from_numpy(np.arange(ids.shape[1]))


def test_a_dimension_that_breaks_the_capture_is_given_up() -> None:
    found = trace(Numpy(), ids()[:1], train=False)
    assert [human for human, _, _ in found.dims.values()] == ["batch"]
    (note,) = found.notes
    assert note.startswith("Fixed to the example's size: 'seq'.")
    assert "test_trace.py:" in note


def test_dims_chosen_by_the_caller() -> None:
    model, example = nn.Conv1d(3, 4, 5), torch.randn(2, 3, 9)
    found = trace(model, (example,), dims={"input": {0: None, 2: "time"}})
    assert list(found.dims.values()) == [("time", 5, None)]
    assert list(found.input_dims["input"]) == [2]


@pytest.mark.parametrize(
    ("dims", "match"),
    [
        ({"x": {0: "b"}}, "not a tensor input; tensor inputs: ids, mask"),
        ({"ids": {2: "b"}}, r"axis 2 of 'ids', whose shape is \(2, 5\)"),
        ({"ids": {0: "n", 1: "n"}}, r"several sizes .*ids\[0\] is 2, ids\[1\] is 5"),
    ],
)
def test_dims_that_do_not_fit(dims: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        trace(Flexible(), ids(), dims=dims)


@dataclasses.dataclass
class Result:
    first: Any
    second: Any = None


class Structured(nn.Module):
    def forward(
        self,
        x: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor],
        flag: bool = True,
        *,
        named: dict[str, torch.Tensor],
        **extra: torch.Tensor,
    ) -> Result:
        nested = [state[1] * 2, None, 3 if flag else 4]
        return Result(first=(x * 2, nested), second={"n": named["a"] + extra["e"]})


def test_nested_inputs_and_outputs() -> None:
    x, two, four = torch.randn(3, 4), torch.randn(3, 2), torch.randn(3, 4)
    arguments = {"state": (x, two), "flag": False, "named": {"a": four}, "e": four}
    found = trace(Structured(), (x,), arguments)
    assert found.input_names == ["x", "state_0", "state_1", "named_a", "e"]
    assert isinstance(found.output_spec, Record)
    assert dict(found.output_spec.fields) == {
        "first": (Leaf(0), [Leaf(1), None, 4]),
        "second": {"n": Leaf(2)},
    }
    assert found.notes == ["Input 'state_0' is not used by the model."]
    args = dict(found.calls[0].args)
    assert args["flag"] is False
    assert args["state"] == (found.input_nodes["state_0"], found.input_nodes["state_1"])


def test_none_fields_of_a_model_output_are_kept() -> None:
    row = TINY["BertModel"]
    found = trace(row.build(), kwargs=row.inputs(), train=False)
    fields = dict(found.output_spec.fields)
    assert fields["last_hidden_state"] == Leaf(0)
    assert fields["pooler_output"] == Leaf(1)
    assert fields["hidden_states"] is None


class Star(nn.Module):
    def forward(self, a: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return a + rest[0] + rest[1]


def test_variadic_inputs() -> None:
    found = trace(Star(), (torch.randn(2, 3),) * 3, train=False)
    assert found.input_names == ["a", "rest_0", "rest_1"]


class Foreign(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x, object()


def test_an_output_that_cannot_be_ported() -> None:
    with pytest.raises(TraceError, match=r"returns builtins\.object"):
        trace(Foreign(), (torch.randn(2, 3),))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.left = nn.Sequential(self.table)
        self.right = nn.Sequential(self.table)
        self.scale, self.name, self._hidden = 2.0, "s", 1
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.table.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.left(ids) + self.right(ids) + self.table(ids))


def test_shared_modules_and_tied_parameters() -> None:
    model = Shared()
    found = trace(model, (ids()[0],), train=False)
    calls = [(c.path, c.index, c.alias, c.parent) for c in found.calls]
    assert calls == [
        ("", 0, "", None),
        ("left", 0, "left", ("", 0)),
        ("table", 0, "left.0", ("left", 0)),
        ("right", 0, "right", ("", 0)),
        ("table", 1, "right.0", ("right", 0)),
        ("table", 2, "table", ("", 0)),
        ("head", 0, "head", ("", 0)),
    ]
    tied = {"table.weight": ("left.0.weight", "right.0.weight", "head.weight")}
    assert found.param_aliases == tied
    assert found.module_attrs[""] == {"scale": 2.0, "name": "s"}
    assert found.module_attrs["head"] == {"in_features": 4, "out_features": 9}
    assert set(found.module_classes) == {"", "table", "left", "right", "head"}
    assert found.module_classes["head"] == "torch.nn.modules.linear.Linear"


class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            y = self.linear(x)
            constant = torch.ones(3)
            with torch.enable_grad():
                z = self.linear(y)
        return self.linear(x) + y, z, constant


def test_no_grad_regions_become_detach() -> None:
    model, x = NoGrad(), torch.randn(2, 4)
    found = trace(model, (x,))
    for program in (found.program, found.train_program):
        assert program is not None
        targets = [n.target for n in program.graph.nodes if n.op == "call_function"]
        assert targets.count(torch.ops.aten.detach.default) == 1
    # Values and gradients of the inlined program are those of the source.
    for run in (model, found.program.module()):
        model.zero_grad()
        outputs = run(x=x)
        (outputs[0].sum() + (outputs[1] ** 2).sum()).backward()
        if run is model:
            expected = [outputs, model.linear.weight.grad]
        else:
            weight = dict(run.named_parameters())["linear.weight"]
            torch.testing.assert_close(list(outputs), list(expected[0]))
            torch.testing.assert_close(weight.grad, expected[1])


def test_fake_tensors() -> None:
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    found = trace(model, (torch.randn(3, 4),))
    assert [human for human, _, _ in found.dims.values()] == ["batch"]


def test_bfloat16() -> None:
    row = TINY["MixtralModel"]
    model = row.build().to(torch.bfloat16)
    found = trace(model, kwargs=row.inputs(), train=False)
    targets = {node.target for node in found.program.graph.nodes}
    assert torch.ops.aten._grouped_mm.default in targets


def test_eager_experts_are_captured_as_grouped_products() -> None:
    row = TINY["MixtralModel"]
    model = row.build()
    model.config._experts_implementation = "eager"
    trace(model, kwargs=row.inputs(), train=False)
    assert model.config._experts_implementation == "eager"


def test_flags_that_differ_between_modules_are_restored() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.1)).train()
    model[0].eval()
    model[0].weight.requires_grad_(False)
    running = model[0].running_mean.clone()
    example = torch.randn(3, 4)
    before = state_of(model)
    trace(model, (example,))
    assert state_of(model) == before
    assert torch.equal(model[0].running_mean, running)


class Counts(nn.Module):
    """Keeps a tensor of its last call, as caches do."""

    def __init__(self) -> None:
        super().__init__()
        self.last = None
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * 2


def test_attributes_that_a_forward_assigns_are_restored() -> None:
    model = Counts()
    trace(model, (torch.randn(3, 4),))
    assert model.calls == 0


def test_an_input_used_by_a_named_extra_argument() -> None:
    row = TINY["BertModel"]
    inputs = {**row.inputs(), "output_hidden_states": True}
    found = trace(row.build(), kwargs=inputs, train=False)
    states = dict(found.output_spec.fields)["hidden_states"]
    assert states == (Leaf(2), Leaf(3), Leaf(4))
