"""The circle: a port to NNX, traced again, is the graph it was emitted from, and goes home.

Torch to NNX to torch, with the outputs of the original; and the graph of the emitted module
is isomorphic to that of its source.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flax")
transformers = pytest.importorskip("transformers")

import jax.numpy as jnp  # noqa: E402

import ivyport  # noqa: E402
from ivyport.core.ir import Graph  # noqa: E402
from ivyport.core.isomorphism import difference  # noqa: E402
from ivyport.core.passes.pipeline import prepare  # noqa: E402
from ivyport.targets import TARGETS  # noqa: E402
from tests.support import assert_close  # noqa: E402

IDS = torch.arange(14).reshape(2, 7) % 50
SMALL = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1}


def bert() -> tuple[Any, dict[str, Any]]:
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        vocab_size=50,
    )
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    return transformers.BertModel(config), inputs


def gpt2() -> tuple[Any, dict[str, Any]]:
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, **SMALL)
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    return transformers.GPT2Model(config), inputs


def t5() -> tuple[Any, dict[str, Any]]:
    config = transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=50
    )
    return transformers.T5Model(config), {"input_ids": IDS, "decoder_input_ids": IDS}


def resnet() -> tuple[Any, dict[str, Any]]:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[2, 2], layer_type="basic"
    )
    return transformers.ResNetModel(config), {"pixel_values": torch.randn(2, 3, 32, 32)}


def first(outputs: Any) -> Any:
    return outputs[0] if isinstance(outputs, tuple) else outputs.last_hidden_state


@pytest.mark.parametrize("make", [bert, gpt2, t5, resnet])
def test_a_port_of_the_port_computes_what_the_source_does(make):
    torch.manual_seed(0)
    source, inputs = make()
    source.eval()
    middle = ivyport.transpile(source, "jax", kwargs=inputs, verify=False)
    arrays = {k: jnp.asarray(v.numpy()) for k, v in inputs.items()}
    again = ivyport.transpile(middle, "torch", kwargs=arrays, train=False, verify=False)
    with torch.no_grad():
        expected = source(**inputs).last_hidden_state
        given = {
            k: v.int() if not v.is_floating_point() else v for k, v in inputs.items()
        }
        found = first(again(**given))
    assert_close(found.numpy(), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("make", [bert, gpt2, t5, resnet])
def test_the_graph_of_the_port_is_that_of_its_source(make):
    """Train mode included: nothing is ignored, neither dropouts nor running statistics."""
    torch.manual_seed(0)
    source, inputs = make()
    source.eval()
    graph = ivyport.trace(source, kwargs=inputs, train=True)
    middle = ivyport.transpile(source, "jax", kwargs=inputs)
    arrays = {k: jnp.asarray(v.numpy()) for k, v in inputs.items()}
    again = ivyport.trace(middle, kwargs=arrays, dims=free(arrays), train=True)
    for each in (graph, again):
        prepare(each, TARGETS["jax"].policy)
        turn_weights(each)
    assert difference(graph, again) is None


def free(arrays: dict[str, Any]) -> dict[str, dict[int, str]]:
    """The batch, and the length of token ids: the torch frontend's choice."""
    dims = {name: {0: "batch"} for name in arrays}
    for name, array in arrays.items():
        if array.ndim == 2:
            dims[name][1] = "decoder_seq" if "decoder" in name else "seq"
    return dims


def turn_weights(graph: Graph) -> None:
    """Hold the weights of linear layers as (out, in), as torch does; NNX has (in, out)."""
    params = {p.value: p for p in graph.params.values()}
    turned = set()
    for node in graph.nodes:
        if node.op == "linear" and node.attrs["weight_layout"] == "io":
            weight = params[node.inputs[1]]
            node.attrs["weight_layout"] = "oi"
            if weight.value not in turned:
                turned.add(weight.value)
                weight.type = weight.type.with_shape(weight.type.shape[::-1])
                weight.value.type = weight.type
