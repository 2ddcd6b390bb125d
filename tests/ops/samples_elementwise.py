"""Rows of elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.ops.sample import B, Input, S, Sample, f32, fixed, given, ints, truth

NAN, INF = float("nan"), float("inf")
SPECIAL = given([NAN, INF, -INF, 0.0, 1.0, -2.5], smooth=False)
# Ties of rounding, and the largest float below a half.
HALVES = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 1e10, -1.2, 1.2]
PAIRS = [7, -7, 7, -7, 6, -6, 9, 5], [3, 3, -3, -3, 3, 3, 3, 7]


def _unary(
    op: str, reference: Callable[..., Any], *inputs: Input, **options: Any
) -> list[Sample]:
    rows = inputs or (f32(B, 3),)
    return [
        Sample(
            op,
            (x,),
            lambda b, x: getattr(b, op)(x),
            reference,
            label=f"{i}" if i else "",
            **options,
        )
        for i, x in enumerate(rows)
    ]


def _binary(
    op: str,
    reference: Callable[..., Any],
    *pairs: tuple[Input, Input],
    label: str = "",
    **options: Any,
) -> list[Sample]:
    """Tensors that broadcast, and a scalar on either side."""
    rows = pairs or ((f32(B, 3, low=0.5, high=2), f32(3, low=0.5, high=2)),)
    made = [
        Sample(
            op,
            pair,
            lambda b, x, y: getattr(b, op)(x, y),
            reference,
            f"{label}{i}",
            **options,
        )
        for i, pair in enumerate(rows)
    ]
    x, number = rows[0][0], 2 if rows[0][0].type.dtype != "float32" else 1.5
    return [
        *made,
        Sample(
            op,
            (x,),
            lambda b, x: getattr(b, op)(x, number),
            lambda x: reference(x, torch.as_tensor(number, dtype=x.dtype)),
            f"{label}scalar_right",
            **options,
        ),
        Sample(
            op,
            (x,),
            lambda b, x: getattr(b, op)(number, x),
            lambda x: reference(torch.as_tensor(number, dtype=x.dtype), x),
            f"{label}scalar_left",
            **options,
        ),
    ]


def _int_pairs() -> tuple[Input, Input]:
    return given(PAIRS[0], "int64"), given(PAIRS[1], "int64")


def _float_pairs() -> tuple[Input, Input]:
    tops = [*PAIRS[0], 5.5, -5.5, 1.0, -1e-8, 3.0, -3.0]
    bottoms = [*PAIRS[1], 2.25, 2.25, 0.1, 3.0, INF, INF]
    return given(tops), given(bottoms)


F = torch.nn.functional
UNIT = f32(B, 3, low=-0.9, high=0.9)
POSITIVE = f32(B, 3, low=0.1, high=5)
WIDE = f32(B, 3, low=-30, high=30)

UNARY = [
    *_unary("acos", torch.acos, UNIT),
    *_unary("acosh", torch.acosh, f32(B, 3, low=1.1, high=5)),
    *_unary("asin", torch.asin, UNIT),
    *_unary("asinh", torch.asinh),
    *_unary("atan", torch.atan),
    *_unary("atanh", torch.atanh, UNIT),
    *_unary("cos", torch.cos),
    *_unary("cosh", torch.cosh),
    *_unary("erf", torch.erf),
    *_unary("erfinv", torch.erfinv, UNIT),
    *_unary("exp", torch.exp),
    *_unary("expm1", torch.expm1, f32(B, 3), f32(5, low=-1e-4, high=1e-4)),
    *_unary("log", torch.log, POSITIVE),
    *_unary("log1p", torch.log1p, POSITIVE, f32(5, low=-1e-4, high=1e-4)),
    *_unary("log2", torch.log2, POSITIVE),
    *_unary("log10", torch.log10, POSITIVE),
    *_unary("reciprocal", torch.reciprocal, POSITIVE),
    *_unary("rsqrt", torch.rsqrt, POSITIVE),
    *_unary("sigmoid", torch.sigmoid, f32(B, 3), WIDE),
    *_unary("sin", torch.sin),
    *_unary("sinh", torch.sinh),
    *_unary("softplus", F.softplus, f32(B, 3), WIDE),
    *_unary("sqrt", torch.sqrt, POSITIVE),
    *_unary("tan", torch.tan, UNIT),
    *_unary("tanh", torch.tanh),
    *_unary("silu", F.silu, f32(B, 3), WIDE),
    *_unary("relu", F.relu, f32(B, 3), SPECIAL),
    *_unary("relu6", F.relu6, f32(B, 3), WIDE),
    *_unary("log_sigmoid", F.logsigmoid, f32(B, 3), WIDE),
    *_unary("hard_swish", F.hardswish, f32(B, 3), WIDE),
    *_unary("hard_sigmoid", F.hardsigmoid, f32(B, 3), WIDE),
    *_unary("mish", F.mish, f32(B, 3), WIDE),
    *_unary(
        "abs",
        torch.abs,
        f32(B, 3),
        ints(9, 5, low=-9),
        given([0.0, -0.0, 1.0], smooth=False),
    ),
    *_binary("difference", torch.sub, (f32(B, 3), f32(3))),
    *_unary("negative", torch.neg, f32(B, 3), ints(9, 5, low=-9)),
    *_unary("sign", torch.sign, f32(B, 3), given([0.0, -0.0, 3.0]), ints(3, 5, low=-3)),
    *_unary("square", torch.square, f32(B, 3), ints(9, 5, low=-9)),
    *_unary("floor", torch.floor, given(HALVES), ints(9, 5, low=-9)),
    *_unary("ceil", torch.ceil, given(HALVES), ints(9, 5, low=-9)),
    *_unary("round", torch.round, given(HALVES), ints(9, 5, low=-9)),
    *_unary("trunc", torch.trunc, given(HALVES), ints(9, 5, low=-9)),
    *_unary("isfinite", torch.isfinite, SPECIAL),
    *_unary("isinf", torch.isinf, SPECIAL),
    *_unary("isnan", torch.isnan, SPECIAL),
    *_unary("logical_not", torch.logical_not, truth(B, 3)),
    *_unary("bitwise_invert", torch.bitwise_not, truth(B), ints(9, B, low=-9)),
]

INTS = ints(9, B, 3, low=-9), ints(9, 3, low=1)
SHIFTS = ints(9, B, 3, low=-9), ints(4, 3)
TIED = ints(3, B, 3), ints(3, 3)

BINARY = [
    *_binary("add", torch.add),
    *_binary("subtract", torch.subtract),
    *_binary("multiply", torch.multiply),
    *_binary("multiply", torch.multiply, INTS, label="int_"),
    *_binary("divide", torch.divide),
    *_binary("floor_divide", torch.floor_divide, _int_pairs(), label="int_"),
    *_binary("floor_divide", torch.floor_divide, _float_pairs(), differentiable=False)[
        :1
    ],
    *_binary("remainder", torch.remainder, _int_pairs(), label="int_"),
    *_binary("remainder", torch.remainder, _float_pairs(), differentiable=False)[:1],
    *_binary("pow", torch.pow),
    *_binary("pow", torch.pow, (ints(5, B, 3, low=-4), ints(4, 3)), label="int_"),
    *_binary(
        "maximum", torch.maximum, (f32(B, 3), f32(3)), (SPECIAL, fixed(given([1] * 6)))
    ),
    *_binary("minimum", torch.minimum, (f32(B, 3), f32(3)), TIED),
    *_binary("atan2", torch.atan2, (f32(B, 3), f32(3))),
    *_binary("equal", torch.eq, TIED, (SPECIAL, SPECIAL)),
    *_binary("not_equal", torch.ne, TIED, (SPECIAL, SPECIAL)),
    *_binary("less", torch.lt, TIED),
    *_binary("less_equal", torch.le, TIED),
    *_binary("greater", torch.gt, TIED),
    *_binary("greater_equal", torch.ge, TIED),
    *_binary("bitwise_and", torch.bitwise_and, SHIFTS, (truth(B, 3), truth(3))),
    *_binary("bitwise_or", torch.bitwise_or, SHIFTS, (truth(B, 3), truth(3))),
    *_binary("bitwise_xor", torch.bitwise_xor, SHIFTS, (truth(B, 3), truth(3))),
    *_binary("bitwise_left_shift", torch.bitwise_left_shift, SHIFTS)[:2],
    *_binary("bitwise_right_shift", torch.bitwise_right_shift, SHIFTS)[:2],
    *_binary("logical_and", torch.logical_and, (truth(B, 3), truth(3)))[:1],
    *_binary("logical_or", torch.logical_or, (truth(B, 3), truth(3)))[:1],
    *_binary("logical_xor", torch.logical_xor, (truth(B, 3), truth(3)))[:1],
    *[
        Sample(
            "pow",
            (f32(B, 3),),
            lambda b, x, n=n: b.pow(x, n),
            lambda x, n=n: torch.pow(x, n),
            f"by_{n}",
        )
        for n in (2, 3, 2.0, -1, 3.0)
    ],
    Sample(
        "add",
        (f32(B, S),),
        lambda b, x: b.add(x, S - 1),
        lambda x: x + (x.shape[1] - 1),
        "symbolic_scalar",
    ),
]


def _cast(x: Input, dtype: str, label: str, **options: Any) -> Sample:
    return Sample(
        "astype",
        (x,),
        lambda b, x: b.astype(x, dtype=dtype),
        lambda x: x.to(getattr(torch, dtype)),
        label,
        **options,
    )


OTHER = [
    _cast(f32(B, 3, low=-5, high=5), "int64", "truncates"),
    _cast(ints(3, B), "float32", "int_to_float"),
    _cast(ints(3, B), "bool", "nonzero"),
    _cast(truth(B), "int32", "bool_to_int"),
    _cast(f32(B, 3), "bfloat16", "bfloat16", grad_rtol=1e-2),
    _cast(f32(B, 3), "float16", "float16", grad_rtol=1e-3),
    Sample(
        "where",
        (truth(B, 3), f32(3), f32(B, 1)),
        lambda b, *x: b.where(*x),
        torch.where,
    ),
    Sample(
        "where",
        (truth(B, 3), f32(B, 3)),
        lambda b, c, x: b.where(c, x, -INF),
        lambda c, x: torch.where(c, x, -INF),
        "scalar",
    ),
    Sample(
        "where",
        (truth(B, 3), ints(9, 3)),
        lambda b, c, x: b.where(c, 0, x),
        lambda c, x: torch.where(c, 0, x),
        "integers",
    ),
    *[
        Sample(
            "clip",
            (x,),
            lambda b, x, low=low, high=high: b.clip(x, min=low, max=high),
            lambda x, low=low, high=high: torch.clamp(x, low, high),
            label,
        )
        for x, low, high, label in [
            (f32(B, 3), -0.5, 0.5, "both"),
            (f32(B, 3), 0.1, None, "lower"),
            (f32(B, 3), None, 0.1, "upper"),
            (ints(9, B, low=-9), -2, 3, "integers"),
            (SPECIAL, -1.0, 1.0, "special"),
        ]
    ],
]

ROWS = [*UNARY, *BINARY, *OTHER]
