"""Transposes move to where they cancel; every graph keeps its values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from ivyport.core.dims import symbol
from ivyport.core.ir import Graph, NewAxis, Slice, Value
from ivyport.core.passes.layout import (
    assign_layouts,
    channels_last,
    compose,
    inverse,
)
from ivyport.core.passes.simplify import simplify
from tests.graph_fuzz import Fuzz
from tests.graph_run import Draft, ops, preserves

B, S, H, W = (symbol(n) for n in "BSHW")
FULL = Slice()
to_jax = partial(assign_layouts, images="channels_last", attention="bshd")
to_torch = partial(assign_layouts, images="channels_first", attention="bhsd")
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def transposes(graph: Graph) -> int:
    return ops(graph).count("permute_dims")


def rewritten(graph: Graph, **options: Any) -> Graph:
    """Layouts assigned and what is left simplified, values kept."""

    def change(graph: Graph) -> None:
        to_jax(graph)
        simplify(graph)

    return preserves(graph, change, **{"rtol": 1e-6, **options})


def test_permutations() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    for _ in range(50):
        p, q = (tuple(map(int, rng.permutation(4))) for _ in range(2))
        assert (x.transpose(p).transpose(q) == x.transpose(compose(p, q))).all()
        assert compose(p, inverse(p)) == compose(inverse(p), p) == (0, 1, 2, 3)
    assert x.transpose(TO_LAST).transpose(channels_last(4)).shape == x.shape


ALONG: dict[str, Callable[[Draft, Value], Value]] = {
    "unary": lambda b, x: b.tanh(x),
    "scalar": lambda b, x: b.multiply(b.add(x, 1.0), 0.5),
    "row": lambda b, x: b.multiply(x, b.param("row", 6)),
    "column": lambda b, x: b.add(x, b.param("column", 5, 1)),
    "corner": lambda b, x: b.add(x, b.param("corner", 1)),
    "softmax": lambda b, x: b.softmax(x, axis=-1),
    "softmax first": lambda b, x: b.softmax(x, axis=1),
    "mean": lambda b, x: b.mean(x, axis=(1, 3), keepdims=True),
    "concat": lambda b, x: b.concat(x, b.exp(x), axis=2),
    "index": lambda b, x: b.getitem(x, index=(FULL, Slice(1, 3), FULL, Slice(0, 4))),
    "pad": lambda b, x: b.pad(x, padding=((0, 0), (1, 0), (0, 2), (3, 1))),
    "broadcast": lambda b, x: b.broadcast_to(
        b.getitem(x, index=(FULL, Slice(0, 1))), shape=(B, 3, 5, 6)
    ),
    "where": lambda b, x: b.where(b.greater(x, 0.0), x, b.param("row", 6)),
}


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("axes", [(0, 2, 1, 3), (3, 1, 0, 2), TO_LAST], ids=str)
def test_permutations_that_cancel_go(name: str, axes: tuple[int, ...]) -> None:
    b = Draft()
    shape = (B, 3, 5, 6)
    x = b.input("x", *(shape[a] for a in inverse(axes)))
    y = ALONG[name](b, b.permute_dims(x, axes=axes))
    if y.type.rank == 4:
        y = b.permute_dims(y, axes=inverse(axes))
    graph = rewritten(b.graph(y))
    assert transposes(graph) <= (name in ("row", "column", "where"))


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (1, 2, 3, 0)], ids=str)
def test_permutations_that_do_not_cancel_stay(axes: tuple[int, ...]) -> None:
    b = Draft()
    y = b.tanh(b.permute_dims(b.input("x", B, 3, 5, 6), axes=axes))
    graph = rewritten(b.graph(b.permute_dims(y, axes=axes)))
    assert transposes(graph) == 1


def test_a_permutation_before_a_matmul_stays() -> None:
    b = Draft()
    x, y = b.input("x", B, 4, 6), b.input("y", B, 3, 6)
    graph = rewritten(b.graph(b.matmul(x, b.permute_dims(y, axes=(0, 2, 1)))))
    assert ops(graph) == ["permute_dims", "matmul"]


def images(b: Draft, x: Value) -> Value:
    """A convolution, a norm, a pool, another convolution: (B, 3, H, W) to (B, 5, ...)."""
    ones = {"stride": (1, 1), "dilation": (1, 1)}
    x = b.conv(
        x, b.param("w1", 4, 3, 3, 3), b.param("b1", 4), padding=((1, 1), (1, 1)), **ones
    )
    statistics = [b.param(n, 4) for n in ("scale", "bias", "mean")]
    x = b.batch_norm(
        x, *statistics, b.square(b.param("var", 4)), axis=1, eps=0.1, momentum=0.1
    )
    x = b.relu(x)
    x = b.max_pool(
        x, kernel=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1)
    )
    return b.conv(x, b.param("w2", 5, 4, 1, 1), None, padding=((0, 0),) * 2, **ones)


def test_images_turn_once_at_the_ends() -> None:
    b = Draft()
    graph = rewritten(b.graph(images(b, b.input("x", B, 3, H, W))), rtol=1e-5)
    first, *_, last = graph.nodes
    assert transposes(graph) == 2
    assert first.attrs["axes"] == TO_LAST
    assert last.attrs["axes"] == TO_FIRST
    layouts = {n.attrs["layout"] for n in graph.nodes if "layout" in n.attrs}
    assert layouts == {"channels_last"}
    (norm,) = [n for n in graph.nodes if n.op == "batch_norm"]
    assert norm.attrs["axis"] % 4 == 3


def test_images_pooled_to_features_turn_only_at_the_front() -> None:
    b = Draft()
    x = images(b, b.input("x", B, 3, H, W))
    graph = rewritten(b.graph(b.mean(x, axis=(2, 3), keepdims=False)), rtol=1e-5)
    assert transposes(graph) == 1


def test_images_to_tokens_do_not_turn_back() -> None:
    b = Draft()
    x = b.conv(
        b.input("x", B, 3, 8, 8), b.param("w", 6, 3, 2, 2), b.param("b", 6),
        stride=(2, 2), dilation=(1, 1), padding=((0, 0), (0, 0)),
    )  # fmt: skip
    tokens = b.permute_dims(b.reshape(x, shape=(B, 6, 16)), axes=(0, 2, 1))
    graph = rewritten(b.graph(tokens), rtol=1e-5)
    assert ops(graph) == ["permute_dims", "conv", "reshape"]


def test_a_flatten_that_mixes_channels_and_space_turns_back() -> None:
    b = Draft()
    x = images(b, b.input("x", B, 3, 8, 8))
    flat = b.reshape(x, shape=(B, 5 * 16))
    graph = rewritten(b.graph(b.linear(flat, b.param("w", 2, 80), None)), rtol=1e-5)
    assert transposes(graph) == 2


def test_a_target_of_the_source_s_layout_changes_nothing() -> None:
    b = Draft()
    graph = b.graph(images(b, b.input("x", B, 3, H, W)))
    before = ops(graph)
    assert ops(preserves(graph, to_torch, rtol=1e-6)) == before


def test_heads_are_cut_and_joined_without_transposes() -> None:
    b = Draft()
    x = b.input("x", B, S, 8)

    def heads(name: str) -> Value:
        y = b.linear(x, b.param(name, 8, 8), None)
        return b.permute_dims(b.reshape(y, shape=(B, S, 2, 4)), axes=(0, 2, 1, 3))

    out = b.attention(heads("q"), heads("k"), heads("v"), None)
    out = b.reshape(b.permute_dims(out, axes=(0, 2, 1, 3)), shape=(B, S, 8))
    graph = rewritten(b.graph(out), rtol=1e-5)
    assert transposes(graph) == 0
    (node,) = [n for n in graph.nodes if n.op == "attention"]
    assert node.attrs["layout"] == "bshd"


def test_a_mask_of_attention_keeps_its_layout() -> None:
    b = Draft()
    q, k, v = (b.input(n, B, 2, S, 4) for n in "qkv")
    bias = b.permute_dims(b.input("bias", S, S, 2), axes=(2, 0, 1))
    mask = b.getitem(bias, index=(NewAxis(),))
    graph = rewritten(b.graph(b.attention(q, k, v, mask)), rtol=1e-5)
    (node,) = [n for n in graph.nodes if n.op == "attention"]
    assert node.inputs[3].type.shape == (1, 2, S, S)


def test_every_output_gets_its_own_order_back() -> None:
    b = Draft()
    x = b.permute_dims(b.input("x", B, 3, H, W), axes=TO_LAST)
    y = b.tanh(x)
    graph = rewritten(b.graph({"x": x, "y": [y, b.exp(y), None]}))
    assert transposes(graph) == 3


# ---- random graphs


# Thirty graphs in every run, thirty more in the slow one.
@pytest.mark.parametrize(
    "block", [*range(3), *(pytest.param(i, marks=pytest.mark.slow) for i in (3, 4, 5))]
)
def test_random_graphs(block: int) -> None:
    """Ten graphs each; a failure names the seed, by which one is built again."""
    for seed in range(10 * block, 10 * block + 10):
        graph = Fuzz(seed).graph(14)
        try:
            preserves(graph, to_jax, rtol=1e-3)
        except Exception as error:
            raise AssertionError(f"Fuzz({seed}).graph(14)") from error


@pytest.mark.parametrize("block", range(2))
def test_random_graphs_through_all_passes(block: int) -> None:
    from ivyport.core.passes.raising import raise_layers

    def change(graph: Graph) -> None:
        simplify(graph)
        raise_layers(graph)
        to_jax(graph)
        simplify(graph)

    for seed in range(1000 + 10 * block, 1010 + 10 * block):
        try:
            preserves(Fuzz(seed).graph(14), change, rtol=1e-3)
        except Exception as error:
            raise AssertionError(f"Fuzz({seed}).graph(14)") from error
