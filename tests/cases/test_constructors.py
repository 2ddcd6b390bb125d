"""Ports that are built from their configuration alone, without the weights of their source."""

from __future__ import annotations

import copy
import dataclasses
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

TARGETS = ["jax", "torch"]


def fresh(port: Any, target: str, **changes: Any) -> Any:
    """The port's class, built from its configuration with some fields changed."""
    known = type(port).__init__.__globals__
    config = next((v for n, v in known.items() if n.endswith("Config")), None)
    values = () if config is None else (config(**changes),)
    return type(port)(*values, **({"rngs": nnx.Rngs(0)} if target == "jax" else {}))


def buffer(model: Any, path: str) -> np.ndarray:
    """A buffer of a port of either target."""
    for part in path.split("."):
        model = getattr(model, part)
    return np.asarray(model if torch.is_tensor(model) else model[...])


def llama(**changes: Any) -> Any:
    """A tiny LlamaModel with plain rotary embeddings, and its example inputs."""
    from transformers import LlamaConfig, LlamaModel

    fields: dict[str, Any] = {
        "vocab_size": 50, "hidden_size": 32, "intermediate_size": 24,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "use_cache": False,
    }  # fmt: skip
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(**(fields | changes))).eval()


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


# ---- fields of the configuration


def changed(source: Any, field: str) -> tuple[Any, int] | None:
    """The source built with one integer doubled, or one larger; None where it refuses both."""
    value = getattr(source.config, field)
    for new in (2 * value, value + 1):
        config = copy.deepcopy(source.config)
        setattr(config, field, new)
        try:
            return type(source)(config).eval(), new
        except (ValueError, RuntimeError):
            continue
    return None


def home(source: Any) -> dict[str, torch.Tensor]:
    """The source's state as the port lays it out: weights of Conv1D are those of linears."""
    turned = [
        f"{path}.weight"
        for path, module in source.named_modules()
        if type(module).__name__ == "Conv1D"
    ]
    return {k: v.T if k in turned else v for k, v in source.state_dict().items()}


def shapes(tensors: dict[str, torch.Tensor], like: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of a model."""
    return {name: tuple(tensors[name].shape) for name, _ in like.named_parameters()}


def bodies_follow(port: Any, twin: Any, given: dict[str, Any]) -> None:
    """The port computes what the twin does, with the twin's weights."""
    port.load_state_dict(home(twin), strict=False)
    with torch.no_grad():
        want, found = twin(**given)[0], port.eval()(**given)[0]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def integers(port: Any) -> list[str]:
    config = next(
        v for n, v in type(port).__init__.__globals__.items() if n.endswith("Config")
    )
    return [f.name for f in dataclasses.fields(config) if type(f.default) is int]


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=50, n_positions=20, n_embd=32, n_layer=2, n_head=4, use_cache=False
    )
    return GPT2Model(config).eval()


def bert() -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=20,
    )  # fmt: skip
    return BertModel(config).eval()


def swin() -> Any:
    from ivyport.zoo import hf, hf_configs

    return hf.build(hf_configs.tiny_config("swin"))


@pytest.mark.parametrize("make", [llama, gpt2, bert], ids=["llama", "gpt2", "bert"])
def test_a_field_changes_in_the_port_what_it_changes_in_the_source(make: Any) -> None:
    source = make()
    given = {"input_ids": torch.arange(10).reshape(2, 5)}
    port = ivyport.transpile(source, "torch", kwargs=given)
    names = integers(port)
    assert len(names) >= 4
    for name in names:
        found = changed(source, name)
        assert found is not None, name
        twin, value = found
        new = fresh(port, "torch", **{name: value})
        assert shapes(new.state_dict(), new) == shapes(home(twin), new), name
        bodies_follow(new, twin, given)


def test_swin_has_no_false_names() -> None:
    from ivyport.zoo import hf_inputs

    source = swin()
    port = ivyport.transpile(source, "torch", kwargs=hf_inputs.example_inputs(source))
    names = integers(port)
    # The width of the last stage follows from that of the first.
    assert "hidden_size" not in names
    assert "embed_dim" in names
    old = shapes(port.state_dict(), port)
    for name in names:
        twin, value = changed(source, name) or (None, 0)
        assert twin is not None, name
        new = fresh(port, "torch", **{name: value})
        theirs = shapes(twin.state_dict(), new)
        for path, shape in shapes(new.state_dict(), new).items():
            followed = zip(shape, old[path], theirs[path], strict=True)
            assert all(now in (before, due) for now, before, due in followed), path
    text = ivyport.api._PORTS[port].source
    assert "reshape(self.window_size, 16)" not in text


def test_head_dim_of_its_own_runs_in_jax() -> None:
    source = llama()
    given = {"input_ids": torch.arange(10).reshape(2, 5)}
    port = ivyport.transpile(source, "jax", kwargs=given)
    new = fresh(port, "jax", hidden_size=64, head_dim=16)
    assert new.layers[0].self_attn.k_proj.kernel.shape == (64, 32)
    twin = llama(hidden_size=64, head_dim=16)
    ported = ivyport.transpile(twin, "jax", kwargs=given)
    nnx.update(new, nnx.state(ported))
    new.eval()
    ids = jnp.arange(10).reshape(2, 5)
    np.testing.assert_allclose(new(ids)[0], ported(ids)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_results_of_a_call_are_not_called_like_their_tuple(target: str) -> None:
    given = {"input_ids": torch.arange(10).reshape(2, 5)}
    port = ivyport.transpile(llama(), target, kwargs=given, verify=False)
    text = ivyport.api._PORTS[port].source
    assert "cos, sin = self.rotary_emb(" in text
    assert "position_embeddings" not in text
