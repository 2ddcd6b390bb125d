"""The attention layers of Perceiver IO, as haiku modules.

Perceiver IO (Jaegle et al., arXiv:2107.14795) reads an input of any size with one
cross-attention from a small array of latents, works on the latents with self-attention,
and writes any output with a cross-attention from queries. Layers are normalised before
each branch; the names of the modules give the parameter trees of the published checkpoints.

Shapes below: B batch, N queries, M keys, C channels of the queries, D of the keys.
"""

from __future__ import annotations

import math

import haiku as hk
import jax
import jax.numpy as jnp

#: What a masked attention weight's logit is set to: finite, so that a row without any
#: key stays free of NaN until it is cleared.
MASKED = -1e30


def layer_norm() -> hk.LayerNorm:
    """Normalisation over the channels, with scale and offset."""
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)


class MLP(hk.Module):
    """Two dense layers with a GELU between them.

    Args:
        widening: the hidden channels over the input's.
    """

    def __init__(self, widening: int = 1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.widening = widening

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map float [B, N, C] to float [B, N, C]."""
        channels = x.shape[-1]
        hidden = jax.nn.gelu(hk.Linear(self.widening * channels)(x))
        return hk.Linear(channels)(hidden)


class Attention(hk.Module):
    """Multi-head attention with separate widths for keys and values.

    Args:
        num_heads: heads; they divide both widths.
        qk_channels: width of queries and keys over all heads, by default the queries'.
        v_channels: width of the values over all heads, by default `qk_channels`.
    """

    def __init__(
        self,
        num_heads: int,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_heads = num_heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels

    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_kv: jax.Array,
        *,
        query_mask: jax.Array | None = None,
        key_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Attend from float [B, N, C] to float [B, M, D]; gives float [B, N, C].

        `query_mask` and `key_mask` are boolean, [B, N] and [B, M]. A query that is masked, or
        has no key left, gets zeros (before the last dense layer).
        """
        qk_channels = self.qk_channels or inputs_q.shape[-1]
        v_channels = self.v_channels or qk_channels
        query = self._heads(hk.Linear(qk_channels)(inputs_q))
        key = self._heads(hk.Linear(qk_channels)(inputs_kv))
        value = self._heads(hk.Linear(v_channels)(inputs_kv))

        scale = 1.0 / math.sqrt(qk_channels // self.num_heads)
        logits = jnp.einsum("bnhc,bmhc->bhnm", query, key) * scale
        if key_mask is not None:
            logits = jnp.where(key_mask[:, None, None, :], logits, MASKED)
        weights = jax.nn.softmax(logits, axis=-1)
        attended = jnp.einsum("bhnm,bmhc->bnhc", weights, value)
        if key_mask is not None:
            has_keys = key_mask.any(axis=-1)
            attended = jnp.where(has_keys[:, None, None, None], attended, 0.0)
        if query_mask is not None:
            attended = jnp.where(query_mask[:, :, None, None], attended, 0.0)
        merged = attended.reshape(*attended.shape[:2], v_channels)
        return hk.Linear(inputs_q.shape[-1])(merged)

    def _heads(self, x: jax.Array) -> jax.Array:
        """Split float [B, N, C] into float [B, N, heads, C / heads]."""
        return x.reshape(*x.shape[:2], self.num_heads, x.shape[-1] // self.num_heads)


class SelfAttention(hk.Module):
    """A transformer block over the latents.

    Args:
        num_heads, qk_channels, v_channels: as in `Attention`.
        widening: as in `MLP`.
    """

    def __init__(
        self,
        num_heads: int,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        widening: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_heads = num_heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels
        self.widening = widening

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map float [B, N, C] to float [B, N, C]."""
        normed = layer_norm()(x)
        attention = Attention(self.num_heads, self.qk_channels, self.v_channels)
        x = x + attention(normed, normed)
        return x + MLP(self.widening)(layer_norm()(x))


class CrossAttention(hk.Module):
    """A block that reads one array from the queries of another.

    Args:
        num_heads, v_channels: as in `Attention`.
        qk_channels: width of queries and keys, by default that of the keys' array.
        widening: as in `MLP`.
        query_residual: whether the queries are added to what they read.
    """

    def __init__(
        self,
        num_heads: int,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        widening: int = 1,
        *,
        query_residual: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.num_heads = num_heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels
        self.widening = widening
        self.query_residual = query_residual

    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_kv: jax.Array,
        *,
        query_mask: jax.Array | None = None,
        key_mask: jax.Array | None = None,
    ) -> jax.Array:
        """Read float [B, M, D] from queries float [B, N, C]; gives float [B, N, C].

        The masks are as in `Attention`.
        """
        qk_channels = self.qk_channels or inputs_kv.shape[-1]
        attention = Attention(self.num_heads, qk_channels, self.v_channels)
        read = attention(
            layer_norm()(inputs_q),
            layer_norm()(inputs_kv),
            query_mask=query_mask,
            key_mask=key_mask,
        )
        x = inputs_q + read if self.query_residual else read
        return x + MLP(self.widening)(layer_norm()(x))
