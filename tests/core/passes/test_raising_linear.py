"""Products with parameters are linears, lookups are embeddings, sums with them biases."""

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

from ivyport.core.ir import Scope
from ivyport.core.passes.raising import raise_layers
from tests.core.passes.jax_graphs import B, Case, case, haiku, linen, live, plain, spec
from tests.graph_run import Draft, ops

ROWS = spec(B, 5, 8)
IMAGE = spec(B, 6, 7, 4)
TOKENS = spec(B, 5, dtype=np.int32)

LAYERS: dict[str, tuple[Callable[[], Case], list[str], tuple[int, ...]]] = {
    "haiku Linear": (lambda: haiku(lambda x: hk.Linear(3)(x), ROWS), ["linear"], (8, 3)),
    "haiku Linear, no bias": (
        lambda: haiku(lambda x: hk.Linear(3, with_bias=False)(x), ROWS), ["linear"], (8, 3)
    ),
    "linen Dense": (lambda: linen(nn.Dense(3), ROWS), ["linear"], (8, 3)),
    "nnx Linear": (
        lambda: live(nnx.Linear(8, 3, rngs=nnx.Rngs(0)), ROWS), ["linear"], (8, 3)
    ),
    "nnx Einsum": (
        lambda: live(nnx.Einsum("btd,dhk->bthk", (8, 2, 3), (2, 3), rngs=nnx.Rngs(0)), ROWS),
        ["linear", "reshape"],
        (8, 6),
    ),
    "linen DenseGeneral, out": (
        lambda: linen(nn.DenseGeneral((2, 3)), ROWS), ["linear", "reshape"], (8, 6)
    ),
    "linen DenseGeneral, in": (
        lambda: linen(nn.DenseGeneral(3, axis=(-2, -1)), ROWS), ["reshape", "linear"], (40, 3)
    ),
    "linen DenseGeneral, middle": (
        lambda: linen(nn.DenseGeneral(3, axis=1), ROWS), ["permute_dims", "linear"], (5, 3)
    ),
    "haiku Conv2D": (lambda: haiku(lambda x: hk.Conv2D(3, 3)(x), IMAGE), ["conv"], (3, 4, 3, 3)),
    "linen Conv": (lambda: linen(nn.Conv(3, (3, 3), 2), IMAGE), ["conv"], (3, 4, 3, 3)),
    "haiku Embed": (lambda: haiku(lambda i: hk.Embed(7, 3)(i), TOKENS), ["embedding"], (7, 3)),
    "linen Embed": (lambda: linen(nn.Embed(7, 3), TOKENS), ["embedding"], (7, 3)),
    "nnx Embed": (
        lambda: live(nnx.Embed(7, 3, rngs=nnx.Rngs(0)), TOKENS), ["embedding"], (7, 3)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str) -> None:
    make, operations, shape = LAYERS[name]
    graph = make().becomes(*operations)
    weights = [p for p in graph.params.values() if p.type.rank > 1]
    assert [p.type.shape for p in weights] == [shape]
    biases = [p for p in graph.params.values() if p.type.rank == 1]
    assert len(biases) == (0 if "no bias" in name or "Embed" in name else 1)


def of_weight(function: Callable[..., Any], *shape: int, args: Any = (ROWS,)) -> Case:
    """``function(w, *args)`` of one parameter."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(shape).astype(np.float32)
    return case(lambda p, s, *xs: function(p["w"], *xs), *args, params={"w": weight})


def test_a_tied_table_is_looked_up_and_multiplied() -> None:
    def function(w: jax.Array, i: jax.Array) -> jax.Array:
        return jnp.take(w, i, axis=0) @ w.T

    graph = of_weight(function, 7, 3, args=(TOKENS,)).becomes("embedding", "linear")
    assert graph.nodes[1].attrs["weight_layout"] == "oi"
    assert graph.params["p.w"].folds == ()


def test_a_kernel_of_several_axes_is_folded() -> None:
    made = of_weight(lambda w, x: jnp.einsum("btd,hdk->bthk", x, w), 2, 8, 3)
    graph = made.becomes("linear", "reshape")
    assert graph.params["p.w"].folds == (
        ("permute_dims", (1, 0, 2)),
        ("reshape", (8, 2, 3), (8, 6)),
    )


def test_codes_that_are_rows_are_looked_up() -> None:
    def function(w: jax.Array, x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(jnp.argmax(x, -1), 8) @ w

    made = of_weight(function, 8, 3)
    graph = made.raised()
    assert ops(graph)[-1] == "embedding"
    assert "one_hot" not in ops(graph)
    made.holds()


def test_codes_that_may_be_no_rows_stay() -> None:
    def function(w: jax.Array, i: jax.Array) -> jax.Array:
        return jax.nn.one_hot(i - 1, 7) @ w

    of_weight(function, 7, 3, args=(TOKENS,)).becomes("subtract", "one_hot", "linear")


@pytest.mark.parametrize(
    ("equation", "shape"),
    [
        ("btd,bdk->btk", (3, 8, 2)),  # another matrix for each of the batch
        ("btd,tdk->btk", (5, 8, 2)),  # another for each position
        ("btd,tk->btdk", (5, 2)),  # an outer product
    ],
)
def test_almost_a_linear(equation: str, shape: tuple[int, ...]) -> None:
    rows = spec(3, 5, 8) if "bdk" in equation else ROWS
    made = of_weight(lambda w, x: jnp.einsum(equation, x, w), *shape, args=(rows,))
    assert "linear" not in ops(made.raised())
    made.holds()


def test_an_axis_that_is_summed_alone_is_no_linear() -> None:
    b = Draft()
    x, w = b.input("x", 2, 5, 8), b.param("w", 8, 3)
    graph = b.graph(b.einsum(x, w, equation="btd,dk->bk"))
    raise_layers(graph)
    assert ops(graph) == ["einsum"]


def test_a_product_of_inputs_is_no_linear() -> None:
    made = plain(lambda x, y: x @ y, ROWS, spec(8, 3))
    made.becomes("matmul")


def test_rows_of_an_input_are_no_embedding() -> None:
    made = plain(lambda x, i: jnp.take(x, i, axis=0), spec(7, 3), TOKENS)
    assert "embedding" not in ops(made.raised())


def test_a_bias_along_another_axis_is_none() -> None:
    def function(p: Any, s: Any, x: jax.Array) -> jax.Array:
        return x @ p["w"] + p["b"][:, None]

    params = {"w": np.ones((8, 3), np.float32), "b": np.ones(5, np.float32)}
    made = case(function, ROWS, params=params)
    assert "add" in ops(made.raised())
    made.holds()


def test_a_parameter_of_another_module_is_no_bias() -> None:
    b = Draft()
    x = b.input("x", 2, 4)
    inner = (Scope("", "Model"), Scope("linear", "Linear"))
    b.scope = inner
    y = b.linear(x, b.param("linear.w", 4, 4), None, weight_layout="io")
    b.scope = inner[:1]
    graph = b.graph(b.add(y, b.param("position", 4)))
    raise_layers(graph)
    assert ops(graph) == ["linear", "add"]
