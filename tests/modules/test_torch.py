"""Torch modules: native layers, containers under the source's names, buffers, modes."""

from __future__ import annotations

import ast
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.build import Builder  # noqa: E402
from ivyport.core.ir import Graph, Param, Scope, TensorType, Value  # noqa: E402
from tests.modules.emission import classes, emit_graph, emit_module, method  # noqa: E402
from tests.plain_models import seeded  # noqa: E402


def emitted(source: nn.Module, **inputs: Any) -> str:
    """The file of a module's port to torch."""
    return emit_module(source, inputs, target="torch").source


def constructor(source: str, cls: str) -> list[str]:
    """The statements of ``__init__``, without the docstring."""
    (found,) = [
        n
        for n in classes(source)[cls].body
        if isinstance(n, ast.FunctionDef) and n.name == "__init__"
    ]
    return [ast.unparse(statement) for statement in found.body]


class Layers(nn.Module):
    """One of every layer that has a counterpart."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.linear = nn.Linear(8, 8, bias=False)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.plane = nn.LayerNorm((4, 8))
        self.rms = nn.RMSNorm(8, eps=1e-5)
        self.conv = nn.Conv1d(8, 6, 3, padding=1, groups=2)
        self.batch = nn.BatchNorm1d(6)
        self.group = nn.GroupNorm(3, 6)
        self.up = nn.ConvTranspose1d(6, 4, 2, stride=2)
        self.drop = nn.Dropout(0.3)

    def forward(self, ids):
        x = self.rms(self.plane(self.norm(self.linear(self.embed(ids)))))
        x = self.group(self.batch(self.conv(x.transpose(1, 2))))
        return self.drop(self.up(x))


def test_native_layers() -> None:
    source = emitted(seeded(Layers), ids=torch.arange(8).reshape(2, 4))
    assert constructor(source, "Layers") == [
        "super().__init__()",
        "self.embed = nn.Embedding(9, 8)",
        "self.linear = nn.Linear(8, 8, bias=False)",
        "self.norm = nn.LayerNorm(8, eps=1e-06)",
        "self.plane = nn.LayerNorm((4, 8))",
        "self.rms = nn.RMSNorm(8, eps=1e-05)",
        "self.conv = nn.Conv1d(8, 6, kernel_size=3, padding=1, groups=2)",
        "self.batch = nn.BatchNorm1d(6)",
        "self.group = nn.GroupNorm(3, 6)",
        "self.up = nn.ConvTranspose1d(6, 4, kernel_size=2, stride=2)",
        "self.drop = nn.Dropout(0.3)",
    ]


class Attention(nn.Module):
    """Attention with dropout, as libraries write it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        batch, length, _ = x.shape
        q, k, v = (
            t.view(batch, length, 2, 4).transpose(1, 2)
            for t in self.qkv(x).chunk(3, -1)
        )
        y = nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=0.1 if self.training else 0.0
        )
        return y.transpose(1, 2).reshape(batch, length, 8)


def test_attention_s_dropout_follows_the_mode() -> None:
    source = emitted(seeded(Attention), x=torch.randn(2, 5, 8))
    assert "self.dropout = nn.Dropout(0.1)" in constructor(source, "Attention")
    body = method(classes(source)["Attention"], "forward")
    assert "dropout_p=self.dropout.p if self.training else 0.0" in body
    assert "rngs" not in source


class Nested(nn.Module):
    """Containers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))
        self.heads = nn.ModuleDict({"a": nn.Linear(6, 2), "b": nn.Linear(6, 3)})
        self.grid = nn.ModuleList(
            nn.ModuleList(nn.Linear(6, 6) for _ in range(3)) for _ in range(2)
        )
        self.scales = nn.ParameterList(torch.randn(6) for _ in range(2))
        self.table = nn.Embedding(4, 6)

    def forward(self, x):
        x = self.body(x) @ self.table.weight.T @ self.table.weight
        for row in self.grid:
            for layer in row:
                x = layer(x)
        x = x * self.scales[0] + self.scales[1]
        return self.heads["a"](x), self.heads["b"](x)


def test_containers_are_the_source_s() -> None:
    source = seeded(Nested)
    text = emitted(source, x=torch.randn(3, 6))
    made = constructor(text, "Nested")
    assert (
        "self.body = nn.ModuleList([nn.Linear(6, 6), nn.Identity(), nn.Linear(6, 6)])"
        in made
    )
    row = "nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])"
    assert f"self.grid = nn.ModuleList([{row} for _ in range(2)])" in made
    assert (
        "self.heads = nn.ModuleDict({'a': nn.Linear(6, 2), 'b': nn.Linear(6, 3)})"
        in made
    )
    assert (
        "self.table = nn.ParameterDict({'weight': nn.Parameter(torch.randn(4, 6) * "
        "0.02)})" in made
    )
    assert any("self.scales = nn.ParameterList([" in line for line in made)
    body = method(classes(text)["Nested"], "forward")
    assert "self.heads['a'](" in body
    assert "self.grid[1][2](" in body


def test_reserved_names_are_avoided() -> None:
    """Places of another framework may be called like methods of `nn.Module`."""
    type_ = TensorType("float32", (6,))
    params = {}
    root, inner = Scope("", "pkg.Net"), Scope("train", "pkg.Layer")
    builder = Builder()
    x = Value(TensorType("float32", (2, 6)), "x")
    y = x
    for place, scope in (("train.half", (root, inner)), ("forward", (root,))):
        value = Value(type_, place)
        params[place] = Param(place, type_, "parameter", value)
        builder.scope = scope
        y = builder.multiply(y, value)
    graph = Graph([x], params, builder.nodes, y, classes={"": "N", "train": "L"})
    made = emit_graph(graph, target="torch")
    targets = {row.source: row.target for row in made.rows}
    assert targets == {"train.half": "train_2.half_2", "forward": "forward_2"}
    namespace: dict[str, Any] = {"__name__": "made"}
    exec(compile(made.source, "made.py", "exec"), namespace)
    model = namespace["Net"]()
    assert set(model.state_dict()) == set(targets.values())
    assert model.train() is model
    assert model(torch.ones(2, 6)).shape == (2, 6)


def test_a_buffer_is_written_after_it_is_read() -> None:
    type_ = TensorType("float32", (6,))
    value = Value(type_, "mean")
    params = {"mean": Param("mean", type_, "buffer", value)}
    builder = Builder()
    builder.scope = (Scope("", "pkg.Net"),)
    x = Value(TensorType("float32", (2, 6)), "x")
    new = builder.multiply(builder.add(value, builder.mean(x, axis=(0,))), 0.5)
    out = builder.subtract(x, value)
    graph = Graph([x], params, builder.nodes, out, updates={"mean": new})
    made = emit_graph(graph, target="torch")
    namespace: dict[str, Any] = {"__name__": "made"}
    exec(compile(made.source, "made.py", "exec"), namespace)
    model = namespace["Net"]()
    model.mean.fill_(2.0)
    given = torch.arange(12.0).reshape(2, 6).requires_grad_()
    assert torch.equal(model(given), given - 2)
    assert torch.equal(model.mean, (given.mean(0) + 2) / 2)
    assert not model.mean.requires_grad
    assert isinstance(dict(model.named_buffers())["mean"], torch.Tensor)


def test_tensors_are_made_where_the_inputs_are() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(8, 6))

        def forward(self, x):
            length = x.shape[1]
            ids = torch.arange(length, device=x.device)
            mask = torch.ones(length, length, dtype=torch.bool, device=x.device)
            return x + self.table[ids] + mask.tril().float().sum(-1)[:, None]

    dims = {"x": {0: "batch", 1: "seq"}}
    ported = ivyport.transpile(
        seeded(Positions), "torch", kwargs={"x": torch.randn(2, 5, 6)}, dims=dims
    )
    meta = ported.to("meta")
    assert meta(torch.empty(3, 7, 6, device="meta")).device.type == "meta"
