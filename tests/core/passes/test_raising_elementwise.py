"""Softmax, activations, dropout, one-hot codes and pools of JAX are single operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.core.passes.jax_graphs import B, case, key_of, plain, spec

ROWS = spec(B, 5, 8)
IMAGE = spec(B, 6, 7, 3)

FUNCTIONS: dict[str, tuple[Callable[[jax.Array], jax.Array], str, dict[str, Any]]] = {
    "softmax": (jax.nn.softmax, "softmax", {"axis": 2}),
    "softmax, middle": (lambda x: jax.nn.softmax(x, 1), "softmax", {"axis": 1}),
    "softmax, turned": (
        lambda x: jnp.exp(x.T - x.max(-1).T) / jnp.exp(x.T - x.max(-1).T).sum(0),
        "softmax",
        {"axis": 2},
    ),
    "softmax, unguarded": (
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        "softmax",
        {"axis": 2},
    ),
    "log_softmax": (jax.nn.log_softmax, "log_softmax", {"axis": 2}),
    "log_softmax, by hand": (
        lambda x: x - jax.nn.logsumexp(x, 1, keepdims=True), "log_softmax", {"axis": 1}
    ),
    "logsumexp": (
        lambda x: jax.nn.logsumexp(x, -1), "logsumexp", {"axis": (2,), "keepdims": False}
    ),
    "logsumexp of all": (
        jax.nn.logsumexp, "logsumexp", {"axis": (0, 1, 2), "keepdims": False}
    ),
    "gelu": (jax.nn.gelu, "gelu", {"approximate": True}),
    "gelu, erf": (
        lambda x: jax.nn.gelu(x, approximate=False), "gelu", {"approximate": False}
    ),
    "gelu, by hand": (
        lambda x: 0.5 * x * (1 + jax.lax.erf(x / np.sqrt(2).astype(np.float32))),
        "gelu",
        {"approximate": False},
    ),
    "silu": (lambda x: x * jax.nn.sigmoid(x), "silu", {}),
    "relu": (jax.nn.relu, "relu", {}),
    "elu": (lambda x: jax.nn.elu(x, 0.5), "elu", {"alpha": 0.5}),
    "leaky_relu": (
        lambda x: jnp.where(x >= 0, x, 0.01 * x), "leaky_relu",
        {"negative_slope": 0.01, "closed": True}
    ),
    "clip": (
        lambda x: jnp.minimum(jnp.maximum(x, 0.0), 6.0),
        "clip",
        {"min": 0.0, "max": 6.0, "edge": "half"},
    ),
    "hard sigmoid": (
        lambda x: jax.lax.clamp(0.0, x + 3.0, 6.0) / 6.0, "hard_sigmoid", {}
    ),
    "hard swish": (
        lambda x: x * (jax.lax.clamp(0.0, x + 3.0, 6.0) / 6.0), "hard_swish", {}
    ),
    "softplus": (
        lambda x: jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x))), "softplus", {}
    ),
    "log_sigmoid": (jax.nn.log_sigmoid, "log_sigmoid", {}),
    "mish": (lambda x: x * jnp.tanh(jax.nn.softplus(x)), "mish", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_one_node(name: str) -> None:
    function, op, attrs = FUNCTIONS[name]
    if name == "softmax, turned":
        graph = plain(function, spec(4, 5, 8)).raised()
        assert "softmax" in {n.op for n in graph.nodes}
        return
    graph = plain(function, ROWS).becomes(op)
    assert graph.nodes[0].attrs == attrs


@pytest.mark.parametrize("approximate", [True, False])
def test_gelu_of_a_product(approximate: bool) -> None:
    made = plain(lambda x, y: jax.nn.gelu(x * y * 2.0, approximate), ROWS, ROWS)
    made.becomes("multiply", "multiply", "gelu")


NOT: dict[str, tuple[Callable[[jax.Array], jax.Array], set[str]]] = {
    "sum over another axis": (
        lambda x: jnp.exp(x - x.max(-1, keepdims=True))
        / jnp.exp(x - x.max(-1, keepdims=True)).sum(1, keepdims=True),
        {"softmax"},
    ),
    "another base": (
        lambda x: jnp.exp2(x) / jnp.exp2(x).sum(-1, keepdims=True), {"softmax"}
    ),
    "exponents that differ": (
        lambda x: jnp.exp(x) / jnp.exp(2 * x).sum(-1, keepdims=True), {"softmax"}
    ),
    "two axes": (
        lambda x: jnp.exp(x) / jnp.exp(x).sum((1, 2), keepdims=True), {"softmax"}
    ),
    "minimum as shift": (
        lambda x: jnp.log(jnp.exp(x - x.min(-1, keepdims=True)).sum(-1)) + x.max(-1),
        {"logsumexp"},
    ),
    "gelu with another root": (
        lambda x: 0.5 * x * (1 + jax.lax.erf(x / 1.5)), {"gelu"}
    ),
    "gelu without half": (
        lambda x: x * (1 + jax.lax.erf(x / np.float32(np.sqrt(2)))), {"gelu"}
    ),
    "gelu squared": (
        lambda x: 0.5 * x * x * (1 + jax.lax.erf(x / np.float32(np.sqrt(2)))), {"gelu"}
    ),
    "quick gelu": (lambda x: x * jax.nn.sigmoid(1.702 * x), {"silu", "gelu"}),
    "gate of another half": (
        lambda x: x[..., :4] * jax.nn.sigmoid(x[..., 4:]), {"silu"}
    ),
    "relu whose slope at 0 is a half": (lambda x: jnp.maximum(0.0, x), {"relu"}),
    "hard sigmoid whose slopes at bounds are halves": (
        lambda x: jnp.clip(x + 3.0, 0.0, 6.0) / 6.0, {"hard_sigmoid"}
    ),
    "elu whose slope at 0 is 1": (
        lambda x: jnp.where(x >= 0, x, 0.5 * jnp.expm1(x)), {"elu"}
    ),
    "leaky with another threshold": (
        lambda x: jnp.where(x > 0.5, x, 0.01 * x), {"leaky_relu"}
    ),
    "bounds the wrong way": (
        lambda x: jnp.minimum(jnp.maximum(x, 2.0), -1.0), {"clip"}
    ),
    "softplus of two": (
        lambda x: jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x * 2.0))),
        {"softplus"},
    ),
    "codes of another line": (
        lambda x: (jnp.floor(x).astype(jnp.int32)[..., None] == jnp.arange(1, 5)) * 1.0,
        {"one_hot"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT)
def test_almost(name: str) -> None:
    function, forbidden = NOT[name]
    made = plain(function, ROWS)
    assert not forbidden & {n.op for n in made.raised().nodes}
    made.holds()


def test_one_hot() -> None:
    indices = spec(B, 5, dtype=np.int32)
    graph = plain(
        lambda i: (i[..., None] == jnp.arange(4)).astype(jnp.float32), indices
    ).becomes("one_hot")
    assert graph.nodes[0].attrs == {"num_classes": 4, "dtype": "float32"}
    assert graph.nodes[0].inputs == (graph.inputs[0],)


# ---- dropout: what is drawn differs, so that only the operations are compared


def linen_dropout(x: jax.Array, **kwargs: Any) -> jax.Array:
    layer = nn.Dropout(0.1, deterministic=False, **kwargs)
    return layer.apply({}, x, rngs={"dropout": key_of(x)})


def mask(x: jax.Array, shape: Any = None) -> jax.Array:
    return jax.random.bernoulli(key_of(x), 0.9, shape or x.shape)


DROPOUTS: dict[str, tuple[Callable[[jax.Array], jax.Array], tuple[int, ...]]] = {
    "haiku": (lambda x: hk.dropout(key_of(x), 0.1, x), ()),
    "linen": (linen_dropout, ()),
    "linen, shared": (lambda x: linen_dropout(x, broadcast_dims=(1, 2)), (1, 2)),
    "by choice": (lambda x: jnp.where(mask(x), x, 0.0) / 0.9, ()),
    "by factor": (
        lambda x: x * (mask(x, (x.shape[0], 1, 1)).astype(x.dtype) / 0.9), (1, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("trains", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout(name: str, trains: bool) -> None:
    """What drops in a graph of eval mode drops always."""
    function, shared = DROPOUTS[name]
    (node,) = plain(function, ROWS).raised(trains=trains).nodes
    wanted = {"rate": 0.1, "broadcast": shared, "always": not trains}
    assert (node.op, node.attrs) == ("dropout", wanted)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.where(mask(x), x / 0.8, 0.0),
        lambda x: jnp.where(mask(x), x / 0.9, 1.0),
        lambda x: jnp.where(mask(x), 0.0, x / 0.9),
        lambda x: jnp.where(mask(x), x, 0.0),
    ],
    ids=["another rate", "another value", "inverted", "not scaled"],
)
def test_almost_dropout(function: Callable[[jax.Array], jax.Array]) -> None:
    graph = plain(function, ROWS).raised()
    assert "dropout" not in {n.op for n in graph.nodes}


# ---- pools


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("window", [2, 3])
def test_average_pool(padding: str, window: int) -> None:
    def pool(x: jax.Array) -> jax.Array:
        return hk.avg_pool(x, (1, window, window, 1), (1, 2, 2, 1), padding)

    (node,) = plain(pool, IMAGE).becomes("avg_pool").nodes
    assert node.attrs["kernel"] == (window, window)
    padded = any(p != (0, 0) for p in node.attrs["padding"])
    assert node.attrs["count_include_pad"] == (not padded)


def test_average_pool_that_counts_padding() -> None:
    graph = plain(lambda x: nn.avg_pool(x, (3, 3), (2, 2), "SAME"), IMAGE).becomes(
        "avg_pool"
    )
    assert graph.nodes[0].attrs["count_include_pad"]


def test_a_sum_of_windows_by_another_number_stays() -> None:
    def pool(x: jax.Array) -> jax.Array:
        return nn.avg_pool(x, (3, 3), (2, 2), "SAME") * 9.0 / 8.0

    assert "avg_pool" in {n.op for n in plain(pool, IMAGE).raised().nodes}

    def odd(x: jax.Array) -> jax.Array:
        window = ((1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        return jax.lax.reduce_window(x, 0.0, jax.lax.add, *window) / 8.0

    plain(odd, IMAGE).becomes("sum_pool", "divide")


def test_a_frozen_tensor_is_not_looked_through() -> None:
    def function(p: Any, s: Any, x: jax.Array) -> jax.Array:
        return x @ jax.lax.stop_gradient(p["w"])

    made = case(function, ROWS, params={"w": np.ones((8, 3), np.float32)})
    made.becomes("stop_gradient", "matmul")
