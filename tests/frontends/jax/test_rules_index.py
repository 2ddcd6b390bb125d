"""Slices, gathers and scatters: what indexing in jax.numpy traces to."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ivyport.core.errors import UnsupportedOpsError
from tests.frontends.jax.lowered import check, check_symbolic, lower, normal, whole

X = normal(4, 5, 6)
M = normal(7, 3)
V = normal(6)
I = whole(4, 2, 3)  # noqa: E741 (indices)
J = whole(5, 2, 3, seed=1)
N = np.int32(2)

GETS: dict[str, tuple[Any, list[Any], list[str] | None]] = {
    "integer": (lambda x: x[1], [X], ["getitem", "getitem"]),
    "negative": (lambda x: x[..., -1], [X], ["getitem", "getitem"]),
    "slice": (lambda x: x[1:3, ::2], [X], ["getitem"]),
    "reversed": (lambda x: x[::-1, 1:], [X], None),
    "reversed_step": (lambda x: x[:, ::-2], [X], None),
    "new_axis": (lambda x: x[:, None, 0], [X], None),
    "ellipsis": (lambda x: x[1, ..., 2:4], [X], None),
    "array": (lambda x, i: x[i], [X, I], None),
    "array_middle": (lambda x, i: x[:, i], [X, I], None),
    "array_last": (lambda x, i: x[..., i], [X, I], None),
    "array_negative": (lambda x, i: x[i - 4], [X, I], None),
    "array_constant": (lambda x: x[jnp.array([2, 0])], [X], None),
    "two_arrays": (lambda x, i, j: x[i, j], [X, I, J], None),
    "two_arrays_apart": (lambda x, i, j: x[i, :, j], [X, I, J], None),
    "two_arrays_broadcast": (lambda x, i, j: x[i[:, :1], j], [X, I, J], None),
    "three_arrays": (lambda x, i, j: x[i, j, j], [X, I, J], None),
    "array_and_slice": (lambda x, i: x[i, 1:3], [X, I], None),
    "array_and_integer": (lambda x, i: x[i, 2], [X, I], None),
    "array_and_new_axis": (lambda x, i: x[:, None, i], [X, I], None),
    "row_of_each": (lambda x, j: x[jnp.arange(4), j], [X, whole(5, 4)], None),
    "take": (lambda x, i: jnp.take(x, i, axis=1), [X, I], None),
    "take_clip": (
        lambda x, i: jnp.take(x, i, axis=1, mode="clip"),
        [X, I * 5 - 3],
        None,
    ),
    "take_fill": (
        lambda x, i: jnp.take(x, i, axis=0, mode="fill", fill_value=-1.0),
        [X, I * 2],
        None,
    ),
    "take_ints": (lambda x, i: jnp.take(x, i), [whole(9, 7), I], None),
    "take_bools": (lambda x, i: jnp.take(x, i), [V > 0, I], None),
    "take_flat": (lambda x, i: jnp.take(x, i), [X, I], None),
    "rows": (lambda x, i: x[i], [M, I], None),
    "take_along_axis": (
        lambda x, i: jnp.take_along_axis(x, i, axis=1),
        [X, whole(5, 4, 2, 6)],
        None,
    ),
    "take_along_last": (
        lambda x, i: jnp.take_along_axis(x, i, axis=-1),
        [M, whole(3, 7, 1)],
        None,
    ),
    "take_along_axis_negative": (
        lambda x, i: jnp.take_along_axis(x, i - 3, axis=-1),
        [M, whole(3, 7, 2)],
        None,
    ),
    "take_along_axis_broadcast": (
        lambda x, i: jnp.take_along_axis(x, i, axis=0),
        [M, whole(7, 2, 1)],
        None,
    ),
    "choose": (
        lambda i, x: jnp.choose(i, [x, x + 1, x * 2], mode="clip"),
        [whole(3, 6), V],
        None,
    ),
    "diagonal": (lambda x: jnp.diagonal(x), [normal(4, 4)], None),
    "trace": (lambda x: jnp.trace(x), [normal(4, 4)], None),
    "diag": (lambda x: jnp.diag(x), [V], None),
    "triu_indices": (lambda x: x[jnp.triu_indices(4)], [normal(4, 4)], None),
    "dynamic_slice": (
        lambda x, n: lax.dynamic_slice(x, (n, 0, 1), (2, 5, 3)),
        [X, N],
        None,
    ),
    "dynamic_slice_clamped": (
        lambda x, n: lax.dynamic_slice_in_dim(x, n + 9, 2),
        [X, N],
        None,
    ),
    "dynamic_index": (lambda x, n: x[n], [X, N], None),
    "dynamic_index_middle": (lambda x, n: x[:, n], [X, N], None),
    "dynamic_slice_known": (
        lambda x: lax.dynamic_slice(x, (1, 0, 9), (2, 5, 3)),
        [X],
        ["getitem"],
    ),
    "batched_slices": (
        jax.vmap(lambda x, n: lax.dynamic_slice_in_dim(x, n, 2)),
        [X, whole(6, 4)],
        None,
    ),
    "batched_indices": (jax.vmap(lambda x, i: x[i]), [X, whole(5, 4, 3)], None),
    "batched_pairs": (
        jax.vmap(lambda x, i, j: x[i, j]),
        [X, whole(5, 4, 3), whole(6, 4, 3)],
        None,
    ),
}


@pytest.mark.parametrize("form", GETS)
def test_get(form: str) -> None:
    function, args, expect = GETS[form]
    check(function, *args, expect=expect)


SETS: dict[str, tuple[Any, list[Any]]] = {
    "integer": (lambda x: x.at[1].set(2.0), [X]),
    "slice": (lambda x: x.at[:, 1:3].set(0.0), [X]),
    "slice_of_values": (lambda x, v: x.at[:, 1].set(v), [X, normal(4, 6)]),
    "slice_add": (lambda x: x.at[1:, 2].add(1.0), [X]),
    "strided": (lambda x: x.at[:, ::2].set(0.0), [X]),
    "array": (lambda x, i: x.at[i].set(3.0), [X, np.int32([2, 0])]),
    "array_of_values": (
        lambda x, i, v: x.at[i].set(v),
        [X, np.int32([2, 0]), normal(2, 5, 6)],
    ),
    "array_add_repeated": (lambda x, i: x.at[i].add(1.0), [M, whole(7, 9)]),
    "array_last": (
        lambda x, i, v: x.at[..., i].set(v),
        [X, np.int32([2, 0]), normal(4, 5, 2)],
    ),
    "two_arrays": (
        lambda x, i, j, v: x.at[i, j].add(v),
        [X, I, J, normal(2, 3, 6)],
    ),
    "two_arrays_apart": (
        lambda x, i, j, v: x.at[i, :, j].add(v),
        [X, I, J, normal(2, 3, 5)],
    ),
    "subtract": (lambda x, i: x.at[i].subtract(2.0), [M, whole(7, 4)]),
    "multiply": (lambda x, i: x.at[i].multiply(2.0), [M, whole(7, 9)]),
    "min": (lambda x, i, v: x.at[i].min(v), [M, whole(7, 9), normal(9, 3)]),
    "max": (lambda x, i, v: x.at[i].max(v), [M, whole(7, 9), normal(9, 3)]),
    "dynamic": (
        lambda x, n, v: lax.dynamic_update_slice(x, v, (n, 0, 9)),
        [X, N, normal(1, 5, 2)],
    ),
    "dynamic_index": (lambda x, n, v: x.at[n].set(v), [X, N, normal(5, 6)]),
    "dynamic_known": (
        lambda x, v: lax.dynamic_update_slice(x, v, (1, 0, 3)),
        [X, normal(2, 5, 2)],
    ),
    "segment_sum": (
        lambda x, i: jax.ops.segment_sum(x, i, num_segments=4),
        [M, whole(4, 7)],
    ),
    "segment_max": (
        lambda x, i: jax.ops.segment_max(x, i, num_segments=4),
        [M, np.int32([0, 1, 2, 3, 3, 0, 1])],
    ),
    "bincount": (lambda i: jnp.bincount(i, length=5), [whole(5, 9)]),
    "batched": (
        jax.vmap(lambda x, i, v: x.at[i].set(v)),
        [normal(4, 6), whole(6, 4, 1), normal(4, 1)],
    ),
    "whole": (lambda x, v: x.at[:].set(v), [V, normal(6, seed=3)]),
    "fill_diagonal": (
        lambda x: jnp.fill_diagonal(x, 1.0, inplace=False),
        [normal(4, 4)],
    ),
}


@pytest.mark.parametrize("form", SETS)
def test_set(form: str) -> None:
    function, args = SETS[form]
    check(function, *args, rtol=5e-6)


def test_take_becomes_take_without_the_wrap_of_negative_indices() -> None:
    graph = lower(lambda x, i: jnp.take(x, i, axis=1), X, I).graph
    take = graph.nodes[-1]
    assert take.op == "take"
    assert take.inputs == (graph.inputs[0], graph.inputs[1])


def test_take_along_axis_fills_without_the_wrap() -> None:
    graph = lower(lambda x, i: jnp.take_along_axis(x, i, -1), M, whole(3, 7, 1)).graph
    node = graph.nodes[-1]
    assert (node.op, node.inputs) == ("take_along_axis", tuple(graph.inputs))
    assert math.isnan(node.attrs["fill"])


def test_indices_that_are_proved_to_be_within_are_not_filled() -> None:
    graph = lower(lambda x: jnp.take_along_axis(x, jnp.argsort(x), -1), M).graph
    assert graph.nodes[-1].attrs["fill"] is None
    graph = lower(lambda x, i: jnp.take(x, i % 7, axis=0), M, whole(9, 3)).graph
    assert graph.nodes[-1].attrs["fill"] is None


def test_symbolic_axes() -> None:
    check_symbolic(
        lambda x, i: (x[i], jnp.take(x, i, axis=1), x[:, 2], x.at[:, 1].add(1.0)),
        "B, S; S",
        [normal(4, 5), whole(4, 5)],
        [normal(6, 7), whole(6, 7)],
    )


def test_symbolic_row_of_each() -> None:
    check_symbolic(
        lambda x, i: x[jnp.arange(x.shape[0]), i],
        "B, 4; B",
        [normal(3, 4), whole(4, 3)],
        [normal(5, 4), whole(4, 5)],
    )


def test_functions_of_elements() -> None:
    check(lambda x: x.at[1].apply(jnp.sin), V)


@pytest.mark.parametrize("how", ["min", "max"])
def test_updates_of_bools(how: str) -> None:
    x, v, i = V > 0, normal(3, seed=2) > 0, np.int32([0, 4, 4])
    check(lambda x, i, v: getattr(x.at[i], how)(v), x, i, v)


def test_updates_that_overlap_are_refused() -> None:
    numbers = lax.ScatterDimensionNumbers((0,), (), ())
    with pytest.raises(UnsupportedOpsError, match="several times over"):
        lower(
            lambda x, v: lax.scatter_add(x, jnp.zeros((2, 0), jnp.int32), v, numbers),
            V,
            normal(6, 2),
        )
