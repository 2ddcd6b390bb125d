"""Fresh inputs: other sizes where sizes are free, values of the same kinds."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from ivyport.core.dims import symbol
from ivyport.verification.second import Sizes, fresh, plans, sizes_of

IDS = np.array([[5, 0, 98], [7, 8, 9]])
ONES = np.ones((2, 3), np.int64)
TOKENS = {"input_ids": IDS, "attention_mask": ONES}
FREE = {name: {0: "batch", 1: "seq"} for name in TOKENS}


def first(inputs, free, bounds=None):
    sizes = next(iter(plans(inputs, free, bounds or {})))[0]
    return sizes, fresh(inputs, free, sizes, seed=0)


def test_every_free_size_changes():
    sizes, made = first(TOKENS, FREE)
    assert sizes.traced == {"batch": 2, "seq": 3}
    assert sizes.second == {"batch": 3, "seq": 6}
    assert {a.shape for a in made.values()} == {(3, 6)}
    assert sizes.text() == "batch 3, seq 6"


def test_smaller_sizes_come_after_larger_ones():
    tried = [[s.second for s in group] for group in plans(TOKENS, FREE, {})]
    assert tried == [
        [
            {"batch": 3, "seq": 6},
            {"batch": 3, "seq": 2},
            {"batch": 3, "seq": 3},
        ],
        [{"batch": 1, "seq": 2}, {"batch": 1, "seq": 3}],
    ]


def test_sizes_are_odd_and_even_and_reach_the_bound():
    inputs = {"x": np.ones((4, 16), np.float32)}
    free = {"x": {0: "batch", 1: "length"}}
    larger, smaller = [g[0].second for g in plans(inputs, free, {})]
    assert larger == {"batch": 5, "length": 21}
    assert smaller == {"batch": 1, "length": 10}
    _, smaller = [g[0].second for g in plans(inputs, free, {"length": (5, None)})]
    assert smaller == {"batch": 1, "length": 5}
    _, smaller = [g[0].second for g in plans(inputs, free, {"batch": (2, None)})]
    assert smaller["batch"] in (2, 3)


def test_height_and_width_of_one_size_become_two_sizes():
    inputs = {"x": np.ones((2, 3, 16, 16), np.float32)}
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    larger, smaller, *_ = [[s.second for s in g] for g in plans(inputs, free, {})]
    assert larger[0] == {"batch": 3, "height": 21, "width": 23}
    # A source that takes squares alone is fed them next.
    assert larger[1] == {"batch": 3, "height": 21, "width": 21}
    assert smaller[0]["height"] != smaller[0]["width"]


@pytest.mark.parametrize("hides", [-np.inf, np.finfo(np.float32).min])
def test_masks_of_floats_hide_no_row_whole(hides):
    mask = np.where(np.tri(8, dtype=bool), 0, hides).astype(np.float32)
    _, made = first({"bias": mask}, {})
    assert set(np.unique(made["bias"]).tolist()) == {hides, 0}
    assert (made["bias"] == 0).any(-1).all()


def test_masks_hide_no_row_whichever_value_hides():
    _, made = first({"padding": np.zeros((8, 5), bool)}, {})
    assert made["padding"].any(-1).all()
    assert not made["padding"].all(-1).any()
    _, made = first({"padding": np.zeros((8, 1), bool)}, {})
    assert not made["padding"].any()


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((1, 3), 2),
        ((3, 4), 4),
        ((3, 3), 3),
        ((1, None), 6),
        ((4, None), 6),
    ],
)
def test_bounds_are_kept(bounds, expected):
    sizes, made = first(TOKENS, FREE, {"seq": bounds})
    assert sizes.second["seq"] == expected
    assert made["input_ids"].shape == (3, expected)


def test_sizes_that_are_expressions():
    h = symbol("h")
    inputs = {"x": np.zeros((2, 64), np.float32), "y": np.zeros((2,), np.float32)}
    free = {"x": {0: "batch", 1: 32 * h}, "y": {0: h}}
    sizes, made = first(inputs, free)
    assert sizes.traced == {"batch": 2, "h": 2}
    assert made["x"].shape == (3, 32 * sizes.second["h"])
    assert made["y"].shape == (sizes.second["h"],)
    assert sizes.second["h"] != 2


def test_without_free_axes_the_values_are_fresh():
    inputs = {"x": np.random.default_rng(1).normal(size=(2, 3)).astype(np.float32)}
    sizes, made = first(inputs, {})
    assert sizes == Sizes({}, {})
    assert made["x"].shape == (2, 3)
    assert not np.array_equal(made["x"], inputs["x"])


def test_integers_stay_in_their_table():
    _, made = first(TOKENS, FREE)
    assert made["input_ids"].dtype == IDS.dtype
    assert made["input_ids"].min() >= 0
    assert made["input_ids"].max() <= 98


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
def test_masks_stay_masks_and_keep_a_column(dtype):
    inputs = {"attention_mask": np.ones((8, 16), dtype)}
    _, made = first(inputs, {"attention_mask": {0: "batch"}})
    mask = made["attention_mask"]
    assert mask.dtype == dtype
    assert set(np.unique(mask).tolist()) == {0, 1}
    assert mask[:, 0].all()


def test_token_types_stay_what_they_are():
    _, made = first({"token_type_ids": ONES * 0}, {"token_type_ids": {0: "batch"}})
    assert not made["token_type_ids"].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_floats_keep_mean_and_deviation(dtype):
    x = (np.random.default_rng(0).normal(size=(50, 80)) * 3 + 10).astype(dtype)
    _, made = first({"x": x}, {"x": {0: "batch"}})
    drawn = made["x"].astype(np.float64)
    assert made["x"].dtype == dtype
    assert drawn.mean() == pytest.approx(10, abs=0.3)
    assert drawn.std() == pytest.approx(3, abs=0.3)


def test_scalars_and_seeds():
    inputs = {"scale": np.float32(2.0).reshape(())}
    sizes, made = first(inputs, {})
    assert made["scale"].shape == ()
    again = fresh(inputs, {}, sizes, seed=0)
    assert np.array_equal(made["scale"], again["scale"])


def test_sizes_of_given_inputs():
    assert sizes_of({"input_ids": np.zeros((5, 9))}, FREE) == {"batch": 5, "seq": 9}
