"""Samples of elementwise operations: promotion, alpha, rounding, in-place forms."""

from __future__ import annotations

import math

import torch

from tests.frontends.torch.sample import (
    A,
    F,
    Sample,
    given,
    ints,
    normal,
    row,
    scalar,
    spaced,
    truth,
    uniform,
)

f16, bf16, f64 = torch.float16, torch.bfloat16, torch.float64
i8, i32, i64, u8 = torch.int8, torch.int32, torch.int64, torch.uint8


def words(text: str) -> list[str]:
    """Names, without a quote around each."""
    return text.split()


OPEN = words("asin arcsin acos arccos atanh erfinv logit")
POSITIVE = words(
    "log log1p log2 log10 special_log1p rsqrt sqrt reciprocal acosh arccosh"
)
UNARY = words(
    "abs neg negative sign sgn isnan isinf isfinite silu mish hardswish"
    " hardsigmoid log_sigmoid acos arccos acosh asin arcsin asinh atan arctan"
    " atanh cos cosh erf special_erf erfinv exp expm1 special_expm1 log log1p"
    " special_log1p log2 log10 reciprocal rsqrt sigmoid special_expit sin sinh"
    " sqrt tan tanh ceil floor round trunc fix relu relu6 square exp2"
    " special_exp2 erfc special_erfc frac logit alias contiguous clone detach"
    " lift_fresh_copy positive resolve_conj resolve_neg nan_to_num isposinf"
    " isneginf logical_not selu"
)
# In-place forms that need a domain of their own or have other arguments come below.
INPLACE = words(
    "abs neg negative sign sgn silu mish hardswish hardsigmoid asinh atan"
    " arctan cos cosh erf exp expm1 sigmoid sin sinh tan tanh ceil floor round"
    " trunc fix relu relu6 square exp2 erfc frac nan_to_num selu acos arccos"
    " asin arcsin atanh erfinv log log1p log2 log10 rsqrt sqrt reciprocal"
    " acosh logit detach elu celu gelu leaky_relu hardtanh"
)


def domain(name: str):
    if name in OPEN:
        return uniform(0.1, 0.9, "B", 4)
    if name in POSITIVE:
        return uniform(1.1, 3.0, "B", 4)
    return normal("B", 4)


def unary(name: str) -> Sample:
    return row(f"{name}", getattr(A, name).default, domain(name))


def inplace(name: str) -> Sample:
    operator = getattr(A, f"{name}_").default
    return row(f"{name}_", lambda x: operator(x.clone()), domain(name))


ARITHMETIC = words("add sub mul div subtract multiply divide true_divide")
BINARY = words("add sub mul div remainder fmod eq ne lt le gt ge")
ALIASES = words(
    "subtract multiply divide true_divide not_equal less less_equal greater"
    " greater_equal"
)


def pairs(name: str) -> list[Sample]:
    """A binary operator on floats, and on what must be promoted."""
    op = getattr(A, name)
    # Numbers reach the tensor form of arithmetic, the scalar form of the others.
    number = op.Tensor if name in ARITHMETIC else op.Scalar
    x = normal("B", 4)
    whole = ints(9, "B", 4, low=1)
    rows = [
        row(f"{name}", op.Tensor, x, normal(4)),
        row(f"{name}-scalar", lambda x: op.Scalar(x, 2), x),
        row(f"{name}-int-float", op.Tensor, whole, uniform(0.5, 2, "B", 4)),
        row(f"{name}-int-float-scalar", lambda x: number(x, 2.5), whole),
        row(f"{name}-int-int", op.Tensor, whole, ints(9, "B", 4, low=1)),
        row(f"{name}-int32-int64", op.Tensor, ints(9, 4, low=1, dtype=i32), whole),
        row(
            f"{name}-half-scalar",
            lambda x: number(x, 1.5),
            normal("B", 4, dtype=f16),
            rtol=2e-3,
        ),
        row(f"{name}-float-0d-double", op.Tensor, x, scalar(1.5, f64)),
        row(f"{name}-int-0d-float", op.Tensor, whole, scalar(1.5)),
        row(f"{name}-size", lambda x: number(x, x.shape[0]), x),
    ]
    return rows


def inplace_pairs(name: str) -> list[Sample]:
    op = getattr(A, f"{name}_")
    x = normal("B", 4)
    return [
        row(f"{name}_", lambda x, y: op.Tensor(x.clone(), y), x, normal(4)),
        row(f"{name}_-scalar", lambda x: op.Scalar(x.clone(), 2), x),
    ]


BITS = words("bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__")
INPLACE_BITS = {
    "bitwise_and_": "bitwise_and",
    "bitwise_or_": "bitwise_or",
    "bitwise_xor_": "bitwise_xor",
    "__iand__": "__and__",
    "__ior__": "__or__",
    "__ixor__": "__xor__",
}
SHIFTS = words("bitwise_left_shift bitwise_right_shift")


def bits() -> list[Sample]:
    rows = []
    for name in BITS:
        op = getattr(A, name)
        rows += [
            row(f"{name}", op.Tensor, ints(9, "B", 4), ints(9, 4)),
            row(f"{name}-bool", op.Tensor, truth("B", 4), truth(4)),
            row(f"{name}-scalar", lambda x, op=op: op.Scalar(x, 5), ints(9, "B", 4)),
            row(f"{name}-mixed", op.Tensor, truth("B", 4), ints(9, 4)),
        ]
    for name in INPLACE_BITS:
        op = getattr(A, name)
        rows += [
            row(
                name,
                lambda x, y, op=op: op.Tensor(x.clone(), y),
                ints(9, 4),
                ints(9, 4),
            ),
            row(f"{name}-s", lambda x, op=op: op.Scalar(x.clone(), 5), ints(9, 4)),
        ]
    for name in SHIFTS:
        op, op_ = getattr(A, name), getattr(A, f"{name}_")
        rows += [
            row(name, op.Tensor, ints(9, 4), ints(3, 4)),
            row(f"{name}-s", lambda x, op=op: op.Tensor_Scalar(x, 2), ints(9, 4)),
            row(
                f"{name}_",
                lambda x, y, op=op_: op.Tensor(x.clone(), y),
                ints(9, 4),
                ints(3, 4),
            ),
            row(
                f"{name}_-s",
                lambda x, op=op_: op.Tensor_Scalar(x.clone(), 2),
                ints(9, 4),
            ),
        ]
    for name in ("__lshift__", "__rshift__"):
        op = getattr(A, name)
        rows += [
            row(name, op.Tensor, ints(9, 4), ints(3, 4)),
            row(f"{name}-s", lambda x, op=op: op.Scalar(x, 2), ints(9, 4)),
        ]
    for name in ("logical_and", "logical_or", "logical_xor"):
        op, op_ = getattr(A, name), getattr(A, f"{name}_")
        rows += [
            row(name, op.default, truth("B", 4), truth(4)),
            row(f"{name}-numbers", op.default, ints(2, "B", 4), normal(4)),
            row(
                f"{name}_",
                lambda x, y, op=op_: op.default(x.clone(), y),
                truth(4),
                truth(4),
            ),
        ]
    return rows


x = normal("B", 4)
whole = ints(9, "B", 4, low=1)
signed = ints(9, "B", 4, low=-9)
odd = given(math.nan, math.inf, -math.inf, 0.0, 1.5, -2.5)

ROWS: list[Sample] = [
    *map(unary, UNARY),
    *map(inplace, INPLACE),
    *(r for name in BINARY for r in pairs(name)),
    *(r for name in ALIASES for r in pairs(name)[:2]),
    *(r for name in [*BINARY, *ALIASES] for r in inplace_pairs(name)),
    *bits(),
    # Integers and bools through functions of floats.
    row("exp-int", torch.exp, whole, ops="astype exp"),
    row("sqrt-bool", torch.sqrt, truth(4), ops="astype sqrt"),
    row("sigmoid-half", torch.sigmoid, normal(4, dtype=bf16), rtol=1e-2),
    row("floor-int", torch.floor, whole, ops=""),
    row("square-bool", torch.square, truth(4)),
    row("relu-int", torch.relu, signed, ops="clip"),
    row("logical_not-int", torch.logical_not, ints(2, 4)),
    row("logical_not-bool", torch.logical_not, truth(4), ops="logical_not"),
    row("bitwise_not", torch.bitwise_not, ints(9, 4)),
    row("bitwise_not-bool", lambda x: ~x, truth("B"), ops="bitwise_invert"),
    row("bitwise_not_", lambda x: A.bitwise_not_.default(x.clone()), ints(9, 4)),
    row("logical_not_", lambda x: A.logical_not_.default(x.clone()), truth(4)),
    row("isfinite-odd", torch.isfinite, odd),
    row("isnan-odd", torch.isnan, odd),
    row("isposinf-odd", torch.isposinf, odd),
    row("isneginf-odd", torch.isneginf, odd),
    row("nan_to_num-odd", torch.nan_to_num, odd),
    row("nan_to_num-given", lambda x: torch.nan_to_num(x, 1.0, 2.0, -3.0), odd),
    row("logit-eps", lambda x: torch.logit(x, 1e-6), uniform(0, 1, "B")),
    row("round-decimals", lambda x: torch.round(x, decimals=2), normal("B")),
    row("round-decimals-negative", lambda x: torch.round(100 * x, decimals=-1), x),
    row("round_-decimals", lambda x: A.round_.decimals(x.clone(), decimals=2), x),
    # Arithmetic.
    row("add-alpha", lambda x, y: torch.add(x, y, alpha=3), x, normal(4)),
    row("add-alpha-scalar", lambda x: torch.add(x, 2, alpha=0.5), x),
    row("add-bool", torch.add, truth(4), truth(4), ops="logical_or"),
    row("mul-bool", torch.mul, truth(4), truth(4), ops="logical_and"),
    row("add-bool-int", lambda x: x + 1, truth(4), ops="astype add"),
    row("mul-bool-float", torch.mul, truth("B", 4), x, ops="astype multiply"),
    row("sub-alpha", lambda x, y: torch.sub(x, y, alpha=3), x, normal(4)),
    row("rsub", lambda x: 1 - x, x, ops="subtract"),
    row("rsub-int", lambda x: 1.5 - x, whole),
    row("rsub-tensor", lambda x, y: torch.rsub(x, y, alpha=2), x, normal(4)),
    row("rsub-alpha", lambda x: A.rsub.Scalar(x, 3, 2), x),
    row("div-int", lambda x: x / 2, whole, ops="astype divide"),
    row("rdiv", lambda x: 2 / x, whole),
    row("div-bool", torch.div, truth(4), ints(3, 4, low=1)),
    row("div-half-int", torch.div, normal("B", 4, dtype=f16), whole, rtol=1e-3),
    *(
        row(
            f"{name}-{mode}-{kind}",
            lambda x, y, name=name, mode=mode: getattr(A, name).Tensor_mode(
                x, y, rounding_mode=mode
            ),
            first,
            second,
        )
        for name in ("div", "divide")
        for mode in ("floor", "trunc", None)
        for kind, first, second in (
            ("int", signed, ints(4, 4, low=1)),
            ("float", x, uniform(0.5, 2, 4)),
            ("mixed", signed, uniform(0.5, 2, 4)),
        )
    ),
    *(
        row(
            f"{name}-{mode}-scalar",
            lambda x, name=name, mode=mode: getattr(A, name).Scalar_mode(
                x, -3, rounding_mode=mode
            ),
            signed,
        )
        for name in ("div", "divide")
        for mode in ("floor", "trunc")
    ),
    *(
        row(
            f"{name}_-mode",
            lambda x, name=f"{name}_": getattr(A, name).Scalar_mode(
                getattr(A, name).Tensor_mode(x.clone(), x + 9, rounding_mode="floor"),
                2,
                rounding_mode="trunc",
            ),
            x,
        )
        for name in ("div", "divide")
    ),
    row("floor_divide", torch.floor_divide, signed, ints(4, 4, low=1)),
    row("floor_divide-scalar", lambda x: x // 3, signed, ops="floor_divide"),
    row("floor_divide-float", lambda x: x // 0.7, x),
    row("floor_divide-Scalar", lambda x: A.floor_divide.Scalar(x, 3), signed),
    row("floor_divide_", lambda x: x.clone().floor_divide_(x + 9), x),
    row("floor_divide_-scalar", lambda x: A.floor_divide_.Scalar(x.clone(), 3), x),
    row("remainder-negative", lambda x: x % -3, signed),
    row("remainder-scalar-tensor", lambda x: A.remainder.Scalar_Tensor(7, x), whole),
    row("fmod-negative", lambda x: torch.fmod(x, -3), signed),
    row("pow-2", lambda x: x**2, x, ops="square"),
    row("pow-2.0", lambda x: x**2.0, x, ops="square"),
    row("pow-1", lambda x: x**1, x, ops=""),
    row("pow-3", lambda x: x**3, x, ops="pow"),
    row("pow-half", lambda x: x**0.5, uniform(0, 2, "B")),
    row("pow-int-float", lambda x: x**1.5, whole),
    row("pow-tensor", torch.pow, uniform(0.5, 2, "B", 4), normal(4)),
    row("pow-int-tensor", torch.pow, whole, ints(3, 4)),
    row("rpow", lambda x: 2**x, x),
    row("rpow-float", lambda x: 1.5**x, whole),
    row("pow_", lambda x: x.clone().pow_(3), x),
    row("pow_-tensor", lambda x: A.pow_.Tensor(x.abs() + 1, x), x),
    row("maximum", torch.maximum, x, normal(4), ops="maximum"),
    row("maximum-bool", torch.maximum, truth(4), truth(4), ops="logical_or"),
    row("maximum-mixed", torch.maximum, whole, normal(4)),
    row("max-other", lambda x, y: torch.max(x, y), x, normal(4)),
    row("fmax", torch.fmax, x, normal(4)),
    row("minimum", torch.minimum, x, normal(4), ops="minimum"),
    row("minimum-bool", torch.minimum, truth(4), truth(4), ops="logical_and"),
    row("min-other", lambda x, y: torch.min(x, y), whole, ints(9, 4, dtype=i32)),
    row("fmin", torch.fmin, x, normal(4)),
    row("atan2", torch.atan2, x, normal(4)),
    row("arctan2", A.arctan2.default, whole, normal(4)),
    row("atan2_", lambda x: A.arctan2_.default(A.atan2_.default(x.clone(), x), x), x),
    row("hypot", torch.hypot, x, normal(4)),
    row("hypot_", lambda x: A.hypot_.default(x.clone(), x + 1), x),
    row("xlogy", torch.xlogy, uniform(0, 1, "B", 4), uniform(0.1, 1, 4)),
    row("xlogy-zero", torch.xlogy, given(0.0, 0.0, 1.0), given(0.0, 2.0, 2.0)),
    row("special_xlogy", A.special_xlogy.default, ints(3, 4), uniform(0.1, 1, 4)),
    row("xlogy_", lambda x, y: A.xlogy_.Tensor(x.clone(), y), x, uniform(0.1, 1, 4)),
    row("lerp", lambda x, y: torch.lerp(x, y, 0.3), x, normal("B", 4)),
    row("lerp-tensor", torch.lerp, x, normal("B", 4), uniform(0, 1, 4)),
    row("lerp_", lambda x, y: A.lerp_.Scalar(x.clone(), y, 0.3), x, normal("B", 4)),
    row("lerp_-t", lambda x, y, w: A.lerp_.Tensor(x.clone(), y, w), x, x, normal(4)),
    row("addcmul", lambda x, y: torch.addcmul(x, x, y, value=0.5), x, normal(4)),
    row("addcdiv", lambda x, y: torch.addcdiv(x, x, y, value=2), x, uniform(1, 2, 4)),
    row("addcmul_", lambda x: A.addcmul_.default(x.clone(), x, x), x),
    row("addcdiv_", lambda x: A.addcdiv_.default(x.clone(), x, x + 9), x),
    # Clipping.
    row("clamp", lambda x: x.clamp(-0.5, 0.5), x, ops="clip"),
    row("clamp-min-only", lambda x: x.clamp(min=0), x),
    row("clamp-int-float", lambda x: x.clamp(0.5, 3.5), whole, ops="astype clip"),
    row("clip", lambda x: A.clip.default(x, -1, 1), x),
    row("clamp-tensor", lambda x, y: torch.clamp(x, y, y + 1), x, normal(4)),
    row("clamp-tensor-max", lambda x, y: A.clip.Tensor(x, None, y), x, normal(4)),
    row("clamp_min", lambda x: torch.clamp_min(x, 0.1), x),
    row("clamp_max", lambda x: torch.clamp_max(x, 0.1), x),
    row("clamp_min-tensor", lambda x, y: A.clamp_min.Tensor(x, y), x, normal(4)),
    row("clamp_max-tensor", lambda x, y: A.clamp_max.Tensor(x, y), x, normal(4)),
    row("clamp_", lambda x: A.clip_.default(x.clone().clamp_(-1, 1), -0.5, 0.5), x),
    row("clamp_min_", lambda x: A.clamp_min_.default(x.clone(), 0.1), x),
    row("clamp_max_", lambda x: A.clamp_max_.default(x.clone(), 0.1), x),
    row("clamp_-tensor", lambda x, y: A.clamp_.Tensor(x.clone(), y), x, normal(4)),
    row("clip_-tensor", lambda x, y: A.clip_.Tensor(x.clone(), y), x, normal(4)),
    row("clamp_min_-t", lambda x, y: A.clamp_min_.Tensor(x.clone(), y), x, normal(4)),
    row("clamp_max_-t", lambda x, y: A.clamp_max_.Tensor(x.clone(), y), x, normal(4)),
    row("hardtanh", lambda x: F.hardtanh(x, -0.3, 0.7), x, ops="clip"),
    row("relu6-functional", F.relu6, x, ops="relu6"),
    # Selection.
    row("where", torch.where, truth("B", 1), x, normal(4), ops="where"),
    row("where-promoted", torch.where, truth("B", 4), whole, normal(4)),
    row("where-0d", torch.where, truth("B", 4), ints(3, 4), scalar(-1.5)),
    row("where-scalar-other", lambda c, x: torch.where(c, x, 0.5), truth("B", 4), x),
    row("where-scalar-int", lambda c, x: torch.where(c, x, 0.5), truth("B", 4), whole),
    row("where-scalar-self", lambda c, x: torch.where(c, 0.5, x), truth("B", 4), x),
    row("where-scalars", lambda c: torch.where(c, 1.5, -math.inf), truth("B", 4)),
    row("where-scalars-int", lambda c: torch.where(c, 3, 2), truth("B", 4)),
    row("where-one-zero", lambda c: torch.where(c, 1, 0), truth("B"), ops="astype"),
    row("masked_fill", lambda x, m: x.masked_fill(m, -math.inf), x, truth("B", 1)),
    row(
        "masked_fill-min",
        lambda x, m: x.masked_fill(m, torch.finfo(x.dtype).min),
        x,
        truth(4),
        ops="where",
    ),
    row("masked_fill-int", lambda x, m: x.masked_fill(m, 7.0), whole, truth(4)),
    row(
        "masked_fill-bool", lambda x, m: x.masked_fill(m, True), truth("B", 4), truth(4)
    ),
    row(
        "masked_fill-wider", lambda x, m: x.masked_fill(m, 0), normal(4), truth("B", 4)
    ),
    row("masked_fill-tensor", torch.masked_fill, x, truth(4), scalar(2)),
    row("masked_fill_", lambda x, m: x.clone().masked_fill_(m, 2.0), x, truth(4)),
    row(
        "masked_fill_-tensor",
        lambda x, m, v: A.masked_fill_.Tensor(x.clone(), m, v),
        x,
        truth(4),
        scalar(2.0),
    ),
    # Casts and what does nothing.
    row("to-dtype", lambda x: x.to(torch.float16), x, ops="astype"),
    row("to-same", lambda x: x.to(torch.float32), x, ops=""),
    row("to-int", lambda x: (3 * x).to(i64), x),
    row("to-bool", lambda x: x.bool(), ints(2, "B")),
    row("to-layout", lambda x: A.to.dtype_layout(x, dtype=f16, device="cpu"), x),
    row("to-layout-none", lambda x: A.to.dtype_layout(x, device="cpu"), x, ops=""),
    row("to-device", lambda x: x.to("cpu", i64), whole, ops=""),
    row("to-other", lambda x, y: A.to.other(x, y), x, ints(3, 2), ops="astype"),
    row("_to_copy", lambda x: A._to_copy.default(x, dtype=f16), x, ops="astype"),
    row("type_as", lambda x, y: x.type_as(y), whole, normal(4), ops="astype"),
    row("type_as-same", lambda x, y: x.type_as(y), x, normal(4), ops=""),
    row("copy", lambda x, y: A.copy.default(x, y), x, normal(4), ops="broadcast_to"),
    row("copy_", lambda x, y: x.clone().copy_(y), x, ints(4, "B", 4), ops="astype"),
    row(
        "asserts",
        lambda x: (
            A._assert_tensor_metadata.default(x, dtype=torch.float32),
            A._assert_async.default(x.sum() < 99),
            A._assert_async.msg(x.sum() < 99, "large"),
            x + 1,
        )[-1],
        x,
    ),
    row("spaced", torch.sign, spaced("B", 4)),
    # In-place forms with arguments.
    row("add_-alpha", lambda x, y: x.clone().add_(y, alpha=2), x, normal(4)),
    row("threshold_", lambda x: A.threshold_.default(x.clone(), 0.1, 7), x),
    row("uint8", lambda x, y: x + y, ints(9, 4, dtype=u8), ints(9, 4, dtype=i8)),
]
