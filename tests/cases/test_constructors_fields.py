"""Fields of a port's configuration: what follows them, and what refuses another value."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import ivyport
from tests.cases.constructors import TARGETS, fresh, llama


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
    refused: dict[str, str] = {}
    for name in names:
        twin, value = changed(source, name) or (None, 0)
        assert twin is not None, name
        try:
            new = fresh(port, "torch", **{name: value})
        except ValueError as error:
            refused[name] = str(error)
            continue
        theirs = shapes(twin.state_dict(), new)
        assert shapes(new.state_dict(), new) == theirs, name
    # The widths of the stages are numbers in reshapes.
    assert refused["embed_dim"].startswith("embed_dim is 32, but 16 is built into ")
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


# ---- fields that are built into the code


class Settings:
    """A configuration as users write them."""

    def __init__(self, **fields: Any) -> None:
        known = {"width": 8, "heads": 2, "window": 3, "depth": 2, "ratio": 1.5}
        self.__dict__ |= known | {"offset": 0.25, "used": 5} | fields

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))


class Mixer(nn.Module):
    """Attention with a scale of its own, and numbers that the configuration does not set."""

    def __init__(self, config: Settings) -> None:
        super().__init__()
        self.config = config
        self.num_heads, self.head_dim = config.heads, config.width // config.heads
        self.scaling = 3.0 * config.width**-0.5
        self.qkv = nn.Linear(config.width, 3 * config.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(x).view(*x.shape[:-1], 3, -1, self.head_dim)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        y = nn.functional.scaled_dot_product_attention(q, k, v, scale=self.scaling)
        return (x + y.transpose(1, 2).flatten(2) * 2.0).roll(self.config.window, 1)


class Windowed(nn.Module):
    """Blocks in a list, and a size that is a product with a float."""

    def __init__(self, config: Settings) -> None:
        super().__init__()
        self.config = config
        self.mix = nn.ModuleList([Mixer(config) for _ in range(config.depth)])
        self.out = nn.Linear(config.width, int(config.ratio * config.width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.mix:
            x = layer(x)
        return self.out(x)


class Numbered(Windowed):
    """The same with a body that knows how many blocks there are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.mix):
            x = layer(x) * (i + 1)
        return self.out(x)


@pytest.fixture(scope="module")
def windowed() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(0)
    source = Windowed(Settings()).eval()
    x = torch.randn(2, 7, 8)
    return source, {t: ivyport.transpile(source, t, (x,), train=False) for t in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_a_field_behind_a_number_in_the_code_is_refused(
    windowed: tuple[Any, dict[str, Any]], target: str
) -> None:
    port = windowed[1][target]
    with pytest.raises(ValueError, match=r"^width is 16, but 8 is built into \w+\."):
        fresh(port, target, width=16)
    with pytest.raises(ValueError, match=r"^window is 4, but 3 is built into .*:\d+"):
        fresh(port, target, window=4)
    text = ivyport.api._PORTS[port].source
    assert "offset" not in text  # nothing comes from it
    assert "3.0 *" not in text


def test_fields_that_the_code_follows_are_free(
    windowed: tuple[Any, dict[str, Any]],
) -> None:
    port = windowed[1]["torch"]
    x = torch.randn(2, 7, 8)
    twin = Windowed(Settings(depth=3)).eval()
    new = fresh(port, "torch", depth=3)
    new.load_state_dict(twin.state_dict())
    torch.testing.assert_close(new(x), twin(x), rtol=1e-5, atol=1e-6)
    # The source leaves the number of heads open (-1); the trace has written it down.
    with pytest.raises(ValueError, match=r"^heads is 4, but 2 is built into .*:\d+"):
        fresh(port, "torch", heads=4)


def test_a_body_of_so_many_blocks_refuses_another_number() -> None:
    source = Numbered(Settings()).eval()
    port = ivyport.transpile(source, "torch", (torch.randn(2, 7, 8),), train=False)
    with pytest.raises(ValueError, match=r"^depth is 3, but 2 is built into"):
        fresh(port, "torch", depth=3)


def test_positions_are_limited_by_the_field() -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=24, max_position_embeddings=20,
    )  # fmt: skip
    source = BertModel(config).eval()
    given = {"input_ids": torch.arange(10).reshape(2, 5)}
    port = ivyport.transpile(
        source, "torch", kwargs=given, dims={"input_ids": {1: "seq"}}, train=False
    )
    short = fresh(port, "torch", max_position_embeddings=4).eval()
    with pytest.raises(ValueError, match="max_position_embeddings = 4"):
        short(**given)
    long = fresh(port, "torch", max_position_embeddings=40).eval()
    assert long(torch.arange(30)[None])[0].shape == (1, 30, 32)
