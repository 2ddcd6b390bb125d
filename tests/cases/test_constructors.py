"""Ports that are built from their configuration alone, without the weights of their source."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport.modules.formulas import Formula, recognised
from tests.cases.constructors import TARGETS, buffer, fresh, llama


@pytest.mark.parametrize("target", TARGETS)
def test_rotary_frequencies_are_computed_by_the_constructor(target: str) -> None:
    source = llama()
    ids = {"input_ids": torch.arange(10).reshape(2, 5)}
    port = ivyport.transpile(source, target, kwargs=ids)
    held = buffer(fresh(port, target), "rotary_emb.inv_freq")
    np.testing.assert_allclose(held, source.rotary_emb.inv_freq.numpy(), rtol=1e-6)


class Tables(nn.Module):
    """Buffers with and without a closed form, in the checkpoint and not."""

    def __init__(self, kept: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        closed = torch.full((6, 6), -torch.inf).triu(1)
        self.register_buffer("causal", torch.ones(6, 6).tril().bool(), kept)
        self.register_buffer("closed", closed, kept)
        self.register_buffer("steps", torch.arange(6.0)[None, :, None], kept)
        self.register_buffer("ones", torch.ones(6, 4), kept)
        self.register_buffer("table", torch.randn(6, 4), kept)
        self.table_used = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = (x @ x.mT).masked_fill(~self.causal, -1e9) + self.closed
        return scores.softmax(-1) @ (x * self.steps + self.ones) + self.table


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kept", [True, False])
def test_masks_and_ranges_are_computed_and_tables_refuse(
    target: str, kept: bool
) -> None:
    x = torch.randn(2, 6, 4)
    source = Tables(kept)
    port = ivyport.transpile(source, target, (x,))
    new = fresh(port, target)
    for name in ("causal", "closed", "steps"):
        if hasattr(new, name):
            np.testing.assert_array_equal(
                buffer(new, name).ravel(), getattr(source, name).numpy().ravel()
            )
    given = x if target == "torch" else jnp.asarray(x.numpy())
    with pytest.raises((ValueError, RuntimeError), match="no values yet"):
        new(given)


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    x = torch.randn(2, 6, 4)
    return {t: ivyport.transpile(Tables(False), t, (x,)) for t in TARGETS}


def test_unset_torch_buffers_take_weights_in_every_way(tables: dict[str, Any]) -> None:
    port, x = tables["torch"], torch.randn(2, 6, 4)
    new = fresh(port, "torch")
    twin = copy.deepcopy(new).to(torch.float32)
    new.load_state_dict(port.state_dict())
    torch.testing.assert_close(new(x), port(x))
    with pytest.raises(RuntimeError, match="no values yet"):
        twin(x)
    twin.load_state_dict(port.state_dict(), assign=True)
    torch.testing.assert_close(twin(x), port(x))
    assert all(type(b) is torch.Tensor for m in (new, twin) for b in m.buffers())


def test_unset_nnx_buffers_take_weights_in_every_way(tables: dict[str, Any]) -> None:
    port, x = tables["jax"], jnp.ones((2, 6, 4))
    new, assigned = fresh(port, "jax"), nnx.clone(fresh(port, "jax"))
    with pytest.raises(ValueError, match="no values yet"):
        nnx.jit(lambda model: model(x))(new)
    nnx.update(new, nnx.state(port))
    np.testing.assert_allclose(new(x), port(x), rtol=1e-6)
    with pytest.raises(ValueError, match="no values yet"):
        assigned(x)
    assigned.table[...] = port.table[...]
    np.testing.assert_allclose(assigned(x), port(x), rtol=1e-6)
    # A constructor that runs under jit cannot keep the values out: they are no numbers.
    made = nnx.jit(lambda: fresh(port, "jax"))()
    assert jnp.isnan(made(x)).any()
    assert jax.tree.all(jax.tree.map(lambda a: a.size > 0, nnx.state(made)))


@pytest.mark.parametrize(
    ("array", "formula"),
    [
        (np.zeros((2, 3), np.float32), Formula("full", 0.0)),
        (np.full(3, 0.1, np.float32), Formula("full", 0.1)),
        (np.arange(5), Formula("arange")),
        (np.tri(4, dtype=bool)[None, None], Formula("tril", True)),
        (np.triu(np.full((4, 4), -1e4, np.float32), 1), Formula("triu", -1e4, 1)),
        (
            (1 / 500 ** (np.arange(0, 8, 2) / 8)).astype(np.float32),
            Formula("frequencies", 500.0),
        ),
        # Neighbours of these that are none.
        (np.array([0, 1, 3]), None),
        (np.array([1, 0.5, 0.3], np.float32), None),
        (np.array([[1, 0], [1, 2]]), None),
        (np.zeros((0, 3)), None),
    ],
)
def test_formulas(array: np.ndarray, formula: Formula | None) -> None:
    assert recognised(array) == formula


# ---- parameters


class Started(nn.Module):
    """Parameters whose start is one number, a table, or a draw; and a table of integers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(8, 8)
        self.scale = nn.Parameter(1e-6 * torch.ones(8))
        self.shift = nn.Parameter(torch.zeros(8))
        self.drawn = nn.Parameter(torch.randn(8))
        self.fixed = nn.Parameter(torch.rand(8), requires_grad=False)
        self.register_buffer("order", torch.tensor([3, 1, 2, 2, 1, 5, 5, 0]))
        angles = torch.arange(30)[:, None] * 10000.0 ** -(torch.arange(4) / 4)
        waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        self.register_buffer("positions", waves[None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x) * self.scale + self.shift + self.fixed
        return y + self.positions[:, : x.shape[1]] + self.drawn[self.order]


@pytest.fixture(scope="module")
def started() -> dict[str, Any]:
    x = torch.randn(2, 5, 8)
    return {t: ivyport.transpile(Started().eval(), t, (x,)) for t in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_parameters_start_as_the_source_starts_them(
    started: dict[str, Any], target: str
) -> None:
    new, source = fresh(started[target], target), Started()
    held = {n: buffer_or_raw(new, n) for n in ("scale", "shift", "positions", "drawn")}
    assert (held["scale"] == np.float32(1e-6)).all()
    assert not held["shift"].any()
    assert 0 < np.abs(held["drawn"]).max() < 0.2
    np.testing.assert_allclose(held["positions"], source.positions, atol=1e-6)


def buffer_or_raw(model: Any, path: str) -> np.ndarray:
    held = getattr(model, path)
    return np.asarray(held.detach() if torch.is_tensor(held) else held[...])


@pytest.mark.parametrize("target", TARGETS)
def test_a_frozen_parameter_without_values_refuses_by_its_path(
    started: dict[str, Any], target: str
) -> None:
    new = fresh(started[target], target)
    x = torch.randn(2, 5, 8)
    given = x if target == "torch" else x.numpy()
    with pytest.raises((ValueError, RuntimeError), match=r"^fixed has no values yet"):
        new(given)
    if target == "torch":
        new.load_state_dict(started[target].state_dict())
        assert not new.fixed.requires_grad
        assert type(new.fixed) is nn.Parameter
    else:
        nnx.update(new, nnx.state(started[target]))
        assert not isinstance(new.fixed, nnx.Param)
    np.testing.assert_allclose(
        np.asarray(new(given).detach() if target == "torch" else new(given)),
        np.asarray(
            started[target](given).detach()
            if target == "torch"
            else started[target](given)
        ),
        rtol=1e-5,
    )


def test_unset_parameters_move_and_copy_as_others_do(started: dict[str, Any]) -> None:
    new = copy.deepcopy(fresh(started["torch"], "torch")).to(torch.float64).float()
    assert not new.fixed.requires_grad
    assert "fixed" in dict(new.named_parameters())
    with pytest.raises(RuntimeError, match="fixed has no values yet"):
        new(torch.randn(2, 5, 8))
    new.load_state_dict(started["torch"].state_dict(), assign=True)
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(new(x), started["torch"](x))


def test_a_constructor_under_jit_has_no_integers_of_its_own(
    started: dict[str, Any],
) -> None:
    port = started["jax"]
    abstract = nnx.eval_shape(lambda: fresh(port, "jax"))
    assert abstract.order.shape == (8,)
    nnx.update(abstract, nnx.state(port))
    x = np.ones((2, 5, 8), np.float32)
    np.testing.assert_allclose(abstract(x), port(x), rtol=1e-5)
    with pytest.raises(Exception, match=r"has no values yet.*load the weights"):
        jax.block_until_ready(nnx.state(nnx.jit(lambda: fresh(port, "jax"))()))


def test_parts_are_named_by_their_path(started: dict[str, Any]) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Tables(False), Tables(False)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x

    x = torch.randn(2, 6, 4)
    for target in TARGETS:
        port = ivyport.transpile(Outer().eval(), target, (x,), verify=False)
        with pytest.raises(
            (ValueError, RuntimeError), match=r"blocks\.0\.table has no values"
        ):
            fresh(port, target)(x if target == "torch" else x.numpy())


def sinusoidal(halves: bool, last: bool, base: float = 10000.0) -> np.ndarray:
    steps = np.arange(8) / (7 if last else 8)
    angles = (np.arange(40)[:, None] * base**-steps).astype(np.float32)
    waves = [np.sin(angles), np.cos(angles)]
    made = np.concatenate(waves, 1) if halves else np.stack(waves, -1).reshape(40, 16)
    return made.astype(np.float32)


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("last", [True, False])
def test_tables_of_sines_and_cosines(halves: bool, last: bool) -> None:
    table = sinusoidal(halves, last)
    found = recognised(table)
    assert found is not None
    named = {"halves": halves, "last": last}
    assert found == Formula(
        "sinusoids", 10000.0, flags=tuple(n for n in named if named[n])
    )
    table[3, 5] += 1e-2
    assert recognised(table) is None


def whisper() -> Any:
    from ivyport.zoo import hf, hf_configs

    return hf.build(hf_configs.tiny_config("whisper"), cls="WhisperModel")


@pytest.mark.parametrize("target", TARGETS)
def test_whispers_positions_are_computed(target: str) -> None:
    from ivyport.zoo import hf_inputs

    source = whisper().encoder
    given = {"input_features": hf_inputs.example_inputs(whisper())["input_features"]}
    port = ivyport.transpile(source, target, kwargs=given, verify=False, train=False)
    new = fresh(port, target)
    held = new.embed_positions
    table = held.weight if target == "torch" else held.embedding[...]
    want = source.embed_positions.weight.numpy()
    np.testing.assert_allclose(np.asarray(table), want, atol=1e-6)
    trained = (
        table.requires_grad
        if target == "torch"
        else isinstance(held.embedding, nnx.Param)
    )
    assert not trained


def test_constants_of_the_constructor_follow_the_configuration() -> None:
    from ivyport.zoo import hf, hf_configs, hf_inputs

    source = hf.build(hf_configs.tiny_config("convnext"), cls="ConvNextModel")
    with torch.no_grad():  # as trained: the proof asks the constructor, not the weights
        for path, p in source.named_parameters():
            if path.endswith("layer_scale_parameter"):
                p.copy_(torch.randn(p.shape))
    given = hf_inputs.example_inputs(source)
    port = ivyport.transpile(source, "torch", kwargs=given, verify=False, train=False)
    new = fresh(port, "torch", layer_scale_init_value=0.25)
    scales = [p for n, p in new.named_parameters() if n.endswith("scale_parameter")]
    assert scales
    assert all((p == 0.25).all() for p in scales)


LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
    "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


@pytest.mark.parametrize("rope", [LLAMA3, LINEAR], ids=["llama3", "linear"])
def test_stretched_frequencies_are_computed(rope: dict[str, Any]) -> None:
    source = llama(rope_parameters=rope, hidden_size=64)
    given = {"input_ids": torch.arange(10).reshape(2, 5)}
    for target in TARGETS:
        port = ivyport.transpile(
            source, target, kwargs=given, train=False, verify=False
        )
        held = buffer(fresh(port, target), "rotary_emb.inv_freq")
        np.testing.assert_allclose(held, source.rotary_emb.inv_freq.numpy(), rtol=1e-6)
