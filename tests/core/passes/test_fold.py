"""Changes of a parameter's shape move into its weight map, where all uses agree."""

from __future__ import annotations

import numpy as np
import pytest

from ivyport.core.ir import Graph, NewAxis, Param, Slice
from ivyport.core.passes.fold import fold_params, shortened
from ivyport.core.verify import verify
from tests.core.passes.jax_graphs import folded
from tests.graph_run import Draft, draw, ops, run
from tests.support import assert_close


def holds(graph: Graph) -> Graph:
    """Fold in place; values are those of before when the tensors are folded as it says."""
    arrays = draw(graph, {})
    before = run(graph, arrays)
    fold_params(graph)
    verify(graph)
    for path, param in graph.params.items():
        arrays[path] = folded(arrays[path], param)
    for ours, theirs in zip(run(graph, arrays), before, strict=True):
        assert_close(ours, theirs)
    return graph


def test_a_chain_is_folded() -> None:
    b = Draft()
    w = b.param("w", 2, 8, 3)
    matrix = b.reshape(b.permute_dims(w, axes=(1, 0, 2)), shape=(8, 6))
    graph = holds(b.graph(b.matmul(b.input("x", 4, 8), matrix)))
    assert ops(graph) == ["matmul"]
    assert graph.params["w"].folds == (
        ("permute_dims", (1, 0, 2)),
        ("reshape", (8, 2, 3), (8, 6)),
    )


def test_indices_and_flips_are_folded() -> None:
    b = Draft()
    w = b.param("w", 1, 4, 5)
    cut = b.getitem(w, index=(0, Slice(), NewAxis(), Slice()))
    y = b.add(b.input("x", 4, 2, 5), b.flip(cut, axis=(0, -1)))
    graph = holds(b.graph(y))
    assert ops(graph) == ["add"]
    assert graph.params["w"].folds == (
        ("select", 0, 0),
        ("reshape", (4, 5), (4, 1, 5)),
        ("flip", (0, 2)),
    )


def test_a_tensor_of_which_a_part_is_used_stays_whole() -> None:
    b = Draft()
    w = b.param("w", 3, 4)
    graph = holds(b.graph(b.add(b.input("x", 2, 4), b.getitem(w, index=(1,)))))
    assert ops(graph) == ["getitem", "add"]
    assert graph.params["w"].folds == ()


def test_equal_uses_are_folded_once() -> None:
    b = Draft()
    w, x = b.param("w", 4, 8), b.input("x", 2, 8)
    first = b.matmul(x, b.permute_dims(w, axes=(1, 0)))
    second = b.matmul(b.tanh(x), b.permute_dims(w, axes=(1, 0)))
    graph = holds(b.graph((first, second)))
    assert ops(graph) == ["matmul", "tanh", "matmul"]
    assert graph.params["w"].folds == (("permute_dims", (1, 0)),)


@pytest.mark.parametrize("other", ["plain", "reshaped", "output"])
def test_uses_that_differ_keep_the_parameter(other: str) -> None:
    b = Draft()
    w = b.param("w", 4, 8)
    first = b.matmul(b.input("x", 2, 8), b.permute_dims(w, axes=(1, 0)))
    second = {
        "plain": lambda: b.tanh(w),
        "reshaped": lambda: b.tanh(b.reshape(w, shape=(32,))),
        "output": lambda: w,
    }[other]()
    graph = b.graph((first, second))
    before = ops(graph)
    fold_params(graph)
    assert ops(graph) == before
    assert graph.params["w"].folds == ()


@pytest.mark.parametrize("op", ["slice", "broadcast", "cast"])
def test_what_is_more_than_shape_stays(op: str) -> None:
    b = Draft()
    w = b.param("w", 4, 8)
    y = {
        "slice": lambda: b.getitem(w, index=(Slice(1, 3),)),
        "broadcast": lambda: b.broadcast_to(w, shape=(2, 4, 8)),
        "cast": lambda: b.astype(w, dtype="bfloat16"),
    }[op]()
    graph = b.graph(y)
    fold_params(graph)
    assert len(graph.nodes) == 1
    assert graph.params["w"].folds == ()


def test_steps_that_undo_each_other_go() -> None:
    assert shortened((("flip", (0,)), ("flip", (0,)))) == ()
    assert shortened((("reshape", (4,), (2, 2)), ("reshape", (2, 2), (4,)))) == ()
    kept = (("permute_dims", (1, 0)), ("reshape", (2, 3), (6,)))
    assert shortened(kept) == kept


def test_earlier_folds_come_first() -> None:
    b = Draft()
    w = b.param("w", 4, 8)
    b.params["w"].folds = (("select", 0, 2),)
    graph = b.graph(b.tanh(b.reshape(w, shape=(32,))))
    fold_params(graph)
    param: Param = graph.params["w"]
    assert param.folds == (("select", 0, 2), ("reshape", (4, 8), (32,)))
    stacked = np.arange(3 * 32, dtype=np.float32).reshape(3, 4, 8)
    assert np.array_equal(folded(stacked.swapaxes(0, 0), param), np.arange(64, 96))
