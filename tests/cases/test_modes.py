"""What only train mode does is ported: outputs and buffers over three calls, then eval mode."""

from __future__ import annotations

import linecache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn
from torch.nn import functional as F

import ivyport
from ivyport.api import _known
from ivyport.core.errors import UnsupportedOpsError
from ivyport.porting import current
from tests.cases.modes import (
    EXACT,
    RANDOM,
    AuxiliaryHead,
    Codebook,
    Scale,
    WrittenAfterUse,
    WrittenBeforeUse,
)

TARGETS = ("jax", "torch")
TOLERANCE = 1e-4


def given(x: torch.Tensor, to: str) -> Any:
    return jnp.asarray(x.numpy()) if to == "jax" else x


def runner(to: str) -> Any:
    """A call of the port; under `nnx.jit` what it writes must be state."""
    return nnx.jit(lambda port, x: port(x)) if to == "jax" else lambda port, x: port(x)


def arrays(output: Any) -> list[np.ndarray]:
    """Every tensor of an output, None left out."""
    if output is None:
        return []
    if isinstance(output, dict):
        return [a for key in sorted(output) for a in arrays(output[key])]
    if isinstance(output, tuple | list):
        return [a for item in output for a in arrays(item)]
    return [np.asarray(output.detach() if torch.is_tensor(output) else output)]


def source_of(port: Any) -> str:
    function = (
        type(port).forward if isinstance(port, nn.Module) else type(port).__call__
    )
    return "".join(linecache.getlines(function.__code__.co_filename))


def assert_same_buffers(source: nn.Module, port: Any) -> None:
    known, held = _known(port), dict(source.named_buffers())
    held |= {n: p for n, p in source.named_parameters() if not p.requires_grad}
    now = current(known, port)
    rows = [row for row in known.weights.rows if row.source in held]
    for row in rows:
        expected = held[row.source].detach().numpy()
        np.testing.assert_allclose(
            now[row.target], expected, atol=TOLERANCE, err_msg=row.source
        )


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", EXACT)
def test_three_calls_in_train_mode_then_eval(name: str, to: str) -> None:
    torch.manual_seed(0)
    model = EXACT[name]().eval()
    xs = [torch.randn(6, 4) for _ in range(5)]
    port = ivyport.transpile(model, to, (xs[0],))
    assert not [n for n in _known(port).notes if "train" in n and " fixed at " not in n]
    run = runner(to)
    for train, batches in ((False, xs[3:4]), (True, xs[:3]), (False, xs[4:])):
        for side in (model, port):
            side.train() if train else side.eval()
        for x in batches:
            expected, actual = arrays(model(x)), arrays(run(port, given(x, to)))
            assert len(actual) == len(expected)
            for mine, other in zip(actual, expected, strict=True):
                np.testing.assert_allclose(mine, other, atol=TOLERANCE, rtol=TOLERANCE)
            assert_same_buffers(model, port)


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("name", RANDOM)
def test_draws_in_the_modes_that_draw(name: str, to: str) -> None:
    torch.manual_seed(0)
    make, always = RANDOM[name]
    model, x = make().eval(), torch.randn(512, 4)
    port = ivyport.transpile(model, to, (x,))
    run = runner(to)
    for train in (False, True):
        for side in (model, port):
            side.train() if train else side.eval()
        expected, actual = arrays(model(x)), arrays(run(port, given(x, to)))
        again = arrays(run(port, given(x, to)))
        drawn = not all(map(np.array_equal, actual, again))
        assert drawn == (train or always)
        assert len(actual) == len(expected)
        for mine, other in zip(actual, expected, strict=True):
            if not drawn:
                np.testing.assert_allclose(mine, other, atol=TOLERANCE)
            assert abs((mine == 0).mean() - (other == 0).mean()) < 0.1
            assert abs(mine.std() - other.std()) < 0.1 * other.std() + 1e-3
            assert abs(mine.mean() - other.mean()) < 0.1 * np.abs(other).mean() + 1e-3


# ---- what a reader sees


@pytest.mark.parametrize("to", TARGETS)
def test_what_train_mode_alone_writes_stands_under_one_if(to: str) -> None:
    port = ivyport.transpile(WrittenAfterUse().eval(), to, (torch.randn(6, 4),))
    text, flag = (
        source_of(port),
        {"jax": "not self.deterministic"}.get(to, "self.training"),
    )
    assert text.count(f"if {flag}:") == 1
    rest = text.partition(f"if {flag}:")[2].partition("@classmethod")[0]
    assert "else:" not in rest


@pytest.mark.parametrize("to", TARGETS)
def test_another_structure_is_returned_in_each_mode(to: str) -> None:
    text = source_of(
        ivyport.transpile(AuxiliaryHead().eval(), to, (torch.randn(6, 4),))
    )
    method = text.partition("def __call__" if to == "jax" else "def forward")[2]
    assert method.partition("@classmethod")[0].count("return ") == 2
    assert "None" not in method.partition("@classmethod")[0]


def test_a_difference_is_in_the_module_that_makes_it() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Scale()

        def forward(self, x):
            return self.inner(x).relu()

    text = source_of(ivyport.transpile(Outer().eval(), "torch", (torch.randn(6, 4),)))
    scale, _, outer = text.partition("class Outer")
    assert "if self.training:" in scale
    assert "if self.training:" not in outer


# ---- gradients


@pytest.mark.parametrize("to", TARGETS)
def test_a_gradient_flows_through_what_is_written_and_used(to: str) -> None:
    torch.manual_seed(0)
    model, x = WrittenBeforeUse().train(), torch.randn(6, 4)
    port = ivyport.transpile(model, to, (x,))
    port.train()
    y = x.clone().requires_grad_()
    model(y).pow(2).sum().backward()
    if to == "jax":
        loss = nnx.grad(lambda port, x: (port(x) ** 2).sum(), argnums=1)
        grad = loss(port, given(x, to))
    else:
        z = x.clone().requires_grad_()
        port(z).pow(2).sum().backward()
        grad = z.grad
        assert not port.mean.requires_grad
    np.testing.assert_allclose(np.asarray(grad), y.grad.numpy(), atol=TOLERANCE)


def test_a_codebook_takes_no_gradient() -> None:
    torch.manual_seed(0)
    model, x = Codebook().eval(), torch.randn(6, 4)
    port = ivyport.transpile(model, "torch", (x,))
    port.train()
    for _ in range(2):  # a graph that lived on in a buffer would raise the second time
        port(x).sum().backward()


# ---- modules in other modes


@pytest.mark.parametrize("to", TARGETS)
def test_a_dropout_left_in_train_mode_draws_in_the_port_as_given(to: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    model[1].train()
    x = torch.randn(64, 4)
    port = ivyport.transpile(model, to, (x,))
    one, other = (arrays(port(given(x, to)))[0] for _ in range(2))
    assert not np.array_equal(one, other)
    (note,) = [n for n in _known(port).notes if "in train mode" in n]
    assert "port.train() and port.eval() set every module" in note
    port.eval()
    one, other = (arrays(port(given(x, to)))[0] for _ in range(2))
    assert np.array_equal(one, other)
    port.train()
    before = {k: v.copy() for k, v in current(_known(port), port).items()}
    port(given(x, to))
    after = current(_known(port), port)
    assert any(not np.array_equal(before[k], after[k]) for k in before)


def test_a_norm_left_in_eval_mode_is_noted() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).train()
    model[1].eval()
    port = ivyport.transpile(model, "jax", (torch.randn(6, 4),))
    (note,) = [n for n in _known(port).notes if "modules in eval mode" in n]
    assert "port.m_1.eval()" in note


# ---- what cannot be ported is refused


def test_attention_that_drops_in_eval_mode_is_refused_at_the_line() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x):
            q = self.lin(x)[:, None, None]
            return F.scaled_dot_product_attention(q, q, q, dropout_p=0.3)

    with pytest.raises(
        UnsupportedOpsError, match=r"test_modes.py:\d+.*dropout_p=rate if"
    ):
        ivyport.transpile(Attention(), "jax", (torch.randn(6, 4),))


def test_an_operation_of_train_mode_without_a_rule_is_refused() -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x):
            if self.training:
                x = x[:, torch.randperm(4)]
            return self.lin(x)

    with pytest.raises(UnsupportedOpsError, match=r"in train mode(.|\n)*train=False"):
        ivyport.transpile(Shuffled(), "jax", (torch.randn(6, 4),))
    ivyport.transpile(Shuffled(), "jax", (torch.randn(6, 4),), train=False)
