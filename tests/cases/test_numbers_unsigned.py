"""Unsigned integers of JAX, for most of which torch has no kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.cases.numerics import check_to_torch

A = np.array([1, 2, 7, 2**32 - 1], np.uint32)
B = np.array([3, 2, 2, 7], np.uint32)
SMALL = np.array([60000, 100, 7], np.uint16)
BYTES = np.array([200, 100, 7], np.uint8)

FORMS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "arange": (lambda x: x + jnp.arange(4, dtype=jnp.uint32), [A]),
    "ring": (lambda a, b: (a + b, a - b, a * b, -a, ~a, a**b), [A, B]),
    "division": (lambda a, b: (a // b, a % b, lax.rem(a, b), lax.div(a, b)), [A, B]),
    "bits": (lambda a, b: (a >> b, a << b, a & b, a ^ b, a >> jnp.uint32(31)), [A, B]),
    "order": (lambda a, b: (a < b, jnp.maximum(a, b), jnp.sort(a), a.argmax(), a.max()), [A, B]),
    "sums": (lambda a, b: (a.sum(), a.prod(), jnp.cumsum(a)), [A, B]),
    "casts": (
        lambda a, b: (a.astype(jnp.int32), a.astype(jnp.float32), a.astype(jnp.uint8)),
        [A, B],
    ),
    "from_floats": (
        lambda x: (x.astype(jnp.uint32), x.astype(jnp.uint16)),
        [np.float32([-1, 3.7, 5e9, 70000, np.nan])],
    ),
    "from_integers": (lambda i: i.astype(jnp.uint32), [np.int32([-1, 5])]),
    "hash": (
        lambda a, b: ((a ^ (a >> jnp.uint32(16))) * jnp.uint32(0x45D9F3B)) % jnp.uint32(97),
        [A, B],
    ),
    "updates": (
        lambda a, b: a.at[jnp.array([0, 3, 3])].add(jnp.uint32(2**31)),
        [A, B],
    ),
    "indices": (lambda a, b: jnp.arange(9.0)[b], [A, B]),
    "logical_shift": (
        lambda i: lax.shift_right_logical(i, jnp.int32(3)),
        [np.int32([-8, 7, 2**31 - 1])],
    ),
    "power": (lambda i: i ** jnp.abs(i), [np.int32([-3, 2, 5])]),
    "sum_of_bytes": (lambda a: (a.sum(), a.prod(), a.mean(), jnp.cumsum(a)), [BYTES]),
    "small": (lambda a: (a + a, a * a, a // 3, a >> jnp.uint16(2), a.sum()), [SMALL]),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_unsigned(form: str) -> None:
    function, args = FORMS[form]
    check_to_torch(function, *args)
