"""Rows of the cases on verification: no false alarms, and nothing passes unseen."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen, nnx
from torch import nn

import ivyport
from ivyport.core.errors import ParityError, TraceError
from ivyport.core.report import Report
from ivyport.verification.torch_ties import Ties

X = torch.randn(3, 6, generator=torch.manual_seed(0))


def full(source: nn.Module, *args: torch.Tensor, to: str = "torch") -> Report:
    source.eval()
    return ivyport.verify(source, ivyport.transpile(source, to, args))


class Head(nn.Module):
    """Writes in place to what its own backward needs: a detection head."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)

    def forward(self, x):
        y = self.lin(x).sigmoid()
        z = y * y
        y[:, :2] = 0
        return z, y


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_source_whose_own_backward_refuses(to: str) -> None:
    with pytest.raises(RuntimeError, match="inplace"):
        Head()(X)[0].sum().backward()
    report = full(Head(), X, to=to)
    assert report.passed, report
    assert {row.kind for row in report.rows} == {"output", "train_step"}
    assert any(
        text.startswith("gradients: they are not available in the source")
        for text in report.not_checked
    )


class Attending(nn.Module):
    """Keys with a bias, whose gradient is 0 in exact arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, x):
        return (self.q(x) @ self.k(x).mT).softmax(-1) @ self.v(x)


def test_gradients_that_are_zero_in_exact_arithmetic() -> None:
    report = full(Attending(), torch.randn(2, 5, 6))
    assert report.passed, report
    report = full(Attending(), torch.randn(2, 5, 6), to="jax")
    assert report.passed, report
    [row] = [r for r in report.rows if (r.kind, r.name) == ("gradient", "k.bias")]
    assert row.note.startswith("0 in exact arithmetic")


class Mixed(nn.Module):
    """Float32 in and out, and a product in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6).bfloat16()

    def forward(self, x):
        h = torch.tanh(self.first(x))
        return {"low": self.second(h.bfloat16()).float(), "high": h}


def test_tolerances_are_those_of_the_dtype_that_values_went_through() -> None:
    source = Mixed().eval()
    ported = ivyport.transpile(source, "jax", (X,))
    report = ivyport.verify(source, ported)
    assert report.passed, report
    limits = {r.name: r.tolerance for r in report.rows if r.kind == "output"}
    assert limits == {"low": 3.2e-2, "high": 1e-5}
    assert any("rounded to bfloat16 on the way" in note for note in report.notes)


def test_rows_that_are_nan_on_both_sides() -> None:
    class Scores(nn.Module):
        def forward(self, x, mask):
            return x.masked_fill(mask, float("-inf")).softmax(-1)

    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[1] = True
    report = full(Scores(), X, mask)
    assert report.passed, report
    [traced] = [r for r in report.rows if (r.kind, r.inputs) == ("output", "traced")]
    assert traced.note == "NaN in the same 6 of 18 places"
    assert not any("NaN" in row.note for row in report.rows if row.inputs == "second")


class Normed(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        return linen.BatchNorm(use_running_average=not train)(linen.Dense(4)(x))


def test_a_train_flag_that_was_given_is_a_note() -> None:
    x = jnp.asarray(X.numpy())
    variables = Normed().init(jax.random.key(0), x)
    given: dict[str, Any] = {"params": variables, "kwargs": {"x": x, "train": True}}
    ported = ivyport.transpile(Normed(), "torch", **given)
    report = ivyport.verify(Normed(), ported, params=variables, kwargs=given["kwargs"])
    assert report.passed, report
    assert any(note.startswith("train=True was given") for note in report.notes)
    assert any("in train mode" in row.note for row in report.rows)


class Average(nn.Module):
    """A mean that moves in train mode alone, and dropout that is written at the call."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        y = self.lin(x) - self.mean
        if self.training:
            self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
            y = nn.functional.dropout(y, 0.5)
        return y


def test_what_a_port_of_eval_mode_lacks_is_found() -> None:
    source = Average().eval()
    ported = ivyport.transpile(source, "torch", (X,), train=False)
    report = ivyport.verify(source, ported)
    failing = {row.name for row in report.rows if not row.passed}
    assert "dropout in train mode" in failing
    assert "mean" in failing


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_sparse_gradients_of_an_embedding(to: str) -> None:
    source = nn.Sequential(nn.Embedding(9, 6, sparse=True), nn.Linear(6, 2))
    report = full(source, torch.tensor([[1, 2], [8, 2]]), to=to)
    assert report.passed, report
    assert sum(row.kind == "gradient" for row in report.rows) == 3


def test_an_argument_that_the_source_writes_to() -> None:
    class Doubled(nn.Module):
        def forward(self, x):
            x.mul_(2)
            x[0] += 1
            return x + 1

    given = X.clone()
    port = ivyport.transpile(Doubled().eval(), "jax", (given.clone(),))
    assert ivyport.verify(Doubled().eval(), port, args=(given.clone(),)).passed
    array = given.numpy().copy()
    assert torch.equal(torch.tensor(array), given)
    port(array)
    assert (array == given.numpy()).all()


class Outside(nn.Module):
    """Numbers of Python's generators and clocks, which a trace has as constants."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.lin, self.kind = nn.Linear(6, 6), kind

    def forward(self, x):
        h = self.lin(x)
        if self.kind == "random":
            return h * random.random()
        if self.kind == "numpy":
            return h + float(np.random.rand())
        if self.kind == "branch":
            return h if np.random.rand() < 0.5 else -h
        return h + time.time() % 1


@pytest.mark.parametrize("kind", ["random", "numpy", "branch", "time"])
def test_numbers_from_outside_are_refused(kind: str) -> None:
    state, source = random.getstate(), Outside(kind).eval()
    with pytest.raises(ParityError, match=r"Python's random, numpy's or a clock"):
        ivyport.transpile(source, "torch", (X,), train=False)
    if kind != "time":
        with pytest.raises(TraceError, match="train=False"):
            ivyport.transpile(source, "torch", (X,))
    assert random.getstate() == state


def test_draws_from_outside_that_change_nothing() -> None:
    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(6, 6)

        def forward(self, x):
            random.random()
            return self.lin(x)

    ivyport.transpile(Timed().eval(), "torch", (X,), train=False)


@pytest.mark.parametrize("to", ["torch", "jax"])
def test_a_row_of_bert_that_attends_to_nothing(to: str) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    source = BertModel(BertConfig(vocab_size=30, intermediate_size=32, **sizes)).eval()
    ids = torch.tensor([[3, 7, 9, 0], [4, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]])
    given = {"input_ids": ids, "attention_mask": mask}
    port = ivyport.transpile(source, to, kwargs=given)
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert report.not_checked == ()
    assert {"gradient", "output", "train_step"} <= {row.kind for row in report.rows}


def test_the_card_says_what_was_compared(tmp_path: Path) -> None:
    source = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 2)).eval()
    ids = torch.tensor([[1, 2], [8, 2]])
    texts = {}
    for how in ("full", "outputs", False):
        port = ivyport.transpile(source, "jax", (ids,), verify=how)
        ivyport.save(port, tmp_path / str(how))
        texts[how] = (tmp_path / str(how) / "README.md").read_text()
    assert "Parity with the source holds" in texts["full"]
    assert (tmp_path / "full" / "parity.json").is_file()
    assert "its outputs on the example inputs were those" in texts["outputs"]
    assert not (tmp_path / "outputs" / "parity.json").exists()
    assert "Not verified" in texts[False]
    assert all("`input` from 0 to 8" in text for text in texts.values())


def test_the_report_says_what_it_did_not_check() -> None:
    class Table(nn.Module):
        """Takes four positions at most."""

        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(4, 6))

        def forward(self, x):
            return x + self.table[torch.arange(x.shape[0])]

    report = full(Table(), torch.randn(4, 6))
    assert report.passed, report
    assert report.to_json()["not_checked"] == list(report.not_checked)
    assert Report.from_json(report.to_json()) == report


class Routed(nn.Module):
    """A router that knows nothing yet: all of its scores are equal."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(4, 4, bias=False)
        self.experts = nn.Linear(4, 4)
        nn.init.zeros_(self.router.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.experts(x).gather(-1, self.router(x).topk(2, -1).indices)


def test_a_source_that_orders_equal_values_is_told_so() -> None:
    torch.manual_seed(0)
    with pytest.raises(ParityError, match=r"orders equal values.*topk"):
        ivyport.transpile(
            Routed().eval(), "jax", (torch.randn(3, 4),), verify="full", train=False
        )


@pytest.mark.parametrize(
    ("order", "tied"),
    [
        (lambda x: x.topk(1), False),
        (lambda x: x.topk(2), True),
        (lambda x: torch.topk(x, 2, largest=False), False),
        (lambda x: x.argsort(), True),
        (lambda x: torch.sort(x, stable=True), False),
        (lambda x: x[:2].sort(descending=True), False),
    ],
)
def test_equal_values_count_where_they_are_ordered(order: Any, tied: bool) -> None:
    with Ties() as found:
        order(torch.tensor([5.0, 3.0, 3.0, 1.0, 0.0]))
    assert bool(found.lines) == tied


class Running(nnx.Module):
    """A running maximum of equal weights, whose gradients JAX halves along a tree."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.ones((3, 4)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.lax.cummax(self.weight[...], 1) + x


def test_a_gradient_that_is_left_different_is_reported() -> None:
    with pytest.raises(ParityError, match="gradient 'weight' is off"):
        ivyport.transpile(Running(), "torch", (jnp.ones((3, 4)),), verify="full")
