"""Shapes, creation, reductions and order, against JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.frontends.jax.lowered import check, check_symbolic, normal, whole

X = normal(2, 3, 4)
V = normal(5)
I = whole(9, 4, 5)  # noqa: E741 (integers)
T = normal(3, 4) > 0

FORMS: dict[str, tuple[Any, list[Any], list[str] | None]] = {
    "broadcast_to": (
        lambda x: jnp.broadcast_to(x, (3, 5)),
        [V],
        ["reshape", "broadcast_to"],
    ),
    "broadcast_middle": (
        lambda x: lax.broadcast_in_dim(x, (2, 5, 3), (1,)),
        [V],
        ["reshape", "broadcast_to"],
    ),
    "broadcast_number": (lambda x: x + jnp.full((5,), 2.0), [V], ["full", "add"]),
    "expand_dims": (lambda x: x[:, None], [V], ["reshape"]),
    "squeeze": (lambda x: jnp.squeeze(x, 1), [normal(2, 1, 3)], ["reshape"]),
    "reshape": (lambda x: x.reshape(-1, 2), [X], ["reshape"]),
    "ravel_fortran": (lambda x: x.ravel(order="F"), [X], None),
    "transpose": (lambda x: x.transpose(2, 0, 1), [X], ["permute_dims"]),
    "swapaxes": (lambda x: jnp.swapaxes(x, 0, 2), [X], ["permute_dims"]),
    "moveaxis": (lambda x: jnp.moveaxis(x, 0, -1), [X], ["permute_dims"]),
    "flip": (lambda x: x[::-1], [V], ["flip"]),
    "concatenate": (
        lambda x, y: jnp.concatenate([x, y], -1),
        [X, X],
        ["concat"],
    ),
    "stack": (lambda x, y: jnp.stack([x, y], 1), [X, X], None),
    "split": (lambda x: jnp.split(x, [1, 3], -1), [X], ["split"]),
    "split_even": (lambda x: jnp.split(x, 2, -1), [X], ["split"]),
    "unstack": (lambda x: jnp.unstack(x, axis=1), [X], None),
    "tile": (lambda x: jnp.tile(x, (2, 1, 3)), [X], None),
    "repeat": (lambda x: jnp.repeat(x, 2, axis=1), [X], None),
    "roll": (lambda x: jnp.roll(x, 2, axis=-1), [X], None),
    "roll_two": (lambda x: jnp.roll(x, (1, -1), axis=(0, 2)), [X], None),
    "iota": (
        lambda x: x + lax.broadcasted_iota(jnp.int32, (4, 5), 0),
        [I],
        ["arange", "reshape", "broadcast_to", "add"],
    ),
    "arange": (lambda x: x + jnp.arange(5), [I], None),
    "arange_step": (lambda x: x + jnp.arange(0, 10, 2), [I], None),
    "linspace": (lambda x: x * jnp.linspace(0.0, 1.0, 5), [V], None),
    "eye": (lambda x: x @ jnp.eye(5), [V], None),
    "zeros_like": (lambda x: jnp.zeros_like(x) + x, [V], ["full", "add"]),
    "pad": (lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1))), [X], ["pad"]),
    "pad_value": (lambda x: jnp.pad(x, 1, constant_values=-jnp.inf), [V], ["pad"]),
    "pad_reflect": (lambda x: jnp.pad(x, 2, mode="reflect"), [V], None),
    "pad_edge": (lambda x: jnp.pad(x, 2, mode="edge"), [V], None),
    "pad_crop": (lambda x: lax.pad(x, 0.0, [(-1, 2, 0)]), [V], ["pad"]),
    "pad_interior": (lambda x: lax.pad(x, 7.0, [(1, 2, 3)]), [V], None),
    "pad_interior_axis": (
        lambda x: lax.pad(x, -1.0, [(0, 0, 1), (0, 0, 0), (-1, 1, 2)]),
        [X],
        None,
    ),
    "pad_computed_value": (lambda x: lax.pad(x, x[0], [(1, 2, 0)]), [V], None),
    # reductions
    "sum": (lambda x: x.sum((0, 2)), [X], ["sum"]),
    "sum_all": (lambda x: x.sum(), [X], ["sum"]),
    "sum_keepdims": (lambda x: x.sum(-1, keepdims=True), [X], ["sum", "reshape"]),
    "sum_bools": (lambda x: x.sum(0), [T], ["astype", "sum"]),
    "sum_half": (lambda x: x.sum(-1), [X.astype(jnp.bfloat16)], None),
    "mean": (lambda x: x.mean(-1), [X], ["sum", "divide"]),
    "var": (lambda x: x.var(-1, ddof=1), [X], None),
    "std": (lambda x: x.std((0, 1)), [X], None),
    "prod": (lambda x: x.prod(-1), [X], ["prod"]),
    "max": (lambda x: x.max(1), [X], ["max"]),
    "min_ints": (lambda x: x.min(1), [I], ["min"]),
    "max_bools": (lambda x: lax.reduce_max(x, (0,)), [T], ["any"]),
    "any": (lambda x: x.any(0), [T], ["any"]),
    "all": (lambda x: x.all(), [T], ["all"]),
    "argmax": (lambda x: x.argmax(-1), [X], ["argmax", "astype"]),
    "argmin": (lambda x: x.argmin(0), [X], ["argmin", "astype"]),
    "argmax_flat": (lambda x: x.argmax(), [X], None),
    "reduce_of_its_own": (
        lambda x: lax.reduce(x, 2.0, lambda a, b: a * b, (1,)),
        [X],
        ["prod", "multiply"],
    ),
    "norm": (lambda x: jnp.linalg.norm(x, axis=-1), [X], None),
    "median": (lambda x: jnp.median(x, axis=-1), [X], None),
    "count_nonzero": (lambda x: jnp.count_nonzero(x, axis=0), [T], None),
    "cumsum": (lambda x: x.cumsum(1), [X], ["cumulative_sum"]),
    "cumsum_reverse": (
        lambda x: lax.cumsum(x, 1, reverse=True),
        [X],
        ["flip", "cumulative_sum", "flip"],
    ),
    "cumprod": (lambda x: x.cumprod(0), [X], ["cumulative_prod"]),
    "cummax": (lambda x: lax.cummax(x, 2), [X], ["cumulative_max"]),
    "cummin": (lambda x: lax.cummin(x, 2), [X], ["cumulative_min"]),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), [X], ["cumulative_logsumexp"]),
    # order
    "sort": (lambda x: jnp.sort(x, axis=1), [X], ["sort"]),
    "sort_descending": (lambda x: jnp.sort(x, descending=True), [X], None),
    "argsort": (lambda x: jnp.argsort(x, axis=1), [X], None),
    "sort_by_a_key": (
        lambda x, y: lax.sort((x, y), num_keys=1),
        [V, V * 2],
        ["sort", "take_along_axis"],
    ),
    "sort_by_two_keys": (
        lambda x, y, z: lax.sort((x, y, z), num_keys=2),
        [whole(2, 9), whole(3, 9, seed=1), np.arange(9, dtype=np.int32)],
        None,
    ),
    "lexsort": (
        lambda x, y: jnp.lexsort((x, y)),
        [whole(2, 9), whole(3, 9, seed=1)],
        None,
    ),
    "top_k": (lambda x: lax.top_k(x, 2), [X], ["topk", "astype"]),
    # products
    "matmul": (jnp.matmul, [X, normal(2, 4, 5)], ["matmul"]),
    "matmul_matrix": (jnp.matmul, [X, normal(4, 5)], ["matmul"]),
    "matmul_broadcast": (jnp.matmul, [X, normal(5, 1, 4, 6)], None),
    "vector_matrix": (jnp.matmul, [V, normal(5, 2)], ["matmul"]),
    "matrix_vector": (jnp.matmul, [normal(2, 5), V], ["matmul"]),
    "dot": (jnp.dot, [V, V], ["matmul"]),
    "transposed": (lambda x, w: x @ w.T, [X, normal(6, 4)], None),
    "tensordot": (
        lambda x, y: jnp.tensordot(x, y, 2),
        [X, normal(3, 4, 5)],
        ["einsum"],
    ),
    "heads": (
        lambda q, k: jnp.einsum("bthd,bshd->bhts", q, k),
        [normal(2, 3, 4, 5), normal(2, 6, 4, 5)],
        ["einsum"],
    ),
    "scores_by_value": (
        lambda w, v: jnp.einsum("bhts,bshd->bthd", w, v),
        [normal(2, 4, 3, 6), normal(2, 6, 4, 5)],
        None,
    ),
    "outer": (jnp.outer, [V, V], None),
    "wide_accumulation": (
        lambda x, y: jnp.matmul(x, y, preferred_element_type=jnp.float32),
        [normal(2, 3).astype(jnp.bfloat16), normal(3, 4).astype(jnp.bfloat16)],
        ["astype", "astype", "matmul"],
    ),
    "int_product": (
        lambda x, y: lax.dot(x, y, preferred_element_type=jnp.int32),
        [whole(5, 2, 3).astype(np.int8), whole(5, 3, 2).astype(np.int8)],
        None,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str) -> None:
    function, args, expect = FORMS[form]
    check(function, *args, expect=expect, rtol=5e-6)


SYMBOLIC: dict[str, tuple[Any, str, list[list[Any]]]] = {
    "flatten": (
        lambda x: x.reshape(x.shape[0], -1),
        "B, S, 3",
        [[normal(2, 4, 3)], [normal(3, 1, 3)]],
    ),
    "heads": (
        lambda x: x.reshape(*x.shape[:2], 2, -1).swapaxes(1, 2),
        "B, S, 8",
        [[normal(2, 4, 8)], [normal(3, 1, 8)]],
    ),
    "positions": (
        lambda x: x + jnp.arange(x.shape[1]),
        "B, S",
        [[normal(2, 4)], [normal(3, 5)]],
    ),
    "causal": (
        lambda x: jnp.where(jnp.tril(jnp.ones((x.shape[1],) * 2, bool)), x, -1.0),
        "S, S",
        [[normal(4, 4)], [normal(5, 5)]],
    ),
    "zeros": (
        lambda x: jnp.zeros((x.shape[0], 7)) + x[:, :1],
        "B, 3",
        [[normal(2, 3)], [normal(5, 3)]],
    ),
    "class_token": (
        lambda x, t: jnp.concatenate(
            [jnp.broadcast_to(t, (x.shape[0], 1, 3)), x], axis=1
        ),
        "B, S, 3; 1, 1, 3",
        [[normal(2, 4, 3), normal(1, 1, 3)], [normal(3, 1, 3), normal(1, 1, 3)]],
    ),
    "mean": (
        lambda x: x.mean((0, 1)),
        "B, S, 3",
        [[normal(2, 4, 3)], [normal(3, 1, 3)]],
    ),
    "repeat_batch": (
        lambda x: jnp.repeat(x, 2, axis=0),
        "B, 3",
        [[normal(2, 3)], [normal(3, 3)]],
    ),
    "last_token": (
        lambda x: x[:, -1],
        "B, S, 3",
        [[normal(2, 4, 3)], [normal(3, 2, 3)]],
    ),
    "shifted": (
        lambda x: x[:, 1:] - x[:, :-1],
        "B, S, 3",
        [[normal(2, 4, 3)], [normal(3, 2, 3)]],
    ),
    "strided": (
        lambda x: x[:, ::2],
        "B, 7",
        [[normal(2, 7)], [normal(3, 7)]],
    ),
    "every_second": (
        lambda x: x[::2],
        "B, 3",
        [[normal(4, 3)], [normal(5, 3)]],
    ),
}


@pytest.mark.parametrize("form", SYMBOLIC)
def test_symbolic(form: str) -> None:
    function, shapes, samples = SYMBOLIC[form]
    check_symbolic(function, shapes, *samples)


def test_products_of_any_axes() -> None:
    x, y = normal(2, 3, 4, 5), normal(5, 2, 4, 6)
    numbers = (((3, 2), (0, 2)), ((0,), (1,)))
    check(lambda x, y: lax.dot_general(x, y, numbers), x, y, expect=["einsum"])


def test_transposed_batch_products() -> None:
    x, y = normal(2, 3, 4), normal(2, 5, 4)
    numbers = (((2,), (2,)), ((0,), (0,)))
    check(
        lambda x, y: lax.dot_general(x, y, numbers),
        x,
        y,
        expect=["permute_dims", "matmul"],
    )


def test_keeps_half_precision() -> None:
    x = jnp.asarray(normal(3, 4), jnp.bfloat16)
    assert jax.eval_shape(lambda x: x @ x.T, x).dtype == jnp.bfloat16
    check(lambda x: x @ x.T, x)
