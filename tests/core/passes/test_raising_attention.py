"""Attention of haiku, linen, nnx and DeepMind's models is one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from tests.core.passes.jax_graphs import (
    B,
    Case,
    haiku,
    key_of,
    linen,
    live,
    plain,
    spec,
)

ROWS = spec(B, 5, 8)
QUERY, KEY = spec(B, 5, 2, 4), spec(B, 7, 2, 4)
MASK = spec(B, 1, 5, 5, dtype=bool)
SPLIT = ["linear", "reshape"] * 3
JOIN = ["attention", "reshape", "linear"]
init = hk.initializers.VarianceScaling(1.0)


def deepmind(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array | None = None,
    *,
    axis: int = -1,
    scale: float | None = None,
) -> jax.Array:
    """As in DeepMind's Perceiver."""
    logits = jnp.einsum("bthd,bThd->bhtT", q, k)
    logits *= 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    if mask is not None:
        logits = jnp.where(mask[:, None, :, :], logits, -1e30)
    weights = jax.nn.softmax(logits, axis)
    return jnp.einsum("bhtT,bThd->bthd", weights, v)


def mha(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    return hk.MultiHeadAttention(2, 4, w_init=init)(x, x, x, mask=mask)


class Masked(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        return nn.MultiHeadDotProductAttention(2)(x, mask=mask)


CASES: dict[str, tuple[Callable[[], Case], list[str]]] = {
    "haiku": (lambda: haiku(mha, ROWS), SPLIT + JOIN),
    "haiku, masked": (lambda: haiku(mha, ROWS, MASK), SPLIT + JOIN),
    "haiku, causal": (
        lambda: haiku(lambda x: mha(x, jnp.tril(jnp.ones((1, 1, 5, 5)))), ROWS),
        SPLIT + JOIN,
    ),
    "linen": (lambda: linen(nn.MultiHeadDotProductAttention(2), ROWS), SPLIT + JOIN),
    "linen, masked": (
        lambda: linen(Masked(), ROWS, MASK), SPLIT + JOIN
    ),
    "nnx": (
        lambda: live(nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0)), ROWS),
        SPLIT + JOIN,
    ),
    "jax.nn": (
        lambda: plain(jax.nn.dot_product_attention, QUERY, KEY, KEY), ["attention"]
    ),
    "jax.nn, causal": (
        lambda: plain(
            lambda q: jax.nn.dot_product_attention(q, q, q, is_causal=True), QUERY
        ),
        ["attention"],
    ),
    "jax.nn, groups of heads": (
        lambda: plain(jax.nn.dot_product_attention, spec(B, 5, 6, 4), KEY, KEY),
        ["attention"],
    ),
    "jax.nn, bias and mask": (
        lambda: plain(
            lambda q, k, b, m: jax.nn.dot_product_attention(q, k, k, b, m),
            QUERY, KEY, spec(B, 2, 5, 7), spec(B, 1, 1, 7, dtype=bool),
        ),
        ["where", "attention"],
    ),
    "deepmind": (lambda: plain(deepmind, QUERY, KEY, KEY), ["attention"]),
    "deepmind, masked": (
        lambda: plain(deepmind, QUERY, KEY, KEY, spec(B, 5, 7, dtype=bool)),
        ["getitem", "attention"],
    ),
    "one query": (lambda: plain(deepmind, spec(B, 1, 2, 4), KEY, KEY), ["attention"]),
    "one head": (
        lambda: plain(deepmind, spec(B, 5, 1, 4), spec(B, 7, 1, 4), spec(B, 7, 1, 3)),
        ["attention"],
    ),
    "heads before length": (
        lambda: plain(
            lambda q, k, v: jax.nn.softmax(q @ k.swapaxes(-1, -2) * 0.3) @ v,
            spec(B, 2, 5, 4), spec(B, 2, 7, 4), spec(B, 2, 7, 3),
        ),
        ["attention"],
    ),
    "no heads": (
        lambda: plain(
            lambda q, k, v: jax.nn.softmax(q / 2 @ k.swapaxes(-1, -2)) @ v,
            spec(B, 5, 4), spec(B, 7, 4), spec(B, 7, 3),
        ),
        ["getitem", "getitem", "getitem", "attention", "reshape"],
    ),
    "windows": (
        lambda: plain(
            lambda q, k: jnp.einsum(
                "bwhts,bwshd->bwthd",
                jax.nn.softmax(jnp.einsum("bwthd,bwshd->bwhts", q, k)), k,
            ),
            spec(B, 3, 5, 2, 4), spec(B, 3, 5, 2, 4),
        ),
        ["reshape", "reshape", "attention", "reshape"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str) -> None:
    make, operations = CASES[name]
    graph = make().becomes(*operations, rtol=1e-5)
    (node,) = [n for n in graph.nodes if n.op == "attention"]
    assert node.attrs["is_causal"] == ("causal" in name)
    if name in ("haiku", "linen", "nnx", "jax.nn", "deepmind"):
        assert node.attrs["scale"] is None
        assert node.attrs["layout"] == "bshd"
    if "masked" in name:
        # Logits that became one finite number: a mean where there are no others.
        assert node.attrs["empty"] == "mean"


def test_a_mask_of_keys_stays_a_mask() -> None:
    case = plain(
        lambda q, k, m: jax.nn.dot_product_attention(q, k, k, mask=m),
        QUERY, KEY, spec(B, 1, 1, 7, dtype=bool),
    )  # fmt: skip
    graph = case.raised()
    assert [n.op for n in graph.nodes] == ["attention"]
    assert graph.nodes[0].inputs[3] is graph.inputs[2]


def test_a_query_that_sees_nothing_averages_as_in_the_source() -> None:
    def function(q: jax.Array, k: jax.Array) -> jax.Array:
        keep = jnp.arange(7)[None, None, :] < jnp.arange(5)[None, :, None]
        return deepmind(q, k, k, jnp.broadcast_to(keep, (q.shape[0], 5, 7)))

    case = plain(function, QUERY, KEY)
    assert "attention" in {n.op for n in case.raised().nodes}
    case.holds()


HEADS = {"one mask for all heads": 1, "a mask a head": 2}


def zeros_where_blind(
    q: jax.Array, k: jax.Array, mask: jax.Array, seen: jax.Array, other: float = 0.0
) -> jax.Array:
    """Attention, and another value where `seen`, (batch, heads, query), is false."""
    x = jax.nn.dot_product_attention(q, k, k, mask=mask)
    return jnp.where(seen.mT[..., None], x, other)


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_zeros_for_queries_that_see_nothing_are_the_mask_s(heads: int) -> None:
    def function(q: jax.Array, k: jax.Array, mask: jax.Array) -> jax.Array:
        mask = mask & (jnp.arange(5) != 2)[:, None]
        return zeros_where_blind(q, k, mask, mask.any(-1))

    case = plain(function, QUERY, KEY, spec(B, heads, 5, 7, dtype=bool))
    graph = case.raised()
    node = graph.nodes[-1]
    assert node.op == "attention"
    assert node.inputs[3].type.dtype == "bool"  # type: ignore[union-attr]
    assert "any" not in {n.op for n in graph.nodes}
    case.holds()


def otherwise(kind: str) -> Callable[..., Any]:
    def function(q: jax.Array, k: jax.Array, mask: jax.Array) -> jax.Array:
        if kind == "ones":
            return zeros_where_blind(q, k, mask, mask.any(-1), 1.0)
        if kind == "of all heads":
            seen = jnp.broadcast_to(mask.any((1, 3))[:, None], (q.shape[0], 2, 5))
        elif kind == "keys that are seen":
            seen = mask.any(-2)
        elif kind == "another mask":
            seen = (~mask).any(-1)
        else:
            assert kind == "all keys"
            seen = mask.all(-1)
        return zeros_where_blind(q, k, mask, seen)

    return function


@pytest.mark.parametrize(
    "kind", ["ones", "of all heads", "keys that are seen", "another mask", "all keys"]
)
def test_other_values_than_zero_where_blind_stay(kind: str) -> None:
    case = plain(otherwise(kind), QUERY, spec(B, 5, 2, 4), spec(B, 2, 5, 5, dtype=bool))
    assert case.raised().nodes[-1].op == "where"
    case.holds()


@pytest.mark.parametrize("library", ["haiku", "linen", "linen, one draw a head"])
def test_dropout_of_the_weights_joins(library: str) -> None:
    def perceiver(q: jax.Array, k: jax.Array) -> jax.Array:
        logits = jnp.einsum("bthd,bThd->bhtT", q, k)
        weights = hk.dropout(key_of(q), 0.1, jax.nn.softmax(logits))
        return jnp.einsum("bhtT,bThd->bthd", weights, k)

    if library == "haiku":
        case = plain(perceiver, QUERY, KEY)
    else:
        module = nn.MultiHeadDotProductAttention(
            2, dropout_rate=0.1, deterministic=False, broadcast_dropout="one" in library
        )
        case = linen(module, ROWS)
    (node,) = [n for n in case.raised(trains=True).nodes if n.op == "attention"]
    assert node.attrs["dropout"] == 0.1
    assert not {"dropout", "random_bernoulli"} & {n.op for n in case.graph.nodes}


def not_attention(kind: str) -> Callable[..., Any]:
    def function(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if kind == "softmax over queries":
            return deepmind(q, k, v, axis=-2)
        logits = jnp.einsum("bthd,bThd->bhtT", q, k)
        if kind == "softmax over heads":
            return jnp.einsum("bhtT,bThd->bthd", jax.nn.softmax(logits, 1), v)
        if kind == "sigmoid":
            return jnp.einsum("bhtT,bThd->bthd", jax.nn.sigmoid(logits), v)
        if kind == "heads summed":
            return jnp.einsum("bhtT,bThd->btd", jax.nn.softmax(logits), v)
        if kind == "heads mixed":
            return jnp.einsum("bhtT,bTgd->bthgd", jax.nn.softmax(logits), v)
        if kind == "a small number instead of a mask":
            kept = jnp.where(
                v[:, :, :, 0].transpose(0, 2, 1)[:, :, None] > 0, logits, -5.0
            )
            return jnp.einsum("bhtT,bThd->bthd", jax.nn.softmax(kept), v)
        assert kind == "scaled mask"
        kept = jnp.where(
            v[:, :, :, 0].transpose(0, 2, 1)[:, :, None] > 0, logits, -1e10
        )
        return jnp.einsum("bhtT,bThd->bthd", jax.nn.softmax(kept * 1e-9), v)

    return function


@pytest.mark.parametrize(
    "kind",
    [
        "softmax over queries",
        "softmax over heads",
        "sigmoid",
        "heads summed",
        "heads mixed",
        "a small number instead of a mask",
        "scaled mask",
    ],
)
def test_almost_attention(kind: str) -> None:
    case = plain(not_attention(kind), QUERY, KEY, KEY)
    assert "attention" not in {n.op for n in case.raised().nodes}
    case.holds()


def test_scales_of_query_and_logits_multiply() -> None:
    def function(q: jax.Array, k: jax.Array) -> jax.Array:
        return deepmind(q * 0.5, k / 4.0, k, scale=3.0)

    graph = plain(function, QUERY, KEY).becomes("attention")
    assert graph.nodes[0].attrs["scale"] == 0.375
