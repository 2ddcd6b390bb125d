"""Elementwise primitives and named functions, against JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax, nn

from ivyport.core.dims import symbol
from ivyport.core.ir import Scalar
from tests.frontends.jax.lowered import check, check_symbolic, lower, normal, whole

X = normal(2, 3)
Y = normal(2, 3, seed=1)
POSITIVE = np.abs(X) + 0.5
WITHIN = np.tanh(X)
I = whole(9, 2, 3, low=-9)  # noqa: E741 (integers)
J = whole(5, 2, 3, seed=1, low=1)
T = X > 0

UNARY = {
    "abs": (jnp.abs, X),
    "acos": (jnp.arccos, WITHIN),
    "acosh": (jnp.arccosh, POSITIVE + 1),
    "asin": (jnp.arcsin, WITHIN),
    "asinh": (jnp.arcsinh, X),
    "atan": (jnp.arctan, X),
    "atanh": (jnp.arctanh, WITHIN),
    "cbrt": (jnp.cbrt, X),
    "ceil": (jnp.ceil, X),
    "cos": (jnp.cos, X),
    "cosh": (jnp.cosh, X),
    "digamma": (lax.digamma, POSITIVE),
    "erf": (lax.erf, X),
    "erfc": (lax.erfc, X),
    "erfinv": (lax.erf_inv, WITHIN),
    "exp": (jnp.exp, X),
    "exp2": (lax.exp2, X),
    "expm1": (jnp.expm1, X),
    "floor": (jnp.floor, X),
    "isfinite": (jnp.isfinite, np.float32([1, np.inf, np.nan])),
    "isinf": (jnp.isinf, np.float32([1, np.inf, -np.inf, np.nan])),
    "isnan": (jnp.isnan, np.float32([1, np.inf, np.nan])),
    "lgamma": (lax.lgamma, POSITIVE),
    "log": (jnp.log, POSITIVE),
    "log1p": (jnp.log1p, POSITIVE),
    "negative": (jnp.negative, X),
    "round": (jnp.round, np.float32([0.5, 1.5, -0.5, 2.4])),
    "rsqrt": (lax.rsqrt, POSITIVE),
    "sigmoid": (nn.sigmoid, X),
    "sign": (jnp.sign, X),
    "sin": (jnp.sin, X),
    "sinh": (jnp.sinh, X),
    "sqrt": (jnp.sqrt, POSITIVE),
    "square": (jnp.square, X),
    "stop_gradient": (lax.stop_gradient, X),
    "tan": (jnp.tan, X),
    "tanh": (jnp.tanh, X),
    "trunc": (jnp.trunc, X * 3),
    "logical_not": (jnp.logical_not, T),
    "bitwise_invert": (jnp.bitwise_not, I),
    # functions that a jaxpr names
    "relu": (nn.relu, X),
    "silu": (nn.silu, X),
    "softplus": (nn.softplus, X),
    "mish": (nn.mish, X),
    "log_sigmoid": (nn.log_sigmoid, X),
    "hard_swish": (nn.hard_swish, X),
    "hard_sigmoid": (nn.hard_sigmoid, X),
    "leaky_relu": (nn.leaky_relu, X),
    "elu": (nn.elu, X),
    "log_softmax": (nn.log_softmax, X),
    "relu6": (nn.relu6, X * 9),
    "tril": (jnp.tril, X),
    "triu": (jnp.triu, X),
}


@pytest.mark.parametrize("op", UNARY)
def test_unary(op: str) -> None:
    function, x = UNARY[op]
    check(function, x, expect=[op])


BINARY = {
    "add": (jnp.add, X, Y),
    "atan2": (jnp.arctan2, X, Y),
    "bitwise_and": (jnp.bitwise_and, I, J),
    "bitwise_left_shift": (jnp.left_shift, I, J),
    "bitwise_or": (jnp.bitwise_or, I, J),
    "bitwise_right_shift": (jnp.right_shift, I, J),
    "bitwise_xor": (jnp.bitwise_xor, I, J),
    "divide": (jnp.divide, X, Y),
    "equal": (jnp.equal, I, J),
    "floor_divide": (jnp.floor_divide, I, J),
    "fmod": (lax.rem, X, Y),
    "greater": (jnp.greater, X, Y),
    "greater_equal": (jnp.greater_equal, X, Y),
    "less": (jnp.less, X, Y),
    "less_equal": (jnp.less_equal, X, Y),
    "logical_and": (jnp.logical_and, T, Y > 0),
    "logical_or": (jnp.logical_or, T, Y > 0),
    "logical_xor": (jnp.logical_xor, T, Y > 0),
    "maximum": (jnp.maximum, X, Y),
    "minimum": (jnp.minimum, X, Y),
    "multiply": (jnp.multiply, X, Y),
    "nextafter": (lax.nextafter, X, Y),
    "not_equal": (jnp.not_equal, I, J),
    "pow": (jnp.power, POSITIVE, Y),
    "remainder": (jnp.remainder, X, Y),
    "subtract": (jnp.subtract, X, Y),
    "trunc_divide": (lax.div, I, J),
}


@pytest.mark.parametrize("op", BINARY)
def test_binary(op: str) -> None:
    function, x, y = BINARY[op]
    check(function, x, y, expect=[op], rtol=5e-6)


FORMS: dict[str, tuple[Any, list[Any], list[str]]] = {
    "scalar": (lambda x: 1.5 - x, [X], ["subtract"]),
    "int_max_of_bools": (lambda x, y: lax.max(x, y), [T, ~T], ["logical_or"]),
    "rem_of_negative_ints": (lambda x, y: lax.rem(x, y), [I, J], ["fmod"]),
    "remainder_by_a_number": (lambda x: x % 3, [I], ["remainder"]),
    "floor_divide_of_floats": (lambda x: x // 0.7, [X], ["floor_divide"]),
    "integer_pow_2": (lambda x: x**2, [X], ["square"]),
    "integer_pow_3": (lambda x: x**3, [X], ["pow"]),
    "integer_pow_-1": (lambda x: lax.integer_pow(x, -1), [X], ["reciprocal"]),
    "integer_pow_-2": (lambda x: lax.integer_pow(x, -2), [X], ["pow"]),
    "pow_of_a_number": (lambda x: 2.0**x, [X], None),
    "power_of_ints": (lambda x, y: jnp.power(x, y), [X, J], None),
    "clip": (lambda x: jnp.clip(x, -1, 1), [X], ["clip"]),
    "clip_low": (lambda x: jnp.clip(x, min=0), [X], None),
    "clip_arrays": (lambda x, y: jnp.clip(x, y, y + 1), [X, Y], None),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.5), [X], ["clip"]),
    "clamp_arrays": (lambda x, y: lax.clamp(y, x, y + 1), [X, Y], None),
    "round_half_away": (
        lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO),
        [np.float32([0.5, 1.5, -0.5, -2.5, 0.49999997, 7.2])],
        None,
    ),
    "where": (lambda t, x, y: jnp.where(t, x, y), [T, X, Y], ["where"]),
    "where_numbers": (lambda t: jnp.where(t, 1.0, -1.0), [T], None),
    "select_n": (
        lambda i, x, y: lax.select_n(i, x, y, x + y),
        [whole(3, 2, 3), X, Y],
        ["add", "equal", "where", "equal", "where"],
    ),
    "select_scalar_predicate": (
        lambda x, y: lax.select(x[0, 0] > 0, x, y),
        [X, Y],
        None,
    ),
    "logical_shift": (lambda x: lax.shift_right_logical(x, 3), [I], None),
    "arithmetic_shift": (
        lambda x: lax.shift_right_arithmetic(x, 3),
        [I],
        ["bitwise_right_shift"],
    ),
    "to_int": (lambda x: (x * 5).astype(jnp.int32), [X], ["multiply", "astype"]),
    "to_bool": (lambda x: x.astype(bool), [I], None),
    "to_bfloat16": (lambda x: x.astype(jnp.bfloat16), [X], ["astype"]),
    "reduce_precision": (
        lambda x: lax.reduce_precision(x, 8, 7),
        [X],
        ["astype", "astype"],
    ),
    "leaky_relu_slope": (lambda x: nn.leaky_relu(x, 0.3), [X], ["leaky_relu"]),
    "elu_alpha": (lambda x: nn.elu(x, 0.5), [X], ["elu"]),
    "celu": (lambda x: nn.celu(x, 0.7), [X], None),
    "selu": (nn.selu, [X], None),
    "glu": (nn.glu, [normal(2, 4)], None),
    "gelu_tanh": (nn.gelu, [X], None),
    "gelu_erf": (lambda x: nn.gelu(x, approximate=False), [X], None),
    "squareplus": (nn.squareplus, [X], None),
    "soft_sign": (nn.soft_sign, [X], None),
    "hard_tanh": (nn.hard_tanh, [X], None),
    "log_softmax_axis": (lambda x: nn.log_softmax(x, axis=0), [X], ["log_softmax"]),
    "log_softmax_two_axes": (lambda x: nn.log_softmax(x, axis=(0, 1)), [X], None),
    "softmax": (nn.softmax, [X], None),
    "softmax_where": (lambda x, t: nn.softmax(x, where=t), [X, T | True], None),
    "logsumexp": (lambda x: nn.logsumexp(x, axis=-1), [X], None),
    "standardize": (nn.standardize, [X], None),
    "logaddexp": (jnp.logaddexp, [X, Y], None),
    "log2": (jnp.log2, [POSITIVE], None),
    "one_hot": (lambda i: nn.one_hot(i, 5), [J], ["one_hot"]),
    "one_hot_int": (
        lambda i: nn.one_hot(i, 4, dtype=jnp.int32),
        [np.int32([-1, 0, 3, 4])],
        ["one_hot"],
    ),
    "one_hot_axis": (lambda i: nn.one_hot(i, 5, axis=0), [J], None),
    "tril_k": (lambda x: jnp.tril(x, -1), [X], ["tril"]),
    "triu_k": (lambda x: jnp.triu(x, 1), [X], ["triu"]),
    "nan_to_num": (jnp.nan_to_num, [np.float32([1, np.nan, np.inf])], None),
    "sinc": (jnp.sinc, [X], None),
    "heaviside": (jnp.heaviside, [X, Y], None),
    "xlogy": (jax.scipy.special.xlogy, [POSITIVE, POSITIVE], None),
    "half": (lambda x: x * 0.1 + 1, [X.astype(jnp.bfloat16)], ["multiply", "add"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_form(form: str) -> None:
    function, args, expect = FORMS[form]
    check(function, *args, expect=expect, rtol=5e-6)


def test_a_float32_literal_has_its_shortest_form() -> None:
    graph = lower(lambda x: x + 1e-5, X).graph
    assert graph.nodes[0].inputs[1] == Scalar(1e-05)


def test_a_bfloat16_literal_keeps_its_value() -> None:
    graph = lower(lambda x: x * 0.1, X.astype(jnp.bfloat16)).graph
    assert graph.nodes[0].inputs[1] == Scalar(0.10009765625)


def test_numbers_alone_are_computed() -> None:
    def function(x: jax.Array) -> jax.Array:
        n = lax.add(lax.mul(jnp.int32(3), 4), 1)
        return x * n.astype(jnp.float32)

    graph = check(function, X, expect=["multiply"])
    assert graph.nodes[0].inputs[1] == Scalar(13.0)


def test_sizes_as_numbers() -> None:
    graph = check_symbolic(
        lambda x: (x.sum() / x.size, x * (2 * x.shape[0] + 1)),
        "B, 3",
        [X],
        [normal(5, 3)],
        expect=["sum", "divide", "multiply"],
    )
    assert graph.nodes[1].inputs[1] == Scalar(3 * symbol("B"))
    assert graph.nodes[2].inputs[1] == Scalar(2 * symbol("B") + 1)


def test_the_user_s_silu_is_not_jax_s() -> None:
    @jax.jit
    def silu(x: jax.Array) -> jax.Array:
        return x * 2

    check(silu, X, expect=["multiply"])
