"""The layers that emitted JAX files copy, against the layers that they stand in for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
nnx = pytest.importorskip("flax.nnx")

import jax.numpy as jnp  # noqa: E402

from ivyport.backends.jax import _layers, _rt  # noqa: E402
from tests.support import assert_close  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "kernel", "strides", "padding"),
    [
        ((2, 9, 9), (3, 3), (1, 1), (1, 1)),
        ((2, 9, 8), (3, 3), (2, 2), (1, 1)),
        ((1, 7, 7), (7, 7), (1, 1), (0, 0)),  # one row
        ((1, 8, 8), (2, 2), (3, 3), (0, 0)),  # strides over the kernel
        ((2, 11), (5,), (3,), ((2, 1),)),
        ((2, 5, 6, 7), (3, 2, 2), (2, 3, 1), (0, 1, 0)),
    ],
    ids=str,
)
def test_depthwise_convolution(
    shape: Any, kernel: Any, strides: Any, padding: Any
) -> None:
    layer = _layers.DepthwiseConv(
        4,
        4,
        kernel_size=kernel,
        strides=strides,
        padding=padding,
        feature_group_count=4,
        bias_init=nnx.initializers.normal(),
        rngs=nnx.Rngs(0),
    )
    _check(layer, (*shape, 4))


@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_pointwise_convolution(strides: Any) -> None:
    layer = _layers.PointwiseConv(
        4,
        6,
        kernel_size=(1, 1),
        strides=strides,
        padding=(0, 0),
        bias_init=nnx.initializers.normal(),
        rngs=nnx.Rngs(0),
    )
    _check(layer, (2, 5, 8, 4))


@pytest.mark.parametrize("layout", ["NCW", "NWC"])
@pytest.mark.parametrize("dilation", [None, (2,)])
def test_grouped_convolution(layout: str, dilation: Any) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 12, 12)), jnp.float32)
    weight = jnp.asarray(rng.standard_normal((6, 4, 3)), jnp.float32)
    options = {"rhs_dilation": dilation, "dimension_numbers": (layout, "OIW", layout)}

    def grouped(x: Any, weight: Any) -> Any:
        return _rt.grouped_conv(x, weight, (2,), ((1, 2),), groups=3, **options)

    def whole(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, weight, (2,), ((1, 2),), feature_group_count=3, **options
        )

    assert_close(grouped(x, weight), whole(x, weight), rtol=1e-5)
    found, expected = (
        jax.grad(lambda *a, f=f: jnp.sin(f(*a)).sum(), argnums=(0, 1))(x, weight)
        for f in (grouped, whole)
    )
    jax.tree.map(lambda a, b: assert_close(a, b, rtol=1e-5), found, expected)


def _check(layer: Any, shape: tuple[int, ...]) -> None:
    """Values and gradients are those of `nnx.Conv` with the same weights."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    whole = nnx.Conv.__call__

    def loss(call: Any) -> Any:
        return lambda layer, x: jnp.sin(call(layer, x)).sum()

    assert_close(layer(x), whole(layer, x), rtol=1e-5)
    found, expected = (
        nnx.grad(loss(f), argnums=(0, 1))(layer, x)
        for f in (type(layer).__call__, whole)
    )
    jax.tree.map(lambda a, b: assert_close(a, b, rtol=1e-5), found, expected)
