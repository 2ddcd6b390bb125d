"""Queries that may attend to nothing: a port gives what its source gives, gradients too."""

from __future__ import annotations

import inspect
import math
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from torch import nn

import ivyport
from tests.cases.numerics import check_to_jax, check_to_torch

RNG = np.random.default_rng(0)


def _normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


Q, K, V = _normal(2, 5, 4), _normal(2, 6, 4), _normal(2, 6, 3)
KEYS = np.ones((2, 6), bool)
KEYS[0] = False  # a sample without a key
KEYS[1, 4:] = False
PAIRS = RNG.random((2, 5, 6)) < 0.7
PAIRS[0, 2] = PAIRS[1, 4] = False


# ---- from JAX to torch


@pytest.mark.parametrize("number", [-1e9, -1e30, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("mask", [KEYS[:, None], PAIRS], ids=["keys", "pairs"])
def test_masked_logits_of_a_finite_number_are_a_mean(number: float, mask: Any) -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        logits = jnp.where(mask, q @ k.mT, number)
        return jax.nn.softmax(logits) @ v

    check_to_torch(model, Q, K, V, mask, rtol=3e-6)


def test_masked_logits_of_minus_infinity_are_not_a_number() -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return jax.nn.softmax(jnp.where(mask[:, None], q @ k.mT, -jnp.inf)) @ v

    check_to_torch(model, Q, K, V, KEYS, gradient=False, rtol=3e-6)


def test_masked_weights_are_zeros() -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        weights = jax.nn.softmax(jnp.where(mask, q @ k.mT, -1e9))
        return jnp.where(mask, weights, 0) @ v

    port = check_to_torch(model, Q, K, V, PAIRS, rtol=3e-6)
    assert "F.scaled_dot_product_attention" in inspect.getsource(type(port))


def test_a_bias_under_a_mask() -> None:
    def model(q: Any, k: Any, v: Any, bias: Any, mask: Any) -> Any:
        return jax.nn.softmax(jnp.where(mask, q @ k.mT + bias, -1e9)) @ v

    check_to_torch(model, Q, K, V, _normal(5, 6), PAIRS, rtol=3e-6)


@pytest.mark.parametrize("number", [-1e4, -1e9, -1e10])
def test_masks_that_are_added(number: float) -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return jax.nn.softmax(q @ k.mT + jnp.where(mask, 0.0, number)) @ v

    check_to_torch(model, Q, K, V, PAIRS, rtol=5e-6)


def _flax(model: Any, x: Any, mask: Any) -> Any:
    return model(x, mask=mask)


class Linen(linen.Module):
    """Self-attention whose mask may leave queries without keys."""

    @linen.compact
    def __call__(self, x: Any, mask: Any) -> Any:
        return linen.MultiHeadDotProductAttention(num_heads=2)(x, mask=mask)


def _self_mask() -> np.ndarray:
    mask = RNG.random((2, 1, 5, 5)) < 0.7
    mask[0, :, 2] = mask[1, :, 4] = False
    return mask


def _compare_training(port: Any, wanted: Any, x: Any, mask: Any) -> None:
    tensor = torch.tensor(np.array(x), requires_grad=True)
    out = port(tensor, torch.tensor(np.array(mask)))
    weight = torch.arange(1.0, 1 + out.numel()).reshape(out.shape)
    (found,) = torch.autograd.grad((out * weight).sum(), [tensor])
    np.testing.assert_allclose(found.numpy(), np.asarray(wanted), rtol=2e-4, atol=2e-4)


def test_linen_attention_with_rows_without_a_key() -> None:
    x, mask = jnp.asarray(_normal(2, 5, 8)), jnp.asarray(_self_mask())
    model = Linen()
    params = model.init(jax.random.key(0), x, mask)
    port = ivyport.transpile(model, "torch", (x, mask), params=params)

    def loss(x: Any) -> Any:
        y = model.apply(params, x, mask)
        return (y * jnp.arange(1.0, 1 + y.size).reshape(y.shape)).sum()

    _compare_training(port, jax.grad(loss)(x), x, mask)


def test_nnx_attention_with_rows_without_a_key() -> None:
    x, mask = jnp.asarray(_normal(2, 5, 8)), jnp.asarray(_self_mask())
    model = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))

    class Wrapped(nnx.Module):
        def __init__(self) -> None:
            self.attention = model

        def __call__(self, x: Any, mask: Any) -> Any:
            return self.attention(x, mask=mask)

    wrapped = Wrapped()
    port = ivyport.transpile(wrapped, "torch", (x, mask))

    def loss(x: Any) -> Any:
        y = wrapped(x, mask)
        return (y * jnp.arange(1.0, 1 + y.size).reshape(y.shape)).sum()

    _compare_training(port, jax.grad(loss)(x), x, mask)


# ---- from torch to JAX


def _heads(*shape: int) -> torch.Tensor:
    return torch.tensor(_normal(*shape))


TQ, TK, TV = _heads(2, 2, 5, 4), _heads(2, 2, 6, 4), _heads(2, 2, 6, 4)
FLOAT = torch.zeros(2, 1, 5, 6).masked_fill(~torch.tensor(PAIRS)[:, None], -math.inf)


def test_a_float_mask_of_minus_infinity_gives_zeros() -> None:
    check_to_jax(F.scaled_dot_product_attention, TQ, TK, TV, FLOAT, rtol=3e-6)


def test_a_bool_mask_gives_zeros() -> None:
    for mask in (torch.tensor(PAIRS)[:, None], torch.tensor(KEYS)[:, None, None]):
        check_to_jax(F.scaled_dot_product_attention, TQ, TK, TV, mask, rtol=3e-6)


def test_a_finite_mask_gives_a_mean() -> None:
    low = torch.finfo(torch.float32).min

    def model(q: Any, k: Any, v: Any, keys: Any) -> Any:
        mask = (1.0 - keys[:, None, None].float()) * low
        return F.scaled_dot_product_attention(q, k, v, mask)

    port = check_to_jax(
        model, TQ, TK, TV, torch.tensor(KEYS), rtol=3e-6, gradient=False
    )
    assert "jax.nn.dot_product_attention" in inspect.getsource(type(port))


def test_a_softmax_that_is_written_out_gives_not_a_number() -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return (q @ k.mT / 2 + mask).softmax(-1) @ v

    check_to_jax(model, TQ, TK, TV, FLOAT, gradient=False, rtol=3e-6)


def test_a_transformer_encoder_with_a_row_of_padding_alone() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, x: Any, padding: Any) -> Any:
            return self.encoder(x, src_key_padding_mask=padding)

    padding = ~torch.tensor(KEYS)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        check_to_jax(Model(), _heads(2, 6, 8), padding, rtol=5e-6, gradient=False)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_float16_attention_with_a_float_mask_runs_under_jit() -> None:
    operands = [x.half() for x in (TQ, TK, TV, FLOAT)]
    check_to_jax(F.scaled_dot_product_attention, *operands, rtol=4e-3, gradient=False)


def test_grouped_and_causal_attention_with_empty_rows() -> None:
    def model(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True, scale=0.3)

    mask = torch.tensor(PAIRS)[:, None]
    check_to_jax(model, _heads(2, 4, 5, 4), TK, TV, mask, rtol=3e-6)
