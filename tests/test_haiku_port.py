"""Ports to haiku: `(transformed, params, state)`, trained, saved and sent home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("haiku")

import haiku as hk
import jax
import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport.core.errors import UnsupportedOpsError
from ivyport.home import send_home
from tests.small_models import Adapted


def test_what_is_frozen_is_in_the_state() -> None:
    function, params, state = ivyport.transpile(
        Adapted().eval(), "haiku", (torch.ones(2, 8),), verify=False
    )
    assert set(params) == {
        "model/~/head", "model/~/layers_1", "model/~/layers_2",
    }  # fmt: skip
    assert set(params["model/~/layers_1"]) == {"a", "b"}
    assert set(state["model/~/layers"]) == {"a", "b", "shift"}
    assert set(state["model/~/layers_1/~/base"]) == {"w", "b"}
    y, after = function.apply(params, state, None, jnp.ones((2, 8)))
    assert y.shape == (2, 3)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_tensors_without_values_are_refused_by_init() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(4))
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(x) * self.table

    function, params, state = ivyport.transpile(
        Table().eval(), "haiku", (torch.ones(2, 4),)
    )
    y, _ = function.apply(params, state, None, jnp.ones((2, 4)))
    assert y.shape == (2, 4)
    with pytest.raises(ValueError, match="table has no values of its own"):
        function.init(jax.random.key(0), jnp.ones((2, 4)))


def test_a_haiku_source_goes_on_as_it_was() -> None:
    def forward(x, is_training=False):
        h = hk.BatchNorm(True, True, 0.9)(hk.Linear(8)(x), is_training)
        h = hk.nets.MLP([8, 3])(hk.LayerNorm(-1, True, True)(h))
        return hk.dropout(hk.next_rng_key(), 0.1, h) if is_training else h

    source = hk.transform_with_state(forward)
    x = jax.random.normal(jax.random.key(0), (4, 5))
    params, state = source.init(jax.random.key(1), x, True)
    _, state = source.apply(params, state, jax.random.key(2), x, True)
    given: dict[str, Any] = {"params": params, "state": state, "rng": 0}
    ported = ivyport.transpile(source, "haiku", (x,), **given)
    average = ported[2]["model/~/batch_norm/~/mean_ema"]
    assert int(average["counter"]) == 1
    assert set(ported[1]) == {
        "model/~/batch_norm", "model/~/layer_norm", "model/~/linear",
        "model/~/mlp/~/linear_0", "model/~/mlp/~/linear_1",
    }  # fmt: skip
    assert ivyport.verify(source, ported, **given).passed


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A saved port, fine-tuned for five steps: source, folder, function, trees, losses."""
    optax = pytest.importorskip("optax")
    torch.manual_seed(0)
    source = nn.Sequential(
        nn.Linear(4, 8), nn.GELU(), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2)
    ).eval()
    x = torch.randn(6, 4)
    folder = tmp_path_factory.mktemp("haiku") / "port"
    ivyport.save(ivyport.transpile(source, "haiku", (x,)), folder)
    function, params, state = ivyport.load(folder)

    def loss(params: Any, state: Any, key: Any) -> Any:
        y, new = function.apply(params, state, key, x.numpy(), is_training=True)
        return (y**2).mean(), new

    optimizer = optax.sgd(0.1)
    kept, losses = optimizer.init(params), []
    for step in range(5):
        key = jax.random.key(step)
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(
            params, state, key
        )
        updates, kept = optimizer.update(grads, kept)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    return source, folder, (function, params, state), losses


def test_a_port_trains_with_optax(tuned: Any) -> None:
    *_, losses = tuned
    assert losses[-1] < losses[0]


def test_fine_tuned_trees_go_home(tuned: Any, tmp_path: Path) -> None:
    source, _, (function, params, state), _ = tuned
    assert len(send_home((function, params, state), tmp_path / "home")) == 8
    from safetensors.torch import load_file

    source.load_state_dict(load_file(tmp_path / "home" / "model.safetensors"))
    x = torch.randn(3, 4)
    expected = source(x).detach().numpy()
    actual, _ = function.apply(params, state, None, x.numpy())
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_file_saves_and_loads_without_ivyport(tuned: Any, tmp_path: Path) -> None:
    _, folder, _, _ = tuned
    file = next(folder.glob("modeling_*.py"))
    code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
from {file.stem} import load, save
import jax.numpy as jnp
model, params, state = load({str(folder)!r})
params["model/~/m_4"]["b"] = jnp.ones(2)
save(params, state, {str(tmp_path / "own")!r})
y, _ = model.apply(params, state, None, jnp.ones((1, 4)))
assert y.shape == (1, 2)
assert not {{"torch", "flax.nnx", "ivyport"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, params, _ = ivyport.load(tmp_path / "own", trust=True)
    assert (np.asarray(params["model/~/m_4"]["b"]) == 1).all()


class Kept(nnx.Variable):
    """What an optimizer leaves alone."""


class Momentum(nnx.Module):
    """Writes to a frozen weight of a layer."""

    def __init__(self) -> None:
        self.query, self.key = (nnx.Linear(2, 2, rngs=nnx.Rngs(i)) for i in range(2))
        self.key.kernel = Kept(self.key.kernel[...])

    def __call__(self, x):
        query = jax.lax.stop_gradient(self.query.kernel[...])
        self.key.kernel[...] = 0.9 * self.key.kernel[...] + 0.1 * query
        return self.query(x) + self.key(x)


def test_a_write_to_a_weight_of_a_layer_is_a_limit_of_haiku() -> None:
    with pytest.raises(
        UnsupportedOpsError, match=r"self\.key\.kernel is written.*port to linen"
    ):
        ivyport.transpile(Momentum(), "haiku", (jnp.ones((3, 2)),))
