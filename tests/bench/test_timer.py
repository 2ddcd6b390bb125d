"""Statistics of latencies."""

from __future__ import annotations

import numpy as np
import pytest

from ivyport.bench.timer import (
    bootstrap_ratio,
    geometric_mean,
    is_steady,
    largest_difference,
    quartiles_of_ratios,
    summary,
    update_difference,
)


def test_summary_is_in_milliseconds():
    found = summary([0.001 * (i + 1) for i in range(11)])
    assert found == {"median_ms": 6.0, "mean_ms": 6.0, "p10_ms": 2.0, "p90_ms": 10.0}


def test_steady_means_that_three_in_a_row_agree():
    assert not is_steady([1.0, 1.0])
    assert not is_steady([1.0, 1.0, 1.06])
    assert is_steady([9.0, 1.0, 1.01, 1.04])


def test_ratios_are_taken_within_a_round():
    # The machine was half as fast in the second round, for both.
    first, second = [[2.0, 2.2], [4.0, 4.4]], [[1.0, 1.1], [2.0, 2.2]]
    assert quartiles_of_ratios(first, second) == pytest.approx((2.0, 2.0, 2.0))


def test_bootstrap_covers_the_truth_and_sees_a_difference():
    generator = np.random.default_rng(0)

    def rounds(median):
        return [list(median * generator.lognormal(0, 0.05, 5)) for _ in range(10)]

    covered = 0
    for seed in range(50):
        low, high = bootstrap_ratio(rounds(1.0), rounds(1.0), seed)
        covered += low <= 1 <= high
    assert covered >= 42
    low, high = bootstrap_ratio(rounds(0.8), rounds(1.0))
    assert high < 1


def test_geometric_mean():
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert geometric_mean([]) is None


def test_differences_are_relative_to_the_largest_value():
    wanted = {"a": np.array([10.0, -1.0], np.float32)}
    assert largest_difference(wanted, wanted) == 0
    found = {"a": np.array([10.0, 0.0]), "more": np.ones(3)}
    assert largest_difference(found, wanted) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "found", [{}, {"a": np.ones(3)}, {"a": np.array([1.0, np.nan])}]
)
def test_missing_and_broken_outputs_differ_infinitely(found):
    wanted = {"a": np.array([1.0, 1.0], np.float32)}
    assert largest_difference(found, wanted) == float("inf")


def test_updates_are_compared_by_what_they_change():
    before = {"a": np.array([100.0, 100.0], np.float32)}
    wanted = {"a": np.array([101.0, 100.0], np.float32)}
    half = {"a": np.array([100.5, 100.0], np.float32)}
    assert largest_difference(half, wanted) < 0.01
    assert update_difference(before, half, before, wanted) == pytest.approx(0.5)
    assert update_difference(before, wanted, before, wanted) == 0
    assert update_difference({}, {}, before, wanted) == float("inf")
