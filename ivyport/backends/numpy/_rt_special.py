"""Functions of mathematics that NumPy lacks, which emitted NumPy files copy."""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "gelu",
    "hard_swish",
    "lgamma",
    "log_sigmoid",
    "mish",
    "sigmoid",
    "silu",
    "softplus",
    "tanh_gelu",
]


def erf(x: np.ndarray) -> np.ndarray:
    """The error function: in float32 x P(x^2) / Q(x^2) as XLA and Eigen have it.

    It is off by at most 4e-7, of its own size too (`ErfImpl32`,
    https://github.com/openxla/xla/blob/main/xla/hlo/builder/lib/math.cc). In float64 it is
    C's own.
    """
    if x.dtype == np.float64:
        return np.vectorize(math.erf, otypes=[x.dtype])(x)
    bound = 3.7439211627767994
    y = np.clip(x.astype(np.float32, copy=False), -bound, bound)
    square = y * y

    def polynomial(first: float, *others: float) -> np.ndarray:
        total = np.full_like(square, first)
        for number in others:
            total *= square
            total += number
        return total

    above = polynomial(
        0.00022905065861350646,
        0.0034082910107109506,
        0.050955695062380861,
        0.18520832239976145,
        1.128379143519084,
    )
    below = polynomial(
        -1.1791602954361697e-7,
        0.000023547966471313185,
        0.0010179625278914885,
        0.014070470171167667,
        0.11098505178285362,
        0.49746925110067538,
        1.0,
    )
    # Beyond these bounds it is 1 or -1 to the last bit.
    y = np.where(np.abs(x) >= bound, np.copysign(1.0, x), y * above / below)
    return y.astype(x.dtype, copy=False)


def gelu(x: np.ndarray) -> np.ndarray:
    """0.5 * x * (1 + erf(x / sqrt(2))), the GELU (https://arxiv.org/abs/1606.08415)."""
    return 0.5 * x * (1.0 + erf(x * 0.5**0.5))


def tanh_gelu(x: np.ndarray) -> np.ndarray:
    """GELU by its approximation with tanh (https://arxiv.org/abs/1606.08415)."""
    return 0.5 * x * (1.0 + np.tanh((2 / math.pi) ** 0.5 * (x + 0.044715 * x * x * x)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which overflows nowhere."""
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x)."""
    return x * sigmoid(x)


def softplus(x: np.ndarray) -> np.ndarray:
    """log(1 + exp(x))."""
    return np.logaddexp(x, 0.0)


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    """log(sigmoid(x))."""
    return -np.logaddexp(-x, 0.0)


def mish(x: np.ndarray) -> np.ndarray:
    """x * tanh(softplus(x))."""
    return x * np.tanh(softplus(x))


def hard_swish(x: np.ndarray) -> np.ndarray:
    """x * min(max(x + 3, 0), 6) / 6."""
    return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0


def erfc(x: np.ndarray) -> np.ndarray:
    """1 - erf(x), without the cancellation for large x: C's own."""
    return np.vectorize(math.erfc, otypes=[x.dtype])(x)


def erfinv(x: np.ndarray) -> np.ndarray:
    """The inverse of `erf`: Winitzki's estimate, and three steps of Newton's method.

    https://en.wikipedia.org/wiki/Error_function#Approximation_with_elementary_functions
    """
    wide = np.clip(x.astype(np.float64), -1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log1p(-wide * wide)
        half = 2 / (math.pi * 0.147) + log / 2
        y = np.copysign(np.sqrt(np.sqrt(half * half - log / 0.147) - half), wide)
        for _ in range(3):
            error = erf(y) - wide
            y = np.where(
                np.isfinite(y), y - error * np.exp(y * y) * math.pi**0.5 / 2, y
            )
    ends = np.abs(wide) == 1
    y = np.where(ends, np.copysign(np.inf, wide), y)
    return np.where(np.abs(x) > 1, np.nan, y).astype(x.dtype)


def lgamma(x: np.ndarray) -> np.ndarray:
    """log |Gamma(x)|: C's own, infinite at 0, -1, -2, ..."""

    def one(number: float) -> float:
        pole = number <= 0 and number == math.floor(number)
        return math.inf if pole else math.lgamma(number)

    return np.vectorize(one, otypes=[x.dtype])(x)


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of `lgamma`: by its series from 10 on, below by steps of 1.

    https://dlmf.nist.gov/5.11.E2, and https://dlmf.nist.gov/5.5.E4 for negative x.
    """
    wide = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        y = np.where(wide < 0, 1 - wide, wide)
        total = np.zeros_like(y)
        for _ in range(10):
            small = y < 10
            total = np.where(small, total - 1 / y, total)
            y = np.where(small, y + 1, y)
        part = 1 / (y * y)
        series = part * (1 / 12 - part * (1 / 120 - part * (1 / 252 - part / 240)))
        total += np.log(y) - 0.5 / y - series
        turned = wide - np.floor(wide)
        total = np.where(wide < 0, total - math.pi / np.tan(math.pi * turned), total)
    poles = (wide < 0) & (turned == 0)
    total = np.where(
        poles, np.nan, np.where(wide == 0, -np.copysign(np.inf, wide), total)
    )
    return total.astype(x.dtype)
