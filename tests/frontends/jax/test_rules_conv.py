"""Convolutions in every layout, transposed ones, and pools."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from jax import lax

from ivyport.core.errors import UnsupportedOpsError
from tests.frontends.jax.lowered import check, check_symbolic, lower, normal
from tests.graph_run import ops

RTOL = 1e-5


def conv(layouts: tuple[str, str, str], **options: Any) -> Any:
    options = {
        "window_strides": (1,) * (len(layouts[0]) - 2),
        "padding": "SAME",
    } | options
    return lambda x, w: lax.conv_general_dilated(
        x, w, dimension_numbers=layouts, **options
    )


LAST = ("NHWC", "HWIO", "NHWC")
FIRST = ("NCHW", "OIHW", "NCHW")
CONVS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], list[str] | None]] = {
    "channels_last": (conv(LAST), (2, 8, 9, 3), (3, 3, 3, 4), ["permute_dims", "conv"]),
    "channels_first": (conv(FIRST), (2, 3, 8, 9), (4, 3, 3, 3), ["conv"]),
    "mixed": (conv(("NHWC", "OIHW", "NCHW")), (2, 8, 9, 3), (4, 3, 3, 3), None),
    "batch_last": (conv(("CHWN", "IHWO", "HWNC")), (3, 8, 9, 2), (3, 3, 3, 4), None),
    "strided": (
        conv(LAST, window_strides=(2, 3), padding="VALID"),
        (2, 8, 9, 3),
        (3, 2, 3, 4),
        None,
    ),
    "padded": (
        conv(LAST, window_strides=(2, 1), padding=((0, 1), (2, 0))),
        (2, 8, 9, 3),
        (3, 3, 3, 4),
        None,
    ),
    "cropped": (
        conv(FIRST, padding=((-1, 2), (0, -1))),
        (1, 2, 8, 9),
        (3, 2, 3, 3),
        None,
    ),
    "dilated": (conv(LAST, rhs_dilation=(2, 1)), (1, 8, 9, 3), (3, 3, 3, 4), None),
    "grouped": (
        conv(LAST, feature_group_count=2),
        (1, 8, 9, 4),
        (3, 3, 2, 6),
        ["permute_dims", "conv"],
    ),
    "depthwise": (conv(LAST, feature_group_count=4), (1, 8, 9, 4), (3, 3, 1, 8), None),
    "one_axis": (conv(("NWC", "WIO", "NWC")), (2, 9, 3), (3, 3, 4), None),
    "three_axes": (
        conv(("NDHWC", "DHWIO", "NDHWC")),
        (1, 4, 5, 6, 2),
        (3, 3, 3, 2, 3),
        None,
    ),
    "transposed": (
        conv(LAST, lhs_dilation=(2, 2), padding=((1, 2), (1, 2))),
        (1, 4, 5, 3),
        (3, 3, 3, 4),
        ["permute_dims", "flip", "permute_dims", "conv_transpose"],
    ),
    "transposed_less_on_the_right": (
        conv(LAST, lhs_dilation=(2, 2), padding=((2, 1), (2, 1))),
        (1, 4, 5, 3),
        (3, 3, 3, 4),
        None,
    ),
    "transposed_wide": (
        conv(FIRST, lhs_dilation=(2, 3), padding=((5, 4), (3, 7))),
        (1, 3, 4, 5),
        (4, 3, 3, 2),
        None,
    ),
    "transposed_cropped": (
        conv(FIRST, lhs_dilation=(2, 1), padding=((-1, 0), (0, 1))),
        (1, 3, 4, 5),
        (4, 3, 3, 2),
        None,
    ),
    "transposed_grouped": (
        conv(
            LAST, lhs_dilation=(2, 2), padding=((1, 2), (1, 2)), feature_group_count=2
        ),
        (1, 4, 5, 4),
        (3, 3, 2, 6),
        None,
    ),
    "transposed_strided": (
        conv(
            LAST, lhs_dilation=(2, 2), window_strides=(3, 2), padding=((1, 2), (2, 2))
        ),
        (1, 4, 5, 3),
        (3, 3, 3, 4),
        None,
    ),
    "transposed_dilated": (
        conv(LAST, lhs_dilation=(2, 2), rhs_dilation=(2, 1), padding=((4, 3), (2, 2))),
        (1, 4, 5, 3),
        (3, 3, 3, 4),
        None,
    ),
}


@pytest.mark.parametrize("form", CONVS)
def test_conv(form: str) -> None:
    function, image, kernel, expect = CONVS[form]
    x, w = normal(*image), normal(*kernel, seed=1)
    check(function, x, w, expect=expect, rtol=RTOL)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (3, 1), (2, 3)])
def test_conv_transpose_of_jax(padding: str, kernel: int, stride: int) -> None:
    x, w = normal(1, 5, 3), normal(kernel, 3, 4, seed=1)
    graph = check(
        lambda x, w: lax.conv_transpose(x, w, (stride,), padding), x, w, rtol=RTOL
    )
    assert ("conv_transpose" in ops(graph)) == (stride > 1)


def test_conv_with_a_symbolic_batch() -> None:
    w = normal(3, 3, 3, 4, seed=1)
    check_symbolic(
        lambda x: conv(LAST, window_strides=(2, 2))(x, w),
        "B, 8, 8, 3",
        [normal(1, 8, 8, 3)],
        [normal(3, 8, 8, 3)],
        rtol=RTOL,
    )


def test_groups_of_the_batch_are_refused() -> None:
    function = conv(LAST, batch_group_count=2)
    with pytest.raises(UnsupportedOpsError, match="batch_group_count=2"):
        lower(function, normal(2, 8, 9, 3), normal(3, 3, 3, 4))


def window(function: Any, start: float, *options: Any, **more: Any) -> Any:
    return lambda x: lax.reduce_window(x, start, function, *options, **more)


MAX, SUM = (lax.max, -np.inf), (lax.add, 0.0)
POOLS: dict[str, tuple[Any, tuple[int, ...], list[str] | None]] = {
    "max_last": (
        window(*MAX, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        (2, 8, 9, 3),
        ["max_pool"],
    ),
    "max_first": (
        window(*MAX, (1, 1, 3, 3), (1, 1, 2, 2), "VALID"),
        (2, 3, 8, 9),
        ["max_pool"],
    ),
    "max_one_axis": (
        window(*MAX, (1, 2, 1), (1, 2, 1), "VALID"),
        (2, 8, 3),
        ["max_pool"],
    ),
    "max_matrix": (window(*MAX, (2, 3), (1, 2), "SAME"), (6, 7), None),
    "max_first_axis": (window(*MAX, (2, 1, 2), (2, 1, 1), "VALID"), (6, 3, 7), None),
    "max_dilated": (
        window(*MAX, (1, 2, 2, 1), (1, 1, 1, 1), "VALID", window_dilation=(1, 2, 3, 1)),
        (1, 8, 9, 2),
        None,
    ),
    "max_spread": (
        window(*MAX, (2, 2), (1, 1), "VALID", base_dilation=(2, 1)),
        (4, 5),
        None,
    ),
    "max_wide_padding": (
        window(*MAX, (1, 2, 1), (1, 1, 1), ((0, 0), (2, 3), (0, 0))),
        (1, 5, 2),
        None,
    ),
    "min": (
        window(lax.min, np.inf, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        (2, 8, 9, 3),
        ["negative", "max_pool", "negative"],
    ),
    "max_from_a_number": (
        window(lax.max, 0.5, (1, 2, 2, 1), (1, 2, 2, 1), "SAME"),
        (1, 5, 5, 2),
        ["max_pool", "maximum"],
    ),
    "sum": (
        window(*SUM, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"),
        (2, 8, 9, 3),
        ["sum_pool"],
    ),
    "sum_first": (
        window(*SUM, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"),
        (2, 3, 8, 9),
        ["sum_pool"],
    ),
    "average": (
        lambda x: window(*SUM, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")(x) / 4,
        (2, 8, 8, 3),
        ["sum_pool", "divide"],
    ),
}


@pytest.mark.parametrize("form", POOLS)
def test_pool(form: str) -> None:
    function, shape, expect = POOLS[form]
    check(function, normal(*shape), expect=expect, rtol=RTOL)


def test_flax_and_haiku_pools() -> None:
    linen = pytest.importorskip("flax.linen")
    haiku = pytest.importorskip("haiku")
    x = normal(2, 8, 8, 3)
    for pool in (linen.max_pool, linen.avg_pool):
        check(lambda x, pool=pool: pool(x, (3, 3), (2, 2), "SAME"), x, rtol=RTOL)
    check(
        lambda x: linen.avg_pool(x, (3, 3), (2, 2), "SAME", count_include_pad=False),
        x,
        rtol=RTOL,
    )
    for pool in (haiku.max_pool, haiku.avg_pool):
        check(lambda x, pool=pool: pool(x, (3, 3, 1), (2, 2, 1), "SAME"), x, rtol=RTOL)


def test_pool_of_a_symbolic_batch() -> None:
    check_symbolic(
        window(*MAX, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"),
        "B, 4, 4, 2",
        [normal(1, 4, 4, 2)],
        [normal(3, 4, 4, 2)],
    )


def test_resize() -> None:
    x = normal(1, 4, 5, 2)
    check(lambda x: jax.image.resize(x, (1, 8, 10, 2), "nearest"), x)
    check(lambda x: jax.image.resize(x, (1, 8, 10, 2), "bilinear"), x, rtol=RTOL)
