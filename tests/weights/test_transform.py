"""Transforms: inverses, shapes, JSON, and views in place of copies."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ivyport.core.errors import WeightsError
from ivyport.weights import transform
from ivyport.weights.transform import Permute, Reshape, Slice, Transform


def random_chain(rng: np.random.Generator, shape: tuple) -> tuple[Transform, ...]:
    """A chain of permutations and reshapes that fits a shape."""
    chain: list[Transform] = []
    for _ in range(rng.integers(0, 5)):
        if rng.random() < 0.5:
            chain.append(Permute(tuple(int(a) for a in rng.permutation(len(shape)))))
        else:
            chain.append(Reshape(shape, other_shape(rng, shape)))
        shape = chain[-1].shape(shape)
    return tuple(chain)


def other_shape(rng: np.random.Generator, shape: tuple) -> tuple:
    """A shape with the same element count: sizes merged, split in twos, ones added."""
    sizes = [int(n) for n in shape]
    if len(sizes) > 1 and rng.random() < 0.5:
        at = int(rng.integers(0, len(sizes) - 1))
        sizes[at : at + 2] = [sizes[at] * sizes[at + 1]]
    elif sizes and sizes[0] % 2 == 0:
        sizes[:1] = [2, sizes[0] // 2]
    sizes.insert(int(rng.integers(0, len(sizes) + 1)), 1)
    return tuple(sizes)


def test_random_chains_round_trip():
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(int(n) for n in rng.integers(0, 5, rng.integers(0, 5)))
        array = rng.standard_normal(shape)
        chain = random_chain(rng, shape)
        there = transform.apply(chain, array)
        assert there.shape == transform.transform_shape(chain, shape)
        assert np.array_equal(np.sort(there, axis=None), np.sort(array, axis=None))
        back = transform.apply(transform.invert(chain), there)
        assert back.shape == shape
        assert np.array_equal(back, array)
        text = json.dumps(transform.to_json(chain))
        assert transform.from_json(json.loads(text)) == chain


def test_values_are_where_numpy_puts_them():
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(
        transform.apply((Permute((2, 0, 1)),), array), np.transpose(array, (2, 0, 1))
    )
    assert np.array_equal(transform.apply((Slice(1, 1, 3),), array), array[:, 1:3])
    assert np.array_equal(
        transform.apply((Reshape((2, 3, 4), (6, 4)),), array), array.reshape(6, 4)
    )


def test_applying_makes_views():
    array = np.zeros((4, 6))
    chain = (Reshape((4, 6), (2, 2, 6)), Slice(2, 1, 3), Permute((2, 0, 1)))
    assert np.shares_memory(transform.apply(chain, array), array)


def test_scalars():
    array = np.array(3.0)
    chain = (Permute(()), Reshape((), (1, 1)))
    assert transform.apply(chain, array).shape == (1, 1)
    assert transform.apply(transform.invert(chain), np.ones((1, 1))).shape == ()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Permute((0, 2)), "not a permutation"),
        (lambda: Permute((0, 0)), "not a permutation"),
        (lambda: Permute((-1, 0)), "not a permutation"),
        (lambda: Reshape((2, 3), (5,)), "has 6 elements and cannot be reshaped"),
        (lambda: Reshape((-2, 3), (-6,)), "negative"),
        (lambda: Slice(0, 2, 2), "start < stop"),
        (lambda: Slice(-1, 0, 2), "axis >= 0"),
        (lambda: Slice(0, 0, 3).inverse(), "no inverse"),
    ],
)
def test_impossible_transforms(make, message):
    with pytest.raises(WeightsError, match=message):
        make()


@pytest.mark.parametrize(
    "item", [Permute((1, 0)), Reshape((2, 3), (6,)), Slice(0, 0, 6), Slice(1, 0, 1)]
)
def test_a_shape_that_does_not_fit(item):
    with pytest.raises(WeightsError, match=r"\[5\]"):
        transform.apply((item,), np.zeros(5))
    with pytest.raises(WeightsError, match=r"\[5\]"):
        transform.transform_shape((item,), (5,))


@pytest.mark.parametrize(
    "value",
    [
        {"permute": [0]},
        "permute",
        [["permute", [0]]],
        [{}],
        [{"permute": [0], "slice": [0, 0, 1]}],
        [{"permute": [0.0]}],
        [{"permute": [False]}],
        [{"slice": [0, 1]}],
        [{"reshape": [[4]]}],
        [{"reshape": [[4], 4]}],
        [{"lambda": "x: x"}],
    ],
)
def test_json_that_is_no_transform(value):
    with pytest.raises(WeightsError, match="transform"):
        transform.from_json(value)
