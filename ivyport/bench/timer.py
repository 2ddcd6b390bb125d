"""Statistics of latencies: steadiness, summaries, and what two runs may be told apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

STEADY = 0.05
STEADY_CALLS = 3
DRAWS = 2000


def is_steady(times: Sequence[float]) -> bool:
    """Whether the last `STEADY_CALLS` times differ by less than `STEADY`."""
    last = times[-STEADY_CALLS:]
    return len(last) == STEADY_CALLS and max(last) < (1 + STEADY) * min(last)


def summary(times: Sequence[float]) -> dict[str, float]:
    """`median_ms`, `mean_ms`, `p10_ms` and `p90_ms` of times in seconds."""
    ms = 1000 * np.asarray(times, dtype=np.float64)
    low, middle, high = np.percentile(ms, (10, 50, 90))
    found = {
        "median_ms": middle,
        "mean_ms": ms.mean(),
        "p10_ms": low,
        "p90_ms": high,
    }
    return {name: round(float(value), 4) for name, value in found.items()}


def quartiles_of_ratios(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]
) -> tuple[float, float, float]:
    """Quartiles of first over second, median by median within each round."""
    ratios = [
        float(np.median(a) / np.median(b)) for a, b in zip(first, second, strict=True)
    ]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return float(low), float(middle), float(high)


def bootstrap_ratio(
    first: Sequence[Sequence[float]], second: Sequence[Sequence[float]], seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of median(first) / median(second), by drawing rounds anew.

    Calls of one round share the machine's state of that moment, so that rounds are
    drawn and not calls.
    """
    generator = np.random.default_rng(seed)
    a = np.array([np.median(times) for times in first])
    b = np.array([np.median(times) for times in second])
    drawn_a = np.median(generator.choice(a, (DRAWS, len(a))), axis=1)
    drawn_b = np.median(generator.choice(b, (DRAWS, len(b))), axis=1)
    low, high = np.percentile(drawn_a / drawn_b, (2.5, 97.5))
    return float(low), float(high)


def geometric_mean(values: Sequence[float]) -> float | None:
    """The geometric mean, None of nothing."""
    return float(np.exp(np.log(np.asarray(values)).mean())) if values else None


def largest_difference(
    found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> float:
    """The largest difference of any output, as a part of that output's largest value.

    Infinite where an output is missing, has another number of elements, or is not
    finite: such an engine computes something else.
    """
    worst = 0.0
    for name, reference in wanted.items():
        value = found.get(name)
        if value is None or value.size != reference.size:
            return float("inf")
        value = np.asarray(value, np.float32).reshape(reference.shape)
        difference = np.abs(value - reference).max(initial=0.0)
        scale = np.abs(reference).max(initial=0.0) or 1.0
        if not np.isfinite(difference):
            return float("inf")
        worst = max(worst, float(difference / scale))
    return worst


def update_difference(
    before: Any, after: Any, wanted_before: Any, wanted: Any
) -> float:
    """`largest_difference` between what updates changed in the outputs on two sides."""
    if before.keys() != after.keys() or not wanted.keys() <= after.keys():
        return float("inf")
    moved = {n: after[n].astype(np.float32) - before[n] for n in wanted}
    expected = {n: wanted[n].astype(np.float32) - wanted_before[n] for n in wanted}
    moved = {n: v.reshape(expected[n].shape) for n, v in moved.items()}
    return largest_difference(moved, expected)
