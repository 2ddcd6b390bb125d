"""Norms that haiku, linen and nnx write out are one operation, and what differs is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from tests.core.passes.jax_graphs import B, Case, haiku, linen, live, plain, spec

ROWS = spec(B, 5, 8)
IMAGE = spec(B, 4, 6, 8)


def rngs() -> nnx.Rngs:
    return nnx.Rngs(0)


LAYERS: dict[str, tuple[Callable[[], Case], str, dict[str, Any]]] = {
    "haiku LayerNorm": (
        lambda: haiku(lambda x: hk.LayerNorm(-1, True, True)(x), ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-5},
    ),
    "haiku LayerNorm without parameters": (
        lambda: haiku(lambda x: hk.LayerNorm((-2, -1), False, False)(x), ROWS),
        "layer_norm",
        {"axis": (-2, -1), "eps": 1e-5},
    ),
    "linen LayerNorm": (
        lambda: linen(nn.LayerNorm(), ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-6},
    ),
    "linen LayerNorm, exact variance": (
        lambda: linen(nn.LayerNorm(use_fast_variance=False, epsilon=1e-3), ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-3},
    ),
    "linen LayerNorm, two axes": (
        lambda: linen(
            nn.LayerNorm(reduction_axes=(-2, -1), feature_axes=(-2, -1)), ROWS
        ),
        "layer_norm",
        {"axis": (-2, -1), "eps": 1e-6},
    ),
    "linen LayerNorm without bias": (
        lambda: linen(nn.LayerNorm(use_bias=False), ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-6},
    ),
    "nnx LayerNorm": (
        lambda: live(nnx.LayerNorm(8, rngs=rngs()), ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-6},
    ),
    "jax.nn.standardize": (
        lambda: plain(jax.nn.standardize, ROWS),
        "layer_norm",
        {"axis": (-1,), "eps": 1e-5},
    ),
    "haiku RMSNorm": (
        lambda: haiku(lambda x: hk.RMSNorm(-1)(x), ROWS),
        "rms_norm",
        {"axis": (-1,), "eps": 1e-5},
    ),
    "haiku RMSNorm without scale": (
        lambda: haiku(lambda x: hk.RMSNorm(-1, create_scale=False)(x), ROWS),
        "rms_norm",
        {"axis": (-1,), "eps": 1e-5},
    ),
    "linen RMSNorm": (
        lambda: linen(nn.RMSNorm(), ROWS),
        "rms_norm",
        {"axis": (-1,), "eps": 1e-6},
    ),
    "nnx RMSNorm": (
        lambda: live(nnx.RMSNorm(8, rngs=rngs()), ROWS),
        "rms_norm",
        {"axis": (-1,), "eps": 1e-6},
    ),
    "haiku GroupNorm": (
        lambda: haiku(lambda x: hk.GroupNorm(4)(x), IMAGE),
        "group_norm",
        {"groups": 4, "eps": 1e-5, "layout": "channels_last"},
    ),
    "haiku GroupNorm, channels first": (
        lambda: haiku(
            lambda x: hk.GroupNorm(2, data_format="channels_first")(x), IMAGE
        ),
        "group_norm",
        {"groups": 2, "eps": 1e-5, "layout": "channels_first"},
    ),
    "linen GroupNorm": (
        lambda: linen(nn.GroupNorm(4), IMAGE),
        "group_norm",
        {"groups": 4, "eps": 1e-6, "layout": "channels_last"},
    ),
    "linen GroupNorm of rows": (
        lambda: linen(nn.GroupNorm(2, use_fast_variance=False), ROWS),
        "group_norm",
        {"groups": 2, "eps": 1e-6, "layout": "channels_last"},
    ),
    "nnx GroupNorm": (
        lambda: live(nnx.GroupNorm(8, num_groups=2, rngs=rngs()), IMAGE),
        "group_norm",
        {"groups": 2, "eps": 1e-6, "layout": "channels_last"},
    ),
    "haiku InstanceNorm": (
        lambda: haiku(lambda x: hk.InstanceNorm(True, True)(x), IMAGE),
        "group_norm",
        {"groups": 8, "eps": 1e-5, "layout": "channels_last"},
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_one_node(name: str) -> None:
    make, op, attrs = LAYERS[name]
    graph = make().becomes(op)
    assert graph.nodes[0].attrs == attrs
    scales = [p.type.shape for p in graph.params.values()]
    assert all(len(s) == 1 or s == (5, 8) for s in scales)


def moments(
    x: jax.Array,
    *,
    axis: Any = -1,
    other: Any = None,
    ddof: int = 0,
    power: float = -0.5,
    shift: float = 1e-5,
) -> jax.Array:
    """A layer norm, with variations that are none."""
    mean = jnp.mean(x, axis, keepdims=True)
    var = jnp.var(x, axis if other is None else other, ddof=ddof, keepdims=True)
    return (x - mean) * (var + shift) ** power


@pytest.mark.parametrize(
    "change",
    [
        {"axis": -1, "other": -2},
        {"axis": (0, 1), "other": (0, 2)},
        {"ddof": 1},
        {"power": -0.4},
        {"power": 0.5},
    ],
    ids=str,
)
def test_almost_a_norm(change: dict[str, Any]) -> None:
    made = plain(lambda x: moments(x, **change), ROWS)
    graph = made.raised()
    norms = {"layer_norm", "rms_norm", "group_norm", "batch_norm"}
    assert not norms & {n.op for n in graph.nodes}
    made.holds()


def test_power_of_minus_one_half_is_a_root() -> None:
    plain(moments, ROWS).becomes("layer_norm")


def test_the_variance_of_another_tensor_is_no_norm() -> None:
    def function(x: jax.Array, y: jax.Array) -> jax.Array:
        centred = x - jnp.mean(x, -1, keepdims=True)
        return centred * jax.lax.rsqrt(jnp.var(y, -1, keepdims=True) + 1e-5)

    made = plain(function, ROWS, ROWS)
    assert "layer_norm" not in {n.op for n in made.raised().nodes}
    made.holds()


def test_a_mean_without_a_gradient_is_no_norm() -> None:
    def function(x: jax.Array) -> jax.Array:
        mean = jax.lax.stop_gradient(jnp.mean(x, -1, keepdims=True))
        return (x - mean) * jax.lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5)

    made = plain(function, ROWS)
    assert "layer_norm" not in {n.op for n in made.raised().nodes}


def test_statistics_by_the_wrong_broadcast_are_no_norm() -> None:
    # (8, 8): the mean of row i is subtracted from column i.
    def function(x: jax.Array) -> jax.Array:
        return (x - jnp.mean(x, -1)) * jax.lax.rsqrt(jnp.var(x, -1) + 1e-5)

    made = plain(function, spec(8, 8))
    assert "layer_norm" not in {n.op for n in made.raised().nodes}
    made.holds()


def test_rms_norm_over_a_leading_axis_stays() -> None:
    def function(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x**2, 1, keepdims=True) + 1e-5)

    made = plain(function, ROWS)
    assert "rms_norm" not in {n.op for n in made.raised().nodes}
    made.holds()


def test_groups_over_unequal_axes_are_no_group_norm() -> None:
    def function(x: jax.Array) -> jax.Array:
        grouped = x.reshape(*x.shape[:-1], 4, 2)
        return jax.nn.standardize(grouped, axis=(1, 4)).reshape(x.shape)

    made = plain(function, IMAGE)
    assert "group_norm" not in {n.op for n in made.raised().nodes}
    made.holds()


def test_half_precision_rounds_elsewhere_and_stays() -> None:
    made = plain(jax.nn.standardize, spec(B, 5, 8, dtype=jnp.bfloat16))
    assert "layer_norm" not in {n.op for n in made.raised().nodes}


def test_mean_and_variance_with_a_symbolic_count() -> None:
    graph = plain(lambda x: jnp.mean(x, (0, 1)), ROWS).becomes("mean")
    assert graph.nodes[0].attrs == {"axis": (0, 1), "keepdims": False}
    plain(lambda x: jnp.var(x), ROWS).becomes("var")
    graph = plain(lambda x: jnp.std(x, (0, 2), keepdims=True), ROWS).becomes("std")
    assert graph.nodes[0].attrs["keepdims"]
    graph = plain(lambda x: jnp.var(x, -1, ddof=1), ROWS).becomes("var")
    assert graph.nodes[0].attrs["correction"] == 1


def test_a_sum_over_another_count_is_no_mean() -> None:
    plain(lambda x: jnp.sum(x, -1) / 7.0, ROWS).becomes("sum", "divide")
    plain(lambda x: jnp.sum(x, 0) / x.shape[1], ROWS).becomes("sum", "divide")
