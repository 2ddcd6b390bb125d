"""Reshapes of permuted tensors, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from ivyport.core.dims import product, symbol
from ivyport.core.passes.layout import inverse
from ivyport.core.passes.regroup import groups, regroup

B, S = symbol("B"), symbol("S")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((2, 3, 4, 5), (2, 3, 20), [([0], [0]), ([1], [1]), ([2, 3], [2])]),
        ((6, 4), (2, 3, 4), [([0], [0, 1]), ([1], [2])]),
        ((B, S, 8), (B, S, 2, 4), [([0], [0]), ([1], [1]), ([2], [2, 3])]),
        ((B * S, 4), (B, S, 4), [([0], [0, 1]), ([1], [2])]),
        ((B, S, 4), (B * S, 4), [([0, 1], [0]), ([2], [1])]),
        ((4, 6), (3, 8), [([0, 1], [0, 1])]),
        ((2, 3), (2, 3), [([0], [0]), ([1], [1])]),
    ],
    ids=str,
)
def test_groups(old, new, expected) -> None:
    assert groups(old, new) == expected


def test_groups_that_do_not_exist() -> None:
    assert groups((2, 3), (2, 4)) is None


def _random_shapes(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and what splitting and merging neighbours makes of it."""
    old = tuple(int(d) for d in rng.choice([1, 2, 3, 4, 6], rng.integers(1, 5)))
    new = list(old)
    for _ in range(rng.integers(0, 4)):
        i = int(rng.integers(len(new)))
        if rng.random() < 0.5 and i + 1 < len(new):
            new[i : i + 2] = [new[i] * new[i + 1]]
        elif new[i] % 2 == 0:
            new[i : i + 1] = [2, new[i] // 2]
        else:
            new.insert(i, 1)
    return old, tuple(new)


@pytest.mark.parametrize("seed", range(6))
def test_against_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    answered = 0
    for _ in range(300):
        old, new = _random_shapes(rng)
        perm = tuple(map(int, rng.permutation(len(old))))
        plan = regroup(old, new, perm)
        if plan is None:
            continue
        answered += 1
        shape, result = plan
        x = np.arange(product(old)).reshape(old)
        base = x.transpose(inverse(perm))
        assert (base.transpose(perm) == x).all()
        np.testing.assert_array_equal(
            base.reshape(shape).transpose(result), x.reshape(new)
        )
    assert answered > 100


def test_heads() -> None:
    assert regroup((B, 2, S, 4), (B, 2, S, 4), (0, 2, 1, 3)) == (
        (B, S, 2, 4),
        (0, 2, 1, 3),
    )
    assert regroup((B, S, 2, 4), (B, S, 8), (0, 2, 1, 3)) is None
    assert regroup((B, 8, 3, 5), (B, 8, 15), (0, 3, 1, 2)) == ((B, 15, 8), (0, 2, 1))
