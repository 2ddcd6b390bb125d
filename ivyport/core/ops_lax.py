"""Operations that XLA has and the Array API standard lacks (https://openxla.org/xla/operation_semantics).

They are what the JAX frontend needs beyond `core.ops` and `core.ops_nn`.
"""

from __future__ import annotations

from ivyport.core import dtype as dt
from ivyport.core.dims import DimLike
from ivyport.core.ir import TensorType
from ivyport.core.opdef import OperandType, demand, op
from ivyport.core.ops import broadcast, normalize
from ivyport.core.ops_nn import Pads, _pooled

NUMPY = "https://docs.jax.dev/en/latest/_autosummary/jax.numpy."
LAX = "https://docs.jax.dev/en/latest/_autosummary/jax.lax."
RANDOM = "https://docs.jax.dev/en/latest/_autosummary/jax.random."


# ---- elementwise


def _floating(x: TensorType) -> TensorType:
    demand(dt.is_float(x.dtype), f"not a float: {x}")
    return x


@op("cbrt", url=f"{LAX}cbrt.html", elementwise=True)
def cbrt(x: TensorType) -> TensorType:
    """The real cube root; negative for negative x."""
    return _floating(x)


@op("exp2", url=f"{LAX}exp2.html", elementwise=True)
def exp2(x: TensorType) -> TensorType:
    """2 ** x."""
    return _floating(x)


@op("erfc", url=f"{LAX}erfc.html", elementwise=True)
def erfc(x: TensorType) -> TensorType:
    """1 - erf(x), without the cancellation for large x."""
    return _floating(x)


@op("lgamma", url=f"{LAX}lgamma.html", elementwise=True)
def lgamma(x: TensorType) -> TensorType:
    """log |Gamma(x)|."""
    return _floating(x)


@op("digamma", url=f"{LAX}digamma.html", elementwise=True)
def digamma(x: TensorType) -> TensorType:
    """The derivative of `lgamma`."""
    return _floating(x)


@op("stop_gradient", url=f"{LAX}stop_gradient.html", elementwise=True)
def stop_gradient(x: TensorType) -> TensorType:
    """x itself, whose derivative is zero (torch: ``x.detach()``)."""
    return x


def _pair(x: OperandType, y: OperandType) -> TensorType:
    tensors = [t for t in (x, y) if isinstance(t, TensorType)]
    demand(len({t.dtype for t in tensors}) == 1, f"operands differ in dtype: {x}, {y}")
    return TensorType(tensors[0].dtype, broadcast(*(t.shape for t in tensors)))


@op("difference", elementwise=True)
def difference(x: OperandType, y: OperandType) -> TensorType:
    """x - y, exactly 0 where both are equal, however a compiler rounds them."""
    return _floating(_pair(x, y))


@op("fmod", url=f"{LAX}rem.html", elementwise=True)
def fmod(x: OperandType, y: OperandType) -> TensorType:
    """The remainder of a division that rounds towards zero: it has the sign of x.

    For floats and integers (C's ``fmod`` and ``%``, numpy's ``fmod``); `remainder` has the sign
    of y.
    """
    joined = _pair(x, y)
    demand(joined.dtype != "bool", f"remainder of bools: {x}, {y}")
    return joined


@op("trunc_divide", url=f"{LAX}div.html", elementwise=True)
def trunc_divide(x: OperandType, y: OperandType) -> TensorType:
    """The quotient of integers rounded towards zero (torch: ``rounding_mode="trunc"``)."""
    joined = _pair(x, y)
    demand(dt.is_int(joined.dtype), f"truncated division of {joined.dtype}")
    return joined


@op("nextafter", url=f"{LAX}nextafter.html", elementwise=True)
def nextafter(x: OperandType, y: OperandType) -> TensorType:
    """The next number of the dtype after x in the direction of y."""
    return _floating(_pair(x, y))


@op("signbit", url=f"{NUMPY}signbit.html", elementwise=True)
def signbit(x: TensorType) -> TensorType:
    """Whether the sign of a float is minus, that of -0 and of NaN too."""
    return _floating(x).with_dtype("bool")


@op("bit_count", url=f"{LAX}population_count.html", elementwise=True)
def bit_count(x: TensorType) -> TensorType:
    """How many bits are set in an integer, in its own dtype."""
    demand(dt.is_int(x.dtype), f"bits of {x.dtype}")
    return x


@op("leading_zeros", url=f"{LAX}clz.html", elementwise=True)
def leading_zeros(x: TensorType) -> TensorType:
    """How many bits in front of an integer's first one are 0, in its own dtype."""
    demand(dt.is_int(x.dtype), f"bits of {x.dtype}")
    return x


# ---- running reductions


def _running(x: TensorType, *, axis: int) -> TensorType:
    normalize(axis, x.rank)
    return x


@op("cumulative_prod", url=f"{LAX}cumprod.html")
def cumulative_prod(x: TensorType, *, axis: int) -> TensorType:
    """Running product along an axis, inclusive; the dtype is kept."""
    return _running(x, axis=axis)


@op("cumulative_max", url=f"{LAX}cummax.html")
def cumulative_max(x: TensorType, *, axis: int) -> TensorType:
    """Running maximum along an axis, inclusive: the values alone."""
    return _running(x, axis=axis)


@op("cumulative_min", url=f"{LAX}cummin.html")
def cumulative_min(x: TensorType, *, axis: int) -> TensorType:
    """Running minimum along an axis, inclusive: the values alone."""
    return _running(x, axis=axis)


@op("cumulative_logsumexp", url=f"{LAX}cumlogsumexp.html")
def cumulative_logsumexp(x: TensorType, *, axis: int) -> TensorType:
    """Running log of the sum of exponentials along an axis, inclusive."""
    return _running(_floating(x), axis=axis)


# ---- slices at computed places


def _demand_starts(x: TensorType, starts: tuple[OperandType, ...]) -> None:
    demand(len(starts) == x.rank, f"{len(starts)} starts for {x}")
    for start in starts:
        if isinstance(start, TensorType):
            scalar = start.shape == () and dt.is_int(start.dtype)
            demand(scalar, f"start {start} is no integer scalar")


@op("dynamic_slice", url=f"{LAX}dynamic_slice.html", tunable=("sizes",))
def dynamic_slice(
    x: TensorType, *starts: OperandType, sizes: tuple[DimLike, ...]
) -> TensorType:
    """``x[s0:s0 + n0, s1:s1 + n1, ...]`` for integer scalars s (tensors of shape (), or numbers).

    There is one start an axis. A start that would leave x is moved: it is clamped to
    0 ... size of the axis - n.
    """
    _demand_starts(x, starts)
    demand(len(sizes) == x.rank, f"sizes {sizes} for {x}")
    return x.with_shape(tuple(sizes))


@op("dynamic_update_slice", url=f"{LAX}dynamic_update_slice.html")
def dynamic_update_slice(
    x: TensorType, values: TensorType, *starts: OperandType
) -> TensorType:
    """x with `values` (of x's rank) written at the starts, out of place; starts as in
    `dynamic_slice`, with the shape of `values` for the sizes."""
    _demand_starts(x, starts)
    demand(x.dtype == values.dtype and x.rank == values.rank, f"{values} into {x}")
    return x


@op("index_reduce")
def index_reduce(
    x: TensorType,
    values: OperandType,
    *indices: TensorType | None,
    mode: str,
    drop: bool = False,
) -> TensorType:
    """`index_update` that combines: ``x[i] = mode(x[i], value)`` for each index i in turn.

    `mode` is mul, min or max. Repeated indices combine all their values; what is out of bounds
    is an error, or dropped with `drop`.
    """
    demand(mode in ("mul", "min", "max"), f"index_reduce mode {mode!r}")
    return x


# ---- windows


@op("sum_pool", url=f"{LAX}reduce_window.html", tunable=("kernel", "stride", "padding"))
def sum_pool(
    x: TensorType,
    *,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: Pads,
    layout: str = "channels_first",
) -> TensorType:
    """Sum over windows; the padding is zeros. `avg_pool` is this divided by a count."""
    ones = (1,) * len(kernel)
    return _pooled(x, kernel, stride, padding, ones, False, layout)


# ---- randomness: the target's own streams; draws happen in eval mode too


@op("random_uniform", url=f"{RANDOM}uniform.html", random=True)
def random_uniform(*, shape: tuple[DimLike, ...], dtype: str) -> TensorType:
    """Independent numbers, uniform in [0, 1)."""
    demand(dt.is_float(dtype), f"uniform numbers of dtype {dtype}")
    return TensorType(dtype, tuple(shape))


@op("random_normal", url=f"{RANDOM}normal.html", random=True)
def random_normal(*, shape: tuple[DimLike, ...], dtype: str) -> TensorType:
    """Independent numbers, normal with mean 0 and variance 1."""
    demand(dt.is_float(dtype), f"normal numbers of dtype {dtype}")
    return TensorType(dtype, tuple(shape))


@op("random_bernoulli", url=f"{RANDOM}bernoulli.html", random=True)
def random_bernoulli(p: OperandType, *, shape: tuple[DimLike, ...]) -> TensorType:
    """Independent booleans, each true with probability p (which broadcasts to the shape)."""
    return TensorType("bool", tuple(shape))
