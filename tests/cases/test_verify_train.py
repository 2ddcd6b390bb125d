"""Verification of train mode: every dropout is in its place, noise is compared too."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import linen, nnx
from torch import nn

import ivyport
from ivyport.core.report import Report
from ivyport.verification.jax_noise import fixed
from ivyport.verification.sides import NotFixed
from ivyport.verification.torch_noise import FixedDraws

X = torch.randn(3, 6, generator=torch.manual_seed(0))


def ported(source: nn.Module, *args: torch.Tensor, to: str) -> Any:
    return ivyport.transpile(source.eval(), to, args or (X,))


def failing(report: Report) -> set[str]:
    return {row.name for row in report.rows if not row.passed}


class Twice(nn.Module):
    """Two layers with dropout of one rate, the second in front of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.drop1, self.drop2 = nn.Dropout(0.3), nn.Dropout(0.3)
        self.norm = nn.LayerNorm(6)

    def forward(self, x):
        h = self.drop1(torch.tanh(self.first(x)))
        return self.norm(self.drop2(torch.tanh(self.second(h))))


@pytest.mark.parametrize(("to", "lost"), [("torch", "drop2"), ("jax", "drop1")])
def test_two_dropouts_of_one_rate_are_two(to: str, lost: str) -> None:
    source = Twice()
    port = ported(source, to=to)
    assert ivyport.verify(source, port).passed
    drop = getattr(port, lost)
    setattr(drop, "p" if to == "torch" else "rate", 0.0)
    assert "dropout in train mode" in failing(ivyport.verify(source, port))


class Swapped(nn.Module):
    """Dropouts of two rates; as many of each are at other places where `wrong`."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.lin = nn.Linear(6, 6)
        self.rates = (0.5, 0.1) if wrong else (0.1, 0.5)

    def forward(self, x):
        h = F.dropout(self.lin(x), self.rates[0], self.training)
        return h + F.dropout(torch.tanh(h), self.rates[1], self.training)


@pytest.mark.parametrize("to", ["torch"])
def test_dropouts_at_other_places(to: str) -> None:
    source, wrong = Swapped(), Swapped(wrong=True)
    wrong.load_state_dict(source.state_dict())
    port = ported(wrong, to=to)
    assert ivyport.verify(wrong, port).passed
    report = ivyport.verify(source, port)
    assert not report.passed
    assert all("train mode" in row.note for row in report.rows if not row.passed)


class Noisy(nn.Module):
    """Noise in train mode beside a norm, in front of arithmetic that may be wrong."""

    def __init__(self, scale: float = 1.0, kind: str = "normal") -> None:
        super().__init__()
        self.lin, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.scale, self.kind = scale, kind

    def forward(self, x):
        h = self.norm(self.lin(x))
        if self.training:
            h = h + self.noise(h) * self.scale
        return torch.tanh(h)

    def noise(self, h):
        if self.kind == "normal":
            return torch.randn_like(h)
        if self.kind == "bernoulli":
            return torch.bernoulli(torch.full_like(h, 0.4))
        if self.kind == "gumbel":
            return F.gumbel_softmax(h)
        if self.kind == "rrelu":
            return F.rrelu(h, training=True)
        if self.kind == "alpha":
            return F.alpha_dropout(h, 0.2, training=True)
        return torch.rand(h.shape)


NOISE = [
    *((kind, "torch") for kind in ("normal", "bernoulli", "gumbel", "rrelu")),
    *((kind, "jax") for kind in ("normal", "alpha")),
]


@pytest.mark.parametrize(("kind", "to"), NOISE)
def test_noise_in_train_mode_is_compared(to: str, kind: str) -> None:
    source = Noisy(kind=kind)
    wrong = Noisy(scale=0.5, kind=kind)
    wrong.load_state_dict(source.state_dict())
    port = ported(source, to=to)
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert not any("train mode" in text for text in report.not_checked)
    assert any("draw fixed" in note for note in report.notes)
    names = {row.name for row in report.rows if row.kind == "train_step"}
    assert {"output", "norm.running_mean"} <= names or {"output", "norm.mean"} <= names
    if kind == "normal":
        report = ivyport.verify(wrong.eval(), port)
        assert not report.passed, report


class Attention(nn.Module):
    """torch's own attention, which drops inside of one function."""

    def __init__(self, rate: float = 0.25) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=rate, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


def test_the_dropout_of_multi_head_attention() -> None:
    x = torch.randn(2, 4, 6)
    source, wrong = Attention(), Attention(0.5)
    wrong.load_state_dict(source.state_dict())
    port = ported(source, x, to="torch")
    assert ivyport.verify(source, port).passed
    assert not ivyport.verify(wrong.eval(), port).passed


class Depth(nn.Module):
    """Stochastic depth of samples, in a module of its own, and dropout behind it."""

    class Path(nn.Module):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.rate = rate

        def forward(self, x):
            if not self.training:
                return x
            keep = 1 - self.rate
            mask = (keep + torch.rand(x.shape[0], 1)).floor()
            return x.div(keep) * mask

    def __init__(self, rate: float = 0.2) -> None:
        super().__init__()
        self.lin, self.path = nn.Linear(6, 6), Depth.Path(rate)
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        return x + self.drop(self.path(self.lin(x)))


@pytest.mark.parametrize("to", ["jax"])
def test_stochastic_depth_is_compared(to: str) -> None:
    source, wrong = Depth(), Depth(0.4)
    wrong.load_state_dict(source.state_dict())
    port = ported(source, to=to)
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert not ivyport.verify(wrong.eval(), port).passed


def test_dropout_of_eval_mode_and_outputs_that_are_drawn() -> None:
    class Sampler(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.lin, self.scale = nn.Linear(6, 6), scale

        def forward(self, x):
            mean = self.lin(x)
            return mean, mean + self.scale * torch.randn_like(mean)

    source, wrong = Sampler(1.0), Sampler(2.0)
    wrong.load_state_dict(source.state_dict())
    port = ported(source, to="jax")
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert any("every random draw fixed" in row.note for row in report.rows)
    assert not any("anew" in text for text in report.not_checked)
    assert not ivyport.verify(wrong.eval(), port).passed


def test_what_cannot_be_fixed_is_not_checked() -> None:
    class Shuffled(nn.Module):
        def forward(self, x):
            if self.training:
                return x[torch.randperm(3)]
            return x

    with FixedDraws(0.25), pytest.raises(NotFixed, match="randperm"):
        Shuffled().train()(X)
    with pytest.raises(NotFixed, match="loop"):
        fixed(lambda key: jax.random.poisson(key, 2.0), 0.25)(jax.random.key(0))


# ---- JAX


class Dense(linen.Module):
    """Noise and dropout of a scan: its steps are layers, all with one rate."""

    scale: float = 1.0

    @linen.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = linen.Dense(6)(x)
        if train:
            x += self.scale * jax.random.normal(self.make_rng("noise"), x.shape)
        x = linen.Dropout(0.25, deterministic=not train)(jnp.tanh(x))
        return linen.Dropout(0.25, deterministic=not train)(linen.Dense(6)(x))


def test_noise_and_equal_rates_of_a_linen_module() -> None:
    x = jnp.asarray(X.numpy())
    variables = Dense().init(jax.random.key(0), x)
    given: dict[str, Any] = {"params": variables, "kwargs": {"x": x}}
    port = ivyport.transpile(Dense(), "torch", **given)
    report = ivyport.verify(Dense(), port, **given)
    assert report.passed, report
    assert not any("train mode" in text for text in report.not_checked)
    drop = next(m for m in port.modules() if isinstance(m, nn.Dropout))
    drop.p = 0.0
    assert "dropout in train mode" in failing(ivyport.verify(Dense(), port, **given))


def test_steps_of_a_scan_drop_one_by_one() -> None:
    def net(x: Any, is_training: bool = False) -> Any:
        def step(h: Any) -> Any:
            h = jnp.tanh(hk.Linear(6)(h))
            return hk.dropout(hk.next_rng_key(), 0.3, h) if is_training else h

        return hk.experimental.layer_stack(3)(step)(x)

    x = jnp.asarray(X.numpy())
    transformed = hk.transform(net)
    params = transformed.init(jax.random.key(0), x)
    given: dict[str, Any] = {"params": params, "kwargs": {"x": x}}
    port = ivyport.transpile(transformed, "torch", **given)
    report = ivyport.verify(transformed, port, **given)
    assert report.passed, report
    [row] = [r for r in report.rows if r.name == "dropout in train mode"]
    assert "0.3 (3x) in the source, 0.3 (3x) in the port" in row.note


def test_noise_of_an_nnx_module() -> None:
    class Net(nnx.Module):
        def __init__(self, scale: float = 1.0) -> None:
            self.rngs = nnx.Rngs(noise=3)
            self.lin = nnx.Linear(6, 6, rngs=nnx.Rngs(0))
            self.deterministic, self.scale = True, scale

        def __call__(self, x: Any) -> Any:
            h = self.lin(x)
            if not self.deterministic:
                h += self.scale * jax.random.uniform(self.rngs.noise(), h.shape)
            return h

    x = np.asarray(X)
    source, wrong = Net(), Net(0.5)
    port = ivyport.transpile(source, "torch", (x,))
    report = ivyport.verify(source, port)
    assert report.passed, report
    assert not ivyport.verify(wrong, port, args=(x,)).passed
