"""Elementwise operations of torch: promotion made explicit, then one operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ivyport.core import dtype as dt
from ivyport.core.build import Builder
from ivyport.core.dims import Dim
from ivyport.core.ir import Value
from ivyport.core.passes.stops import carries
from ivyport.frontends.torch.promote import (
    Arg,
    Number,
    floated,
    number_as,
    operand_as,
    promoted,
    result_type,
    tensor_of,
)
from ivyport.frontends.torch.registry import RENAMED, lowers

aten = torch.ops.aten

# Same operand, same dtype: nothing to do but rename.
RENAMED |= {
    aten.abs.default: "abs",
    aten.absolute.default: "abs",
    aten.neg.default: "negative",
    aten.negative.default: "negative",
    aten.bitwise_not.default: "bitwise_invert",
    aten.isnan.default: "isnan",
    aten.isinf.default: "isinf",
    aten.isfinite.default: "isfinite",
    aten.silu.default: "silu",
    aten.mish.default: "mish",
    aten.hardswish.default: "hard_swish",
    aten.hardsigmoid.default: "hard_sigmoid",
    aten.log_sigmoid.default: "log_sigmoid",
}

# Integers and bools become float32 first.
FLOATING = {
    aten.acos.default: "acos",
    aten.arccos.default: "acos",
    aten.acosh.default: "acosh",
    aten.asin.default: "asin",
    aten.arcsin.default: "asin",
    aten.asinh.default: "asinh",
    aten.atan.default: "atan",
    aten.arctan.default: "atan",
    aten.atanh.default: "atanh",
    aten.cos.default: "cos",
    aten.cosh.default: "cosh",
    aten.arccosh.default: "acosh",
    aten.arcsinh.default: "asinh",
    aten.arctanh.default: "atanh",
    aten.erf.default: "erf",
    aten.special_erf.default: "erf",
    aten.erfinv.default: "erfinv",
    aten.exp.default: "exp",
    aten.expm1.default: "expm1",
    aten.special_expm1.default: "expm1",
    aten.log.default: "log",
    aten.log1p.default: "log1p",
    aten.special_log1p.default: "log1p",
    aten.log2.default: "log2",
    aten.log10.default: "log10",
    aten.reciprocal.default: "reciprocal",
    aten.rsqrt.default: "rsqrt",
    aten.sigmoid.default: "sigmoid",
    aten.special_expit.default: "sigmoid",
    aten.sin.default: "sin",
    aten.sinh.default: "sinh",
    aten.sqrt.default: "sqrt",
    aten.tan.default: "tan",
    aten.tanh.default: "tanh",
}

# What rounding leaves of an integer is the integer.
ROUNDING = {
    aten.ceil.default: "ceil",
    aten.floor.default: "floor",
    aten.round.default: "round",
    aten.trunc.default: "trunc",
    aten.fix.default: "trunc",
}

COMPARISONS = {
    "equal": (aten.eq,),
    "not_equal": (aten.ne, aten.not_equal),
    "less": (aten.lt, aten.less),
    "less_equal": (aten.le, aten.less_equal),
    "greater": (aten.gt, aten.greater),
    "greater_equal": (aten.ge, aten.greater_equal),
}

BITWISE = {
    aten.bitwise_and.Tensor: "bitwise_and",
    aten.bitwise_and.Scalar: "bitwise_and",
    aten.__and__.Tensor: "bitwise_and",
    aten.__and__.Scalar: "bitwise_and",
    aten.bitwise_or.Tensor: "bitwise_or",
    aten.bitwise_or.Scalar: "bitwise_or",
    aten.__or__.Tensor: "bitwise_or",
    aten.__or__.Scalar: "bitwise_or",
    aten.bitwise_xor.Tensor: "bitwise_xor",
    aten.bitwise_xor.Scalar: "bitwise_xor",
    aten.__xor__.Tensor: "bitwise_xor",
    aten.__xor__.Scalar: "bitwise_xor",
    aten.bitwise_left_shift.Tensor: "bitwise_left_shift",
    aten.bitwise_left_shift.Tensor_Scalar: "bitwise_left_shift",
    aten.__lshift__.Tensor: "bitwise_left_shift",
    aten.__lshift__.Scalar: "bitwise_left_shift",
    aten.bitwise_right_shift.Tensor: "bitwise_right_shift",
    aten.bitwise_right_shift.Tensor_Scalar: "bitwise_right_shift",
    aten.__rshift__.Tensor: "bitwise_right_shift",
    aten.__rshift__.Scalar: "bitwise_right_shift",
}

LOGICAL = {
    aten.logical_and.default: "logical_and",
    aten.logical_or.default: "logical_or",
    aten.logical_xor.default: "logical_xor",
}


def binary(b: Builder, name: str, x: Arg, y: Arg) -> Value:
    """Operation `name` of two operands, promoted."""
    _, (x, y) = promoted(b, x, y)
    return getattr(b, name)(x, y)


def _floating(name: str) -> Callable[..., Value]:
    def rule(b: Builder, input: Value) -> Value:
        return b.node(name, (floated(b, input),), {}).output

    return rule


def _rounding(name: str) -> Callable[..., Value]:
    def rule(b: Builder, input: Value) -> Value:
        if not dt.is_float(input.type.dtype):
            return input
        return b.node(name, (input,), {}).output

    return rule


def _binary(name: str) -> Callable[..., Value]:
    def rule(b: Builder, input: Arg, other: Arg) -> Value:
        return binary(b, name, input, other)

    return rule


def _logical(name: str) -> Callable[..., Value]:
    def rule(b: Builder, input: Value, other: Value) -> Value:
        return b.node(name, (truth(b, input), truth(b, other)), {}).output

    return rule


def _fill_tables() -> None:
    for target, name in FLOATING.items():
        lowers(target)(_floating(name))
    for target, name in ROUNDING.items():
        lowers(target)(_rounding(name))
    for name, packets in COMPARISONS.items():
        for packet in packets:
            lowers(packet.Tensor, packet.Scalar)(_binary(name))
    for target, name in BITWISE.items():
        lowers(target)(_binary(name))
    for target, name in LOGICAL.items():
        lowers(target)(_logical(name))


_fill_tables()


def truth(b: Builder, x: Value) -> Value:
    """Whether the elements are not zero."""
    return x if x.type.dtype == "bool" else b.not_equal(x, 0)


def scaled(b: Builder, x: Arg, factor: Number) -> Arg:
    """``factor * x``; x itself for 1."""
    if factor == 1:
        return x
    if isinstance(x, Value):
        return mul(b, x, factor)
    return x * factor  # type: ignore[operator]  # numbers and sizes multiply


@lowers(aten.sign.default, aten.sgn.default)
def sign(b: Builder, input: Value) -> Value:
    """-1, 0 or 1; 0 for what is not a number."""
    return b.sign(input, nan=not dt.is_float(input.type.dtype))


@lowers(aten.logical_not.default)
def logical_not(b: Builder, input: Value) -> Value:
    """``not x``; for numbers, whether they are zero."""
    if input.type.dtype == "bool":
        return b.logical_not(input)
    return b.equal(input, 0)


@lowers(aten.relu.default)
def relu(b: Builder, input: Value) -> Value:
    """max(x, 0)."""
    return b.relu(input) if dt.is_float(input.type.dtype) else b.clip(input, min=0)


@lowers(aten.square.default)
def square(b: Builder, input: Value) -> Value:
    """x * x; bools become integers."""
    return b.square(b.cast(input, result_type(input, 2)))


@lowers(aten.exp2.default, aten.special_exp2.default)
def exp2(b: Builder, input: Value) -> Value:
    """2 ** x."""
    return b.pow(2, floated(b, input))


@lowers(aten.erfc.default, aten.special_erfc.default)
def erfc(b: Builder, input: Value) -> Value:
    """1 - erf(x)."""
    return b.erfc(floated(b, input))


@lowers(aten.frac.default)
def frac(b: Builder, input: Value) -> Value:
    """What truncation drops."""
    return b.subtract(input, b.trunc(input))


@lowers(aten.logit.default)
def logit(b: Builder, input: Value, eps: float | None = None) -> Value:
    """log(x / (1 - x)), x clipped to [eps, 1 - eps] if eps is given."""
    x = floated(b, input)
    if eps is not None:
        x = b.clip(x, min=eps, max=1.0 - eps)
    return b.log(b.divide(x, b.subtract(1, x)))


@lowers(aten.add.Tensor, aten.add.Scalar)
def add(b: Builder, input: Arg, other: Arg, alpha: Number = 1) -> Value:
    """x + alpha * y; of bools, or."""
    dtype, (x, y) = promoted(b, input, other)
    if dtype == "bool":
        return b.logical_or(tensor_of(b, x, dtype), tensor_of(b, y, dtype))
    return b.add(x, scaled(b, y, alpha))


@lowers(aten.sub.Tensor, aten.sub.Scalar, aten.subtract.Tensor, aten.subtract.Scalar)
def sub(b: Builder, input: Arg, other: Arg, alpha: Number = 1) -> Value:
    """x - alpha * y."""
    _, (x, y) = promoted(b, input, other)
    return b.subtract(x, scaled(b, y, alpha))


@lowers(aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(b: Builder, input: Arg, other: Arg, alpha: Number = 1) -> Value:
    """y - alpha * x."""
    return sub(b, other, input, alpha)


@lowers(aten.mul.Tensor, aten.mul.Scalar, aten.multiply.Tensor, aten.multiply.Scalar)
def mul(b: Builder, input: Arg, other: Arg) -> Value:
    """x * y; of bools, and."""
    dtype, (x, y) = promoted(b, input, other)
    if dtype == "bool":
        return b.logical_and(tensor_of(b, x, dtype), tensor_of(b, y, dtype))
    return b.multiply(x, y)


@lowers(aten.div.Tensor, aten.div.Scalar, aten.divide.Tensor, aten.divide.Scalar)
@lowers(aten.true_divide.Tensor, aten.true_divide.Scalar)
def div(b: Builder, input: Arg, other: Arg) -> Value:
    """x / y; of integers, in float32."""
    dtype = result_type(input, other)
    if not dt.is_float(dtype):
        dtype = "float32"
    x, y = operand_as(b, input, dtype), operand_as(b, other, dtype)
    if not isinstance(x, Value) and not isinstance(y, Value):
        x = tensor_of(b, x, dtype)
    return b.divide(x, y)


@lowers(aten.floor_divide.default, aten.floor_divide.Scalar)
def floor_divide(b: Builder, input: Arg, other: Arg) -> Value:
    """floor(x / y)."""
    return binary(b, "floor_divide", input, other)


@lowers(aten.div.Tensor_mode, aten.div.Scalar_mode)
@lowers(aten.divide.Tensor_mode, aten.divide.Scalar_mode)
def div_mode(b: Builder, input: Arg, other: Arg, rounding_mode: str | None) -> Value:
    """x / y, rounded down (floor) or towards zero (trunc)."""
    if rounding_mode is None:
        return div(b, input, other)
    if rounding_mode == "floor":
        return floor_divide(b, input, other)
    dtype, (x, y) = promoted(b, input, other)
    if dt.is_float(dtype):
        return b.trunc(b.divide(x, y))
    x, y = tensor_of(b, x, dtype), tensor_of(b, y, dtype)
    magnitude = b.floor_divide(b.abs(x), b.abs(y))
    return b.multiply(magnitude, b.multiply(b.sign(x), b.sign(y)))


@lowers(aten.remainder.Tensor, aten.remainder.Scalar, aten.remainder.Scalar_Tensor)
def remainder(b: Builder, input: Arg, other: Arg) -> Value:
    """x modulo y with the sign of y."""
    return binary(b, "remainder", input, other)


@lowers(aten.fmod.Tensor, aten.fmod.Scalar)
def fmod(b: Builder, input: Arg, other: Arg) -> Value:
    """x modulo y with the sign of x."""
    dtype, (x, y) = promoted(b, input, other)
    x, y = tensor_of(b, x, dtype), tensor_of(b, y, dtype)
    # The slope by x is 1 everywhere, at 0 too.
    magnitude = b.remainder(b.abs(x, slope=1.0), b.abs(y, slope=1.0))
    return b.where(b.less(x, 0), b.negative(magnitude), magnitude)


@lowers(aten.pow.Tensor_Tensor, aten.pow.Tensor_Scalar, aten.pow.Scalar)
def power(b: Builder, input: Arg, exponent: Arg) -> Value:
    """x ** y."""
    _, (x, y) = promoted(b, input, exponent)
    if not isinstance(y, Value | Dim) and y == 2:
        return b.square(x)
    if not isinstance(y, Value | Dim) and y == 1:
        return x  # type: ignore[return-value]  # torch has no power of two numbers
    if not isinstance(y, Value | Dim) and y == 0 and isinstance(x, Value):
        # 1 for all x, without the gradient of a power, which is not a number at 0.
        one = number_as(1, x.type.dtype)
        return b.full(shape=x.type.shape, value=one, dtype=x.type.dtype)
    return b.pow(x, y)


@lowers(aten.fmax.default)
def fmax(b: Builder, input: Value, other: Value) -> Value:
    """The larger element; the other one where one is not a number."""
    return _unless_nan(b, maximum(b, input, other), input, other)


@lowers(aten.fmin.default)
def fmin(b: Builder, input: Value, other: Value) -> Value:
    """The smaller element; the other one where one is not a number."""
    return _unless_nan(b, minimum(b, input, other), input, other)


def _unless_nan(b: Builder, found: Value, x: Value, y: Value) -> Value:
    if not dt.is_float(found.type.dtype):
        return found
    x, y = b.cast(x, found.type.dtype), b.cast(y, found.type.dtype)
    # Of equal elements the first has the gradient.
    kept = b.logical_or(b.isnan(y), b.equal(x, y))
    return b.where(b.isnan(x), y, b.where(kept, x, found))


@lowers(aten.maximum.default, aten.max.other)
def maximum(b: Builder, input: Value, other: Value) -> Value:
    """The larger element; of bools, or."""
    dtype = result_type(input, other)
    return binary(b, "logical_or" if dtype == "bool" else "maximum", input, other)


@lowers(aten.minimum.default, aten.min.other)
def minimum(b: Builder, input: Value, other: Value) -> Value:
    """The smaller element; of bools, and."""
    dtype = result_type(input, other)
    return binary(b, "logical_and" if dtype == "bool" else "minimum", input, other)


@lowers(aten.atan2.default, aten.arctan2.default)
def atan2(b: Builder, input: Value, other: Value) -> Value:
    """The angle of (y, x)."""
    return binary(b, "atan2", floated(b, input), floated(b, other))


@lowers(aten.hypot.default)
def hypot(b: Builder, input: Value, other: Value) -> Value:
    """sqrt(x^2 + y^2)."""
    _, (x, y) = promoted(b, input, other)
    return b.sqrt(b.add(b.square(x), b.square(y)))


@lowers(
    aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar
)
def where(b: Builder, condition: Value, input: Arg, other: Arg) -> Value:
    """x where the condition holds, else y; numbers take part in promotion."""
    condition = b.cast(condition, "bool")
    dtype = result_type(input, other)
    x, y = operand_as(b, input, dtype), operand_as(b, other, dtype)
    if not isinstance(x, Value) and not isinstance(y, Value):
        if (x, y) == (1, 0):
            return b.cast(condition, dtype)
        x = tensor_of(b, x, dtype)
    return b.where(condition, x, y)


@lowers(aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(b: Builder, input: Value, mask: Value, value: Arg) -> Value:
    """`value` where the mask holds, else x, in the dtype of x."""
    fill = operand_as(b, value, input.type.dtype)
    return b.where(b.cast(mask, "bool"), fill, input)


@lowers(aten.nan_to_num.default)
def nan_to_num(
    b: Builder,
    input: Value,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Value:
    """Replace not-a-number by 0 and infinities by the largest numbers, or as given."""
    dtype = input.type.dtype
    if not dt.is_float(dtype):
        return input
    largest = float(dt.finfo(dtype).max)
    high = largest if posinf is None else posinf
    low = -largest if neginf is None else neginf
    x = b.where(b.isnan(input), 0.0 if nan is None else nan, input)
    x = b.where(b.equal(input, math.inf), high, x)
    return b.where(b.equal(input, -math.inf), low, x)


@lowers(aten.lerp.Scalar, aten.lerp.Tensor)
def lerp(b: Builder, input: Value, end: Value, weight: Arg) -> Value:
    """x + weight * (end - x)."""
    return add(b, input, mul(b, sub(b, end, input), weight))


@lowers(aten.addcmul.default)
def addcmul(
    b: Builder, input: Value, tensor1: Value, tensor2: Value, value: Number = 1
) -> Value:
    """x + value * t1 * t2."""
    return add(b, input, mul(b, tensor1, tensor2), value)


@lowers(aten.addcdiv.default)
def addcdiv(
    b: Builder, input: Value, tensor1: Value, tensor2: Value, value: Number = 1
) -> Value:
    """x + value * t1 / t2."""
    return add(b, input, div(b, tensor1, tensor2), value)


@lowers(aten.xlogy.Tensor, aten.special_xlogy.default)
def xlogy(b: Builder, input: Value, other: Value) -> Value:
    """x * log(y), 0 where x is 0."""
    _, (x, y) = promoted(b, floated(b, input), floated(b, other))
    none = b.logical_and(b.equal(x, 0), b.logical_not(b.isnan(y)))
    # The logarithm that is left out has a gradient too, which must stay finite.
    inner = b.log(b.where(none, 1.0, y))
    return b.where(none, 0.0, b.multiply(x, inner))


@lowers(aten.isposinf.default)
def isposinf(b: Builder, input: Value) -> Value:
    """Whether the elements are plus infinity."""
    return b.equal(floated(b, input), math.inf)


@lowers(aten.isneginf.default)
def isneginf(b: Builder, input: Value) -> Value:
    """Whether the elements are minus infinity."""
    return b.equal(floated(b, input), -math.inf)


@lowers(aten.round.decimals)
def round_decimals(b: Builder, input: Value, decimals: int) -> Value:
    """Round to decimal places."""
    if not dt.is_float(input.type.dtype):
        return input
    if decimals == 0:
        return b.round(input)
    # A negative power of ten is no float: divide by the positive one instead.
    scale = float(10 ** abs(decimals))
    if decimals > 0:
        return b.divide(b.round(b.multiply(input, scale)), scale)
    return b.multiply(b.round(b.divide(input, scale)), scale)


@lowers(aten.to.dtype, aten.to.device, aten.to.dtype_layout, aten._to_copy.default)
def to_dtype(b: Builder, input: Value, dtype: str | None = None) -> Value:
    """The elements as `dtype`; placement is dropped."""
    return input if dtype is None else b.cast(input, dtype)


@lowers(aten.to.other, aten.type_as.default)
def type_as(b: Builder, input: Value, other: Value) -> Value:
    """The elements in another tensor's dtype."""
    return b.cast(input, other.type.dtype)


@lowers(aten.alias.default, aten.contiguous.default, aten.clone.default)
@lowers(aten.lift_fresh_copy.default)
@lowers(aten.positive.default, aten.resolve_conj.default, aten.resolve_neg.default)
def unchanged(b: Builder, input: Value) -> Value:
    """The tensor itself."""
    return input


@lowers(aten.detach.default)
def detach(b: Builder, input: Value) -> Value:
    """The tensor without its gradient; the driver leaves out what stops none."""
    return b.stop_gradient(input) if carries(input) else input


@lowers(aten._assert_tensor_metadata.default)
def assert_metadata(
    b: Builder, a: Value, size: Any = None, stride: Any = None, dtype: Any = None
) -> None:
    """Nothing: the graph's types say it."""


@lowers(aten._assert_scalar.default, aten._assert_async.default, aten._assert_async.msg)
def assert_nothing(b: Builder, input: Any, assert_msg: str = "") -> None:
    """Nothing: a guard of the trace, not part of the model."""


@lowers(aten.copy.default)
def copy(b: Builder, input: Value, src: Arg) -> Value:
    """`src` in the dtype and shape of x."""
    source = tensor_of(b, src, input.type.dtype)
    return b.expand(source, input.type.shape)
