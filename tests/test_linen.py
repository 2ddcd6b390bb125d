"""Ports to Flax linen: `(module, variables)`, trained, saved and sent home as linen's users do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("flax")

import jax
import jax.numpy as jnp
import torch
from flax import linen
from torch import nn

import ivyport
from ivyport.core.errors import InputError
from ivyport.home import send_home
from ivyport.verification.choose import port_side
from tests.small_models import Adapted


def test_what_is_frozen_is_in_a_collection_that_no_optimizer_sees() -> None:
    _, variables = ivyport.transpile(
        Adapted().eval(), "linen", (torch.ones(2, 8),), verify=False
    )
    assert set(variables) == {"params", "frozen"}
    assert set(variables["params"]) == {"head", "layers_1", "layers_2"}
    assert set(variables["params"]["layers_1"]) == {"a", "b"}
    assert set(variables["frozen"]["layers_1"]) == {"base", "shift"}
    assert set(variables["frozen"]["layers_0"]) == {"a", "b", "base", "shift"}


def test_tensors_without_values_are_refused_by_init() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(4))
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(x) * self.table

    module, variables = ivyport.transpile(Table().eval(), "linen", (torch.ones(2, 4),))
    assert module.apply(variables, jnp.ones((2, 4))).shape == (2, 4)
    with pytest.raises(ValueError, match="table has no values of its own"):
        module.init(jax.random.key(0), jnp.ones((2, 4)))


class Net(linen.Module):
    """A linen source, with the names that linen gives."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.Dense(8)(x)
        x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.Dropout(0.2, deterministic=not train)(x)
        for _ in range(2):
            x = x + linen.Dense(8)(linen.LayerNorm()(x))
        return linen.Dense(3)(x)


def test_a_linen_source_keeps_its_names() -> None:
    x = jax.random.normal(jax.random.key(0), (4, 5))
    held = Net().init(jax.random.key(1), x)
    ported = ivyport.transpile(Net(), "linen", (x,), params=held)
    assert jax.tree.map(jnp.shape, ported[1]) == jax.tree.map(jnp.shape, held)
    assert ivyport.verify(Net(), ported, params=held).passed


def test_statistics_of_haiku_go_on_as_they_were() -> None:
    hk = pytest.importorskip("haiku")

    def forward(x, is_training=False):
        h = hk.BatchNorm(True, True, 0.9)(hk.Linear(8)(x), is_training)
        return hk.nets.MLP([8, 3])(hk.LayerNorm(-1, True, True)(h))

    source = hk.transform_with_state(forward)
    x = jax.random.normal(jax.random.key(0), (4, 5))
    params, state = source.init(jax.random.key(1), x, True)
    _, state = source.apply(params, state, None, x, True)
    given: dict[str, Any] = {"params": params, "state": state}
    ported = ivyport.transpile(source, "linen", (x,), **given)
    average = ported[1]["batch_stats"]["batch_norm"]["mean_ema"]
    assert int(average["counter"]) == 1
    assert ivyport.verify(source, ported, **given).passed


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A saved port, fine-tuned for five steps: source, folder, module, variables, losses."""
    optax = pytest.importorskip("optax")
    torch.manual_seed(0)
    source = nn.Sequential(
        nn.Linear(4, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2)
    ).eval()
    x = torch.randn(6, 4)
    folder = tmp_path_factory.mktemp("linen") / "port"
    ivyport.save(ivyport.transpile(source, "linen", (x,)), folder)
    module, variables = ivyport.load(folder)
    training = module.clone(deterministic=False)

    def loss(params: Any, rest: Any, key: Any) -> Any:
        y, new = training.apply(
            {"params": params, **rest},
            x.numpy(),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return (y**2).mean(), new

    params, rest = (
        variables["params"],
        {k: variables[k] for k in variables if k != "params"},
    )
    optimizer = optax.sgd(0.1)
    state, losses = optimizer.init(params), []
    for step in range(5):
        key = jax.random.key(step)
        (value, new), grads = jax.value_and_grad(loss, has_aux=True)(params, rest, key)
        updates, state = optimizer.update(grads, state)
        params, rest = optax.apply_updates(params, updates), {**rest, **new}
        losses.append(float(value))
    return source, folder, module, {"params": params, **rest}, losses


def test_a_port_trains_with_optax(tuned: Any) -> None:
    *_, losses = tuned
    assert losses[-1] < losses[0]


def test_fine_tuned_variables_go_home(tuned: Any, tmp_path: Path) -> None:
    source, _, module, variables, _ = tuned
    changed = send_home((module, variables), tmp_path / "home")
    assert len(changed) == 8
    from safetensors.torch import load_file

    source.load_state_dict(load_file(tmp_path / "home" / "model.safetensors"))
    x = torch.randn(3, 4)
    expected = source(x).detach().numpy()
    np.testing.assert_allclose(
        module.apply(variables, x.numpy()), expected, rtol=1e-5, atol=1e-6
    )


def test_the_class_saves_and_loads_without_ivyport(tuned: Any, tmp_path: Path) -> None:
    _, folder, _, variables, _ = tuned
    file = next(folder.glob("modeling_*.py"))
    code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
from {file.stem} import Sequential
import jax.numpy as jnp
model, variables = Sequential.from_pretrained({str(folder)!r})
variables["params"]["m_4"]["bias"] = jnp.ones(2)
model.save_pretrained(variables, {str(tmp_path / "own")!r})
assert not {{"torch", "ivyport"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, found = ivyport.load(tmp_path / "own", trust=True)
    assert (np.asarray(found["params"]["m_4"]["bias"]) == 1).all()
    assert set(found) == set(variables)


def test_what_is_no_port_is_named() -> None:
    with pytest.raises(InputError, match=r"a port is a .*flax\.linen\.Module"):
        port_side((object(), {}))
