"""What float64 settles, and what it does not."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport.core.report import ReportRow
from ivyport.verification import run, training
from ivyport.weights.mapping import Row, WeightMap


class Source(nn.Module):
    """A bias that a softmax ignores, in front of everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6) * 30)
        self.bias = nn.Parameter(torch.zeros(4, 1))

    def forward(self, x):
        scores = x @ self.weight + (self.bias * 100).sum()
        return scores.softmax(-1)


class Port(nnx.Module):
    """The same; `mistake` is added to the bias's share of each score."""

    def __init__(self, source: Source, mistake: float = 0.0) -> None:
        self.weight = nnx.Param(jnp.asarray(source.weight.detach().numpy()))
        self.bias = nnx.Param(jnp.zeros((4, 1)))
        self.mistake = mistake

    def __call__(self, x):
        scores = x @ self.weight[...] + (self.bias[...] * 100).sum()
        slope = jnp.arange(6) * self.mistake
        return jax.nn.softmax(scores + self.bias[...].sum() * slope, axis=-1)


ROWS = WeightMap((Row("weight", "weight"), Row("bias", "bias")))


def report(mistake: float = 0.0, kind=Port):
    torch.manual_seed(0)
    source = Source()
    kwargs = {"x": torch.randn(400, 4)}
    return run(source, kind(source, mistake), ROWS, {"": ""}, kwargs)


def test_a_gradient_of_nothing_but_rounding():
    found = report()
    assert found.passed
    [row] = [r for r in found.rows if (r.name, r.kind) == ("bias", "gradient")]
    assert row.note.startswith("in float64; in float32 ")
    assert row.max_rel < 1e-6
    assert row.tolerance == 1e-6


def test_a_small_gradient_that_is_wrong_is_wrong_in_float64_too():
    found = report(mistake=1e-2)
    assert {(r.name, r.kind) for r in found.rows if not r.passed} >= {
        ("bias", "gradient")
    }


def test_a_port_that_demands_float32_is_not_excused():
    class Narrow(Port):
        def __call__(self, x):
            kernel = jax.lax.dot(x, self.weight[...])
            if kernel.dtype != jnp.float32:
                raise TypeError("float32 only")
            return super().__call__(x)

    found = report(kind=Narrow)
    assert {r.name for r in found.rows if not r.passed} == {"bias"}


def test_float64_is_over_afterwards():
    report()
    assert jnp.asarray(np.ones(2)).dtype == jnp.float32


def test_a_half_precision_model_holds():
    """Dtypes of 16 bits have tolerances of their own."""
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).bfloat16()

    class Half(nnx.Module):
        def __init__(self):
            for name, value in source.state_dict().items():
                bits = value.view(torch.int16).numpy().view(jnp.bfloat16)
                setattr(self, name.replace(".", "_"), nnx.Param(jnp.asarray(bits)))

        def __call__(self, input):
            x = jnp.tanh(input @ vars(self)["0_weight"][...].T + vars(self)["0_bias"])
            return x @ vars(self)["2_weight"][...].T + vars(self)["2_bias"]

    rows = tuple(Row(n, n.replace(".", "_")) for n in source.state_dict())
    kwargs = {"input": torch.randn(4, 8).bfloat16()}
    found = run(source, Half(), WeightMap(rows), {"": ""}, kwargs)
    assert found.passed, found
    assert found.precision == "bfloat16 at full precision"
    tolerances = {row.tolerance for row in found.rows if row.shapes}
    assert tolerances == {3.2e-2, 1.3e-1}


def test_a_mean_that_is_zero_in_exact_arithmetic(tmp_path):
    """What batch norm makes has the mean 0, and so has any product of it."""
    torch.manual_seed(0)
    source = nn.Sequential(
        nn.BatchNorm1d(8), nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8)
    )
    kwargs = {"input": torch.randn(64, 8)}
    found = ivyport.port(source, "jax", tmp_path / "port", kwargs=kwargs).report
    assert found is not None
    assert found.passed, found
    [row] = [r for r in found.rows if r.name.endswith("2.mean")]
    assert "in float32" in row.note
    assert row.max_rel < 1e-6


def test_what_float64_shows_too_is_no_rounding():
    size = 1e-10
    wrong = ReportRow("mean", "train_step", "(8,)", 2e-9, 20.0, 1e-6, False)
    assert not training._beside(wrong, size).passed
    rounding = dataclasses.replace(wrong, max_abs=1e-19, max_rel=1.0)
    assert training._beside(rounding, size).passed
    others = [wrong, ReportRow("var", "train_step", "(8,)", 1e-7, 1e-7, 1e-4, True)]
    assert training._vanishes(wrong, others)
    assert not training._vanishes(others[1], others)
