"""Indices out of bounds and negative ones: what JAX does with them, torch ports do too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

import ivyport
from tests.cases.numerics import check_to_torch

X = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
FAR = np.int32([0, -1, 7, 2, -9])
V = np.float32([1, 2, 3, 4])

READS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "take": (lambda x, i: jnp.take(x, i, axis=0), [X, FAR]),
    "take_columns": (lambda x, i: jnp.take(x, i, axis=1), [X, FAR]),
    "take_integers": (lambda x, i: jnp.take(x, i), [np.int32([5, 6]), FAR]),
    "take_unsigned": (lambda x, i: jnp.take(x, i), [np.uint8([5, 6]), FAR]),
    "take_clip": (lambda x, i: jnp.take(x, i, axis=0, mode="clip"), [X, FAR]),
    "get_fill": (lambda x, i: x.at[i].get(mode="fill", fill_value=7.0), [X, FAR]),
    "get_clip": (lambda x, i: x.at[i].get(mode="clip"), [X, FAR]),
    "get_pairs": (
        lambda x, i, j: x.at[i, j].get(mode="fill"),
        [X, np.int32([0, -1, 9]), np.int32([0, -7, 2])],
    ),
    "get_without_wrap": (
        lambda x, i: x.at[i].get(mode="fill", wrap_negative_indices=False),
        [X, FAR],
    ),
    "negative_within": (lambda x, i: x[i], [X, np.int32([0, -1, -3])]),
    "along_axis": (
        lambda x, i: jnp.take_along_axis(x, i, axis=-1),
        [X, np.int32([[0], [-1], [9]])],
    ),
    "along_axis_far_negative": (
        lambda x, i: jnp.take_along_axis(x, i, axis=-1),
        [X, np.int32([[-5], [-4], [3]])],
    ),
    "one_hot": (lambda i: jax.nn.one_hot(i, 3), [FAR]),
}


@pytest.mark.parametrize("form", READS)
def test_reads(form: str) -> None:
    function, args = READS[form]
    check_to_torch(function, *args)


WRITES: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "add": (lambda x, i, v: x.at[i].add(v[:, None]), [X, FAR[:4], V]),
    "add_drop": (lambda x, i, v: x.at[i].add(v[:, None], mode="drop"), [X, FAR[:4], V]),
    "add_clip": (lambda x, i, v: x.at[i].add(v[:, None], mode="clip"), [X, FAR[:4], V]),
    "add_without_wrap": (
        lambda x, i, v: x.at[i].add(v, wrap_negative_indices=False),
        [X[0], np.int32([0, -1, 7, 2]), V],
    ),
    "add_pairs": (
        lambda x, i, j, v: x.at[i, j].add(v),
        [X, np.int32([0, -1, 9, 1]), np.int32([0, -7, 2, 1]), V],
    ),
    "set": (lambda x, i, v: x.at[i].set(v[:, None]), [X, np.int32([0, -1, 7, -9]), V]),
    "set_columns": (lambda x, i: x.at[:, i].set(0.5), [X, np.int32([0, -1, 9])]),
    "set_number": (lambda x, i: x.at[i].set(0.5), [X, np.int32([7])]),
    "set_scalar": (lambda x, i: x.at[i].set(0.5), [X, np.int32(7)]),
    "multiply": (lambda x, i: x.at[i].multiply(2.0), [X, FAR]),
    "max": (lambda x, i, v: x.at[i].max(5 * v[:, None]), [X, np.int32([0, 1, 7, 2]), V]),
    "min": (lambda x, i, v: x.at[i].min(v[:, None]), [X, np.int32([0, 1, 7, 2]), V]),
    "integers": (lambda x, i: x.at[i].add(1), [np.int32([0, 0, 0]), FAR]),
    "bools": (lambda x, i: x.at[i].set(True), [np.zeros(3, bool), np.int32([0, -1, 5])]),
    "segment_sum": (lambda x, i: jax.ops.segment_sum(x, i, 5), [V, np.int32([0, -1, 2, 2])]),
    "segment_sum_past": (
        lambda x, i: jax.ops.segment_sum(x, i, 3),
        [X.T, np.int32([0, 5, -1, 2])],
    ),
    "segment_max": (lambda x, i: jax.ops.segment_max(x, i, 5), [V, np.int32([0, -1, 2, 2])]),
    "segment_min_past": (
        lambda x, i: jax.ops.segment_min(x, i, 3),
        [V, np.int32([0, 5, 2, 2])],
    ),
    "bincount": (lambda i: jnp.bincount(i, length=3), [np.int32([0, 5, 2, 2, -4])]),
    "bincount_weights": (
        lambda i, w: jnp.bincount(i, w, length=3),
        [np.int32([0, 5, 2, 2]), V],
    ),
    "repeat_last_of_none": (
        lambda x, r: jnp.repeat(x, r, total_repeat_length=5),
        [V[:3], np.int32([2, 3, 0])],
    ),
    "repeat_beyond": (
        lambda x, r: jnp.repeat(x, r, total_repeat_length=3),
        [V[:3], np.int32([2, 2, 2])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", WRITES)
def test_writes(form: str) -> None:
    function, args = WRITES[form]
    check_to_torch(function, *args)


def test_segment_prod_drops_negative_segments() -> None:
    """JAX has no gradient of it."""
    ids = np.int32([0, -1, 2, 2])
    check_to_torch(lambda x, i: jax.ops.segment_prod(x, i, 5), V, ids, gradient=False)


def test_windows_that_would_leave_are_dropped_whole() -> None:
    numbers = jax.lax.ScatterDimensionNumbers((1,), (), (0,))

    def add(x: Any, i: Any, v: Any) -> Any:
        return jax.lax.scatter_add(x, i[:, None], v, numbers)

    args = X[0], np.int32([0, 3, -1]), np.ones((3, 2), np.float32)
    check_to_torch(add, *args, dims={"x": {0: None}, "i": {0: None}, "v": {0: None}})


def test_a_table_of_the_model_is_an_embedding() -> None:
    """Which raises for an id out of bounds, as torch does; it is one readable call."""
    model = nnx.Embed(5, 3, rngs=nnx.Rngs(0))
    ids = jnp.int32([[0, 4]])
    port = ivyport.transpile(model, "torch", (ids,))
    np.testing.assert_array_equal(
        port(torch.tensor([[0, 4]])).detach().numpy(), model(ids)
    )
    with pytest.raises(IndexError):
        port(torch.tensor([[5, 0]]))


def test_a_port_of_jax_to_nnx_keeps_the_modes() -> None:
    def model(x: Any, i: Any) -> Any:
        return jnp.take(x, i, axis=0), x.at[i].add(1.0), jnp.take_along_axis(x, i, 0)

    args = (jnp.asarray(X[:, 0]), jnp.asarray(FAR))
    port = ivyport.transpile(model, "jax", args)
    for ours, theirs in zip(port(*args), model(*args), strict=True):
        np.testing.assert_array_equal(ours, theirs)
