"""What `ivyport.transpile` compares before it returns a port."""

from __future__ import annotations

import copy
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch import nn

import ivyport
from ivyport.core.errors import InputError, ParityError, WeightsError
from tests.verification import models

X = torch.linspace(-1, 1, 2 * 7 * 16).reshape(2, 7, 16)


@pytest.fixture
def broken(monkeypatch):
    """Emits a port of `models.Net` whose second block is wrong; gives its mistake's place."""

    def put(old: str, new: str) -> None:
        from ivyport.modules import file

        emit = file.emit

        def wrong(*args, **kwargs):
            emitted = emit(*args, **kwargs)
            assert old in emitted.source
            return replaced(emitted, old, new)

        monkeypatch.setattr(file, "emit", wrong)

    def replaced(emitted, old, new):
        emitted = copy.copy(emitted)
        object.__setattr__(emitted, "source", emitted.source.replace(old, new))
        return emitted

    return put


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_a_wrong_port_is_not_returned(broken, to):
    source = models.seeded(models.Net)
    broken("self.second(", "1.01 * self.second(")
    with pytest.raises(ParityError) as caught:
        ivyport.transpile(source, to, kwargs={"x": X})
    text = str(caught.value)
    assert "output 'hidden' is off by" in text
    assert "1e-05 is allowed" in text
    assert "The first module that drifts: the model itself (Net)" in text
    rows = caught.value.report.rows
    assert [row.name for row in rows if not row.passed] == ["hidden"]
    assert ivyport.transpile(source, to, kwargs={"x": X}, verify=False) is not None


def test_the_first_module_that_drifts_is_named(broken):
    broken("self.down(", "1.01 * self.down(")
    with pytest.raises(ParityError, match=r"drifts: first \(Block\)"):
        ivyport.transpile(models.seeded(models.Net), "torch", kwargs={"x": X})


def test_a_port_that_raises_is_not_returned(broken):
    broken("self.first(x)", "self.first(x.reshape(3, 3))")
    with pytest.raises(ParityError, match=r"'forward'.*Error at line \d+ .*reshape"):
        ivyport.transpile(models.seeded(models.Net), "jax", kwargs={"x": X})


def test_full_compares_gradients_too(broken):
    source = models.seeded(models.Net)
    broken("self.first(x)", "jax.lax.stop_gradient(self.first(x))")
    ivyport.transpile(source, "jax", kwargs={"x": X})
    with pytest.raises(ParityError, match="gradient 'first"):
        ivyport.transpile(source, "jax", kwargs={"x": X}, verify="full")


def test_a_haiku_source_s_port_is_checked(broken):
    import haiku as hk

    f = hk.transform(lambda x: hk.nets.MLP([4, 3])(x))
    x = jnp.ones((2, 5))
    params = f.init(jax.random.key(0), x)
    given = {"kwargs": {"x": x}, "params": params}
    ivyport.transpile(f, "torch", **given)
    broken("relu(", "sigmoid(")
    with pytest.raises(ParityError, match="mlp"):
        ivyport.transpile(f, "torch", **given)


def test_how_much_is_compared_is_one_of_four():
    with pytest.raises(InputError, match="give 'outputs', 'full' or False"):
        ivyport.transpile(nn.Linear(2, 2), "jax", (torch.ones(1, 2),), verify="all")


def test_a_source_that_does_not_run_on_its_example():
    class Lookup(nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = nn.Embedding(5, 3)

        def forward(self, ids):
            return self.emb(ids)

    ids = torch.tensor([[1, 7]])
    with pytest.raises(
        InputError, match=r"source raises IndexError.*ids=int64\[1, 2\]"
    ):
        ivyport.transpile(Lookup().eval(), "jax", kwargs={"ids": ids})


class MonteCarlo(nn.Module):
    """Drops in eval mode too."""

    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(16, 16)

    def forward(self, x):
        return F.dropout(self.lin(x), 0.5, training=True)


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_dropout_in_eval_mode_is_silenced_for_the_comparison(to):
    ivyport.transpile(models.seeded(MonteCarlo), to, kwargs={"x": X})


@pytest.mark.parametrize("to", ["jax", "torch"])
def test_nan_on_both_sides_is_equal(to):
    class Rows(nn.Module):
        def forward(self, x):
            return torch.where(x > 0, x, x / 0.0 * 0.0), x.sum((1, 2)) > 0, x[:, :0]

    with torch.no_grad():
        ported = ivyport.transpile(Rows().eval(), to, kwargs={"x": X})
    assert ported is not None


def test_complex_integer_and_bfloat16_outputs():
    class Kinds(nn.Module):
        def forward(self, x):
            return {
                "signs": (x > 0).sum(-1),
                "best": x.argmax(-1),
                "half": x.to(torch.bfloat16),
                "count": x.size(-1),
                "none": None,
            }

    ivyport.transpile(Kinds().eval(), "jax", kwargs={"x": X})
    ivyport.transpile(Kinds().eval(), "torch", kwargs={"x": X})


@pytest.mark.parametrize("to", ["jax", "torch"])
@pytest.mark.parametrize("verify", ["outputs", "full"])
def test_nothing_of_the_source_is_changed(to, verify):
    source = models.seeded(models.Conv).train()
    source.norm1.eval()
    source.head.weight.requires_grad_(False)
    source.conv1.weight.grad = torch.ones_like(source.conv1.weight)
    x = torch.randn(2, 3, 9, 9)
    given = x.clone()
    before = {n: t.clone() for n, t in source.state_dict().items()}
    modes = {n: m.training for n, m in source.named_modules()}
    generators = (torch.get_rng_state(), np.random.get_state()[1], random.getstate())
    ported = ivyport.transpile(source, to, kwargs={"x": x}, verify=verify)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.array_equal(np.random.get_state()[1], generators[1])
    assert random.getstate() == generators[2]
    assert torch.equal(x, given)
    assert {n: m.training for n, m in source.named_modules()} == modes
    assert all(torch.equal(t, before[n]) for n, t in source.state_dict().items())
    assert torch.equal(source.conv1.weight.grad, torch.ones(8, 3, 3, 3))
    assert source.conv2.weight.grad is None
    assert not source.head.weight.requires_grad
    if to == "jax":
        assert ported.drop.deterministic
        keys = nnx.to_flat_state(nnx.state(ported, nnx.RngCount))
        assert all(int(count[...]) == 0 for _, count in keys)
    else:
        assert not any(module.training for module in ported.modules())
        assert all(p.grad is None for p in ported.parameters())


def linear(params, x):
    return x @ params["w"]


def test_inputs_without_values_are_a_note():
    abstract = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    given = {"params": {"w": jnp.ones((3, 4))}}
    ported = ivyport.transpile(linear, "torch", kwargs={"x": abstract}, **given)
    [note] = ivyport.api._known(ported).notes
    assert (
        note == "the port is not compared with its source: 1 arrays have no values (x)"
    )


def test_weights_without_values():
    given = {"params": {"w": jax.ShapeDtypeStruct((3, 4), jnp.float32)}}
    with pytest.raises(WeightsError, match=r"w has a shape and no values"):
        ivyport.transpile(linear, "torch", kwargs={"x": jnp.ones((2, 3))}, **given)


class Cancels(nn.Module):
    """Sums of which float32 keeps few digits: the order of the sum decides."""

    def forward(self, x):
        large = (x + 1e3).cumsum(-1)[..., -1] - 3e6
        zero = (x * 1e4).cumsum(-1).sum(-1) - 1e4 * x.cumsum(-1).sum(-1)
        return {"large": large, "zero": zero}


def test_float64_decides_where_the_source_itself_has_few_digits():
    x = torch.rand(4, 3000, generator=torch.manual_seed(0)) - 0.5
    source = Cancels().eval()
    own = source(x)["large"].double() - source(x.double())["large"]
    assert own.abs().max() > 1e-3
    ivyport.transpile(source, "jax", kwargs={"x": x})


def test_float64_excuses_no_wrong_port(broken):
    broken(" - ", " - 1e-3 + ")
    x = torch.rand(4, 3000, generator=torch.manual_seed(0)) - 0.5
    with pytest.raises(ParityError, match="is off by") as caught:
        ivyport.transpile(Cancels().eval(), "jax", kwargs={"x": x})
    assert not any(row.passed for row in caught.value.report.rows)


def test_save_load_and_trace_do_not_compare(monkeypatch, tmp_path):
    from ivyport import verification

    source = models.seeded(models.Net)
    ported = ivyport.transpile(source, "jax", kwargs={"x": X})
    monkeypatch.setattr(verification, "check", None)
    ivyport.trace(source, kwargs={"x": X})
    ivyport.save(ported, tmp_path / "port")
    ivyport.load(tmp_path / "port")
