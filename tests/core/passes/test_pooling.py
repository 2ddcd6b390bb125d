"""Pools to one element are means; other pools stay."""

from __future__ import annotations

import pytest

from ivyport.core.dims import symbol
from ivyport.core.passes.pooling import pools_to_means
from tests.graph_run import Draft, ops, preserves


@pytest.mark.parametrize(
    ("size", "layout", "operation"),
    [
        ((1, 1), "channels_last", "mean"),
        ((1, 1), "channels_first", "mean"),
        ((1, 2), "channels_last", "adaptive_avg_pool"),
    ],
)
def test_a_pool_to_one_element_is_a_mean(
    size: tuple[int, int], layout: str, operation: str
) -> None:
    b = Draft()
    x = b.input("x", symbol("B"), 4, 6, 8)
    graph = b.graph(b.adaptive_avg_pool(x, output_size=size, layout=layout))
    assert ops(preserves(graph, pools_to_means)) == [operation]
