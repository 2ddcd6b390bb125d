"""Random draws: they become draws from the port's own generator, in the modes that draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import DimLike
from ivyport.core.errors import GraphError
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.frontends.torch.registry import lowers

aten = torch.ops.aten
Shape = Sequence[DimLike]
SELU = 1.7580993408473766  # scale * alpha of the self-normalising ELU, arXiv:1706.02515

# In-place operators, and the functional ones that draw the same numbers.
INPLACE: dict[Any, Any] = {
    aten.bernoulli_.float: aten.bernoulli.p,
    aten.bernoulli_.Tensor: aten.bernoulli.Tensor,
    aten.uniform_.default: aten.uniform.default,
    aten.normal_.default: aten.normal_functional.default,
    aten.exponential_.default: aten.exponential.default,
    aten.geometric_.default: aten.geometric.default,
    aten.cauchy_.default: aten.cauchy.default,
    aten.log_normal_.default: aten.log_normal.default,
    aten.random_.default: aten.random.default,
    aten.random_.to: aten.random.to,
    aten.rrelu_.default: aten.rrelu.default,
    aten.alpha_dropout_.default: aten.alpha_dropout.default,
    aten.feature_alpha_dropout_.default: aten.feature_alpha_dropout.default,
}


@lowers(aten.rand.default)
def rand(b: Builder, size: Shape, dtype: str | None = None) -> Value:
    """Uniform in [0, 1)."""
    return b.random_uniform(shape=tuple(size), dtype=dtype or "float32")


@lowers(aten.rand_like.default)
def rand_like(b: Builder, input: Value, dtype: str | None = None) -> Value:
    """Uniform in [0, 1), in the shape of another tensor."""
    return rand(b, input.type.shape, dtype or input.type.dtype)


@lowers(aten.randn.default)
def randn(b: Builder, size: Shape, dtype: str | None = None) -> Value:
    """Normal with mean 0 and variance 1."""
    return b.random_normal(shape=tuple(size), dtype=dtype or "float32")


@lowers(aten.randn_like.default)
def randn_like(b: Builder, input: Value, dtype: str | None = None) -> Value:
    """Normal, in the shape of another tensor."""
    return randn(b, input.type.shape, dtype or input.type.dtype)


@lowers(aten.normal_functional.default)
def normal(b: Builder, input: Value, mean: float = 0.0, std: float = 1.0) -> Value:
    """Normal with a mean and a deviation."""
    return _affine(b, randn_like(b, input), std, mean)


@lowers(aten.normal.float_float)
def normal_of_size(
    b: Builder, mean: float, std: float, size: Shape, dtype: str | None = None
) -> Value:
    """Normal with a mean and a deviation."""
    return _affine(b, randn(b, size, dtype), std, mean)


@lowers(aten.normal.Tensor_float)
def normal_around(b: Builder, mean: Value, std: float = 1.0) -> Value:
    """Normal around given means."""
    return b.add(_affine(b, randn_like(b, mean), std, 0.0), mean)


@lowers(aten.normal.Tensor_Tensor)
def normal_spread(b: Builder, mean: Value, std: Value) -> Value:
    """Normal around given means, with given deviations of their shape."""
    if mean.type != std.type:
        raise GraphError(f"normal of {mean.type} and {std.type}: one type is due")
    return b.add(b.multiply(randn_like(b, mean), std), mean)


@lowers(aten.uniform.default)
def uniform(b: Builder, input: Value, low: float = 0.0, to: float = 1.0) -> Value:
    """Uniform in [low, to)."""
    return _affine(b, rand_like(b, input), to - low, low)


def _affine(b: Builder, x: Value, scale: float, shift: float) -> Value:
    x = x if scale == 1 else b.multiply(x, float(scale))
    return x if shift == 0 else b.add(x, float(shift))


@lowers(aten.exponential.default)
def exponential(b: Builder, input: Value, lambd: float = 1.0) -> Value:
    """-log(u) / lambda; never 0, as torch's."""
    u = rand_like(b, input)
    tiny = float(dt.finfo(input.type.dtype).tiny)
    drawn = b.clip(b.negative(b.log1p(b.negative(u))), min=tiny)
    return drawn if lambd == 1 else b.divide(drawn, float(lambd))


@lowers(aten.geometric.default)
def geometric(b: Builder, input: Value, p: float) -> Value:
    """How many trials of probability p it takes to succeed once: 1, 2, 3, ..."""
    if p == 1:
        return b.full(shape=input.type.shape, value=1, dtype=input.type.dtype)
    if not 0 < p < 1:
        raise GraphError(f"geometric with p={p}: a number above 0 and up to 1 is due")
    waited = exponential(b, _float_like(b, input), -math.log1p(-p))
    return b.cast(b.ceil(waited), input.type.dtype)


@lowers(aten.cauchy.default)
def cauchy(b: Builder, input: Value, median: float = 0.0, sigma: float = 1.0) -> Value:
    """median + sigma * tan(pi * (u - 0.5))."""
    u = _affine(b, rand_like(b, input), math.pi, -math.pi / 2)
    return _affine(b, b.tan(u), sigma, median)


@lowers(aten.log_normal.default)
def log_normal(b: Builder, input: Value, mean: float = 1.0, std: float = 2.0) -> Value:
    """exp of normal numbers."""
    return b.exp(normal(b, input, mean, std))


def _float_like(b: Builder, x: Value) -> Value:
    return x if dt.is_float(x.type.dtype) else b.cast(x, "float32")


def _random(b: Builder, input: Value, to: int | None = None) -> Value:
    """Integers in [0, to), in the type of a tensor; torch cannot export those from a number."""
    if to is None:
        raise GraphError(
            "random_() draws from all numbers that the dtype holds: say from which ones, as "
            "random_(1000)"
        )
    return randint_from(b, 0, to, input.type.shape, input.type.dtype)


lowers(aten.random.default, aten.random.to)(_random)


@lowers(aten.bernoulli.p)
def bernoulli(b: Builder, input: Value, p: float) -> Value:
    """1 with probability p, else 0, in the type of a tensor."""
    drawn = b.random_bernoulli(float(p), shape=input.type.shape)
    return b.cast(drawn, input.type.dtype)


@lowers(aten.bernoulli.default)
def bernoulli_of(b: Builder, input: Value) -> Value:
    """1 with the probability that a tensor holds, else 0."""
    return b.cast(b.random_bernoulli(input, shape=input.type.shape), input.type.dtype)


@lowers(aten.bernoulli.Tensor)
def bernoulli_with(b: Builder, input: Value, p: Value) -> Value:
    """The same with the probabilities in another tensor."""
    return b.cast(b.random_bernoulli(p, shape=input.type.shape), input.type.dtype)


@lowers(aten.randint.low)
def randint_from(
    b: Builder, low: int, high: int, size: Shape, dtype: str | int | None = None
) -> Value:
    """Integers in [low, high); int64 where none is asked for: the schema has a number."""
    span = high - low
    if not 0 < span < 2**24:
        raise GraphError(f"randint from {low} to {high}: up to 2**24 numbers are drawn")
    u = b.random_uniform(shape=tuple(size), dtype="float32")
    drawn = b.clip(b.floor(b.multiply(u, float(span))), max=float(span - 1))
    whole = b.cast(drawn, dtype if isinstance(dtype, str) else "int64")
    return whole if low == 0 else b.add(whole, low)


@lowers(aten.randint.default)
def randint(
    b: Builder, high: int, size: Shape, dtype: str | int | None = None
) -> Value:
    """Integers in [0, high)."""
    return randint_from(b, 0, high, size, dtype)


@lowers(aten.randint_like.default)
def randint_like(
    b: Builder, input: Value, high: int, dtype: str | None = None
) -> Value:
    """Integers in [0, high), in the shape of another tensor."""
    return randint_from(b, 0, high, input.type.shape, dtype or input.type.dtype)


@lowers(aten.multinomial.default)
def multinomial(
    b: Builder, input: Value, num_samples: int, replacement: bool = False
) -> Value:
    """One index a row, with probabilities in proportion to the row."""
    if num_samples != 1:
        raise GraphError(
            f"multinomial of {num_samples} samples: one sample a row is drawn; draw "
            "outside of the model and pass the indices as an input"
        )
    # The first to arrive; what has the probability 0 never does, whatever is drawn.
    best = b.argmax(b.divide(input, exponential(b, input)), axis=-1)
    index = (*(Slice(),) * (input.type.rank - 1), NewAxis())
    return b.getitem(b.cast(best, "int64"), index=index)


@lowers(aten.rrelu.default)
def rrelu(
    b: Builder,
    input: Value,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
) -> Value:
    """x where positive, else a * x; a is uniform in training, else in the middle."""
    if not training:
        return b.leaky_relu(input, negative_slope=(lower + upper) / 2)
    slope = _affine(b, rand_like(b, input), upper - lower, lower)
    return b.where(b.greater(input, 0.0), input, b.multiply(input, slope))


@lowers(aten.alpha_dropout.default)
def alpha_dropout(b: Builder, input: Value, p: float, train: bool) -> Value:
    """Dropout that keeps mean and variance of what SELU gives (arXiv:1706.02515)."""
    return _alpha(b, input, p, input.type.shape) if train and p else input


@lowers(aten.feature_alpha_dropout.default)
def feature_alpha_dropout(b: Builder, input: Value, p: float, train: bool) -> Value:
    """The same for whole channels."""
    rank = input.type.rank
    shape = (*input.type.shape[:2], *(1,) * (rank - 2))
    return _alpha(b, input, p, shape) if train and p else input


def _alpha(b: Builder, x: Value, p: float, shape: Shape) -> Value:
    dtype = x.type.dtype
    if p == 1:
        return b.full(shape=x.type.shape, value=0.0, dtype=dtype)
    a = 1 / math.sqrt((SELU**2 * p + 1) * (1 - p))
    kept = b.random_bernoulli(1 - p, shape=tuple(shape))
    kept = b.expand(kept, x.type.shape)
    return _affine(b, b.where(kept, x, -SELU), a, SELU * a * p)


@lowers(aten.randperm.default, aten.randint_like.low_dtype)
@lowers(aten.poisson.default)
def refused(b: Builder, **_: Any) -> NoReturn:
    """Draws of other distributions."""
    raise GraphError(
        "this random draw is not supported (uniform, normal, Bernoulli, exponential and "
        "categorical ones are); draw outside of the model and pass the tensor as an input"
    )
