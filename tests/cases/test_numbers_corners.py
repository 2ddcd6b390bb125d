"""Corners of single operations: not a number, ties, zeros, limits of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import lax

from tests.cases.numerics import check_to_jax, check_to_torch

NAN, INF = math.nan, math.inf
ODD = np.float32([NAN, INF, -INF, 0, 1.5, 2.5, -0.5, -1.5, 3e9, -3e9, 1e20, 255.7])
ROWS = np.float32([[0, 0], [3, 4]])

TO_TORCH: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "top_k_of_equals": (lambda x: lax.top_k(x, 2), [np.float32([[1, 1, 1], [3, 4, 4]])]),
    "top_k_nan": (lambda x: lax.top_k(x, 2)[1], [np.float32([[1, NAN, 3, NAN]])]),
    "sign": (jnp.sign, [ODD]),
    "to_int32": (lambda x: x.astype(jnp.int32), [ODD]),
    "to_int8": (lambda x: x.astype(jnp.int8), [ODD]),
    "to_uint8": (lambda x: x.astype(jnp.uint8), [ODD]),
    "floor_divide": (lambda x, y: x // y, [ODD[4:8], np.float32([2, -2, 3, 3])]),
    "round": (jnp.round, [ODD]),
    "remainder": (lambda i, j: (i % j, i // j, lax.rem(i, j), lax.div(i, j)),
                  [np.int32([7, -7, 7, -7]), np.int32([3, 3, -3, -3])]),
    "argmax": (lambda x: (x.argmax(-1), x.argmin(-1)), [np.float32([[1, 3, 3], [NAN, 1, NAN]])]),
    "sort": (lambda x: (jnp.sort(x), jnp.argsort(x)), [np.float32([2, 1, NAN, 2, 1])]),
    "cumprod_at_zero": (lambda x: jnp.cumprod(x, -1), [np.float32([[0, 2, 3], [0, 0, 3]])]),
    "prod_at_zero": (lambda x: x.prod(-1), [np.float32([[0, 2, 3], [0, 0, 3]])]),
    "overflow": (lambda i: (i * 40503 + 12345) % 97, [np.int32([999_999, 53_021, -1])]),
}  # fmt: skip


@pytest.mark.parametrize("form", TO_TORCH)
def test_from_jax(form: str) -> None:
    function, args = TO_TORCH[form]
    port = check_to_torch(function, *args)
    assert port is not None


def test_associative_scan_of_products_is_differentiated_inside() -> None:
    def gradient(x: Any) -> Any:
        return jax.grad(lambda y: lax.associative_scan(jnp.multiply, y).sum())(x)

    check_to_torch(gradient, np.float32([1, 2, 3, 4, 5]), dims={"x": {0: None}})
    check_to_torch(gradient, np.float32([1, 2, 3, 4]))


TO_JAX: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "sign": (torch.sign, [ODD]),
    "norm_of_zeros": (lambda x: x.norm(dim=-1), [ROWS]),
    "norm_3": (lambda x: x.norm(p=3, dim=-1), [ROWS]),
    "norm_1": (lambda x: x.norm(p=1, dim=-1), [ROWS]),
    "frobenius": (torch.linalg.norm, [ROWS * 0]),
    "normalize": (lambda x: F.normalize(x, dim=-1), [ROWS]),
    "cosine": (lambda x, y: F.cosine_similarity(x, y, dim=-1), [ROWS, ROWS + 1]),
    "std_of_equals": (lambda x: x.std(-1), [np.float32([[1, 1], [2, 3]])]),
    "celu": (lambda x: F.celu(x, 2.0), [np.float32([-200, 0, 200])]),
    "power_of_zero": (lambda x: x**0.0, [np.float32([-2, 0, 2])]),
    "fmax": (lambda x, y: torch.fmax(x, y), [np.float32([1, NAN, 2]), np.float32([2, 1, NAN])]),
    "fmin": (lambda x, y: torch.fmin(x, y), [np.float32([1, NAN, 2]), np.float32([2, 1, NAN])]),
    "hardshrink": (F.hardshrink, [np.float32([-0.5, 0.5, NAN, 1])]),
    "threshold": (lambda x: F.threshold(x, 0.5, 9.0), [np.float32([-0.5, 0.5, NAN, 1])]),
    "erfc": (torch.erfc, [np.float32([5, -1])]),
    "softmax_of_minus_infinity": (lambda x: x.softmax(-1), [np.float32([[-INF, 1], [1, 2]])]),
    "logsumexp": (lambda x: x.logsumexp(-1), [np.float32([[-INF, -INF], [1, 2]])]),
    "remainder": (lambda x, y: (x % y, torch.fmod(x, y)),
                  [np.float32([7.5, -7.5, 7.5, -7.5]), np.float32([3, 3, -3, -3])]),
}  # fmt: skip
NO_GRADIENT = {"fmax", "fmin", "hardshrink", "threshold", "logsumexp", "sign"}


@pytest.mark.parametrize("form", TO_JAX)
def test_from_torch(form: str) -> None:
    function, args = TO_JAX[form]
    tensors = [torch.tensor(a) for a in args]
    check_to_jax(function, *tensors, gradient=form not in NO_GRADIENT)
