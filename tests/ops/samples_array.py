"""Rows of elementwise operations, reductions, shapes, creation and products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.ops.sample import B, Input, S, Sample, f32, given, ints, spaced, truth

NAN, INF = float("nan"), float("inf")
SPECIAL = [NAN, INF, -INF, 0.0, 1.0, -2.5]
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
    op: str, reference: Callable[..., Any], *pairs: tuple[Input, Input], **options: Any
) -> list[Sample]:
    """Tensors that broadcast, and a scalar on either side."""
    rows = pairs or ((f32(B, 3, low=0.5, high=2), f32(3, low=0.5, high=2)),)
    made = [
        Sample(
            op, pair, lambda b, x, y: getattr(b, op)(x, y), reference, f"{i}", **options
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
            "scalar_right",
            **options,
        ),
        Sample(
            op,
            (x,),
            lambda b, x: getattr(b, op)(number, x),
            lambda x: reference(torch.as_tensor(number, dtype=x.dtype), x),
            "scalar_left",
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
    *_unary("relu", F.relu, f32(B, 3), given([NAN, INF, -INF, 0.0])),
    *_unary("log_sigmoid", F.logsigmoid, f32(B, 3), WIDE),
    *_unary("hard_swish", F.hardswish, f32(B, 3), WIDE),
    *_unary("hard_sigmoid", F.hardsigmoid, f32(B, 3), WIDE),
    *_unary("mish", F.mish, f32(B, 3), WIDE),
    *_unary("abs", torch.abs, f32(B, 3), ints(9, 5, low=-9), given([0.0, -0.0, 1.0])),
    *_unary("negative", torch.neg, f32(B, 3), ints(9, 5, low=-9)),
    *_unary("sign", torch.sign, f32(B, 3), given([0.0, -0.0, 3.0]), ints(3, 5, low=-3)),
    *_unary("square", torch.square, f32(B, 3), ints(9, 5, low=-9)),
    *_unary("floor", torch.floor, given(HALVES), ints(9, 5, low=-9)),
    *_unary("ceil", torch.ceil, given(HALVES), ints(9, 5, low=-9)),
    *_unary("round", torch.round, given(HALVES), ints(9, 5, low=-9)),
    *_unary("trunc", torch.trunc, given(HALVES), ints(9, 5, low=-9)),
    *_unary("isfinite", torch.isfinite, given(SPECIAL)),
    *_unary("isinf", torch.isinf, given(SPECIAL)),
    *_unary("isnan", torch.isnan, given(SPECIAL)),
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
    *_binary("multiply", torch.multiply, INTS),
    *_binary("divide", torch.divide),
    *_binary("floor_divide", torch.floor_divide, _int_pairs()),
    *_binary("floor_divide", torch.floor_divide, _float_pairs(), differentiable=False)[
        :1
    ],
    *_binary("remainder", torch.remainder, _int_pairs()),
    *_binary("remainder", torch.remainder, _float_pairs(), differentiable=False)[:1],
    *_binary("pow", torch.pow),
    *_binary("pow", torch.pow, (ints(5, B, 3, low=-4), ints(4, 3))),
    *_binary(
        "maximum", torch.maximum, (f32(B, 3), f32(3)), (given(SPECIAL), given([1] * 6))
    ),
    *_binary("minimum", torch.minimum, (f32(B, 3), f32(3)), TIED),
    *_binary("atan2", torch.atan2, (f32(B, 3), f32(3))),
    *_binary("equal", torch.eq, TIED, (given(SPECIAL), given(SPECIAL))),
    *_binary("not_equal", torch.ne, TIED, (given(SPECIAL), given(SPECIAL))),
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
            (given(SPECIAL), -1.0, 1.0, "special"),
        ]
    ],
]


def _reduction(
    op: str, reference: Callable[..., Any], x: Input, label: str, **attrs: Any
) -> Sample:
    axis = attrs.get("axis")
    given_axis = {} if axis is None else {"dim": axis}
    rest = {k: v for k, v in attrs.items() if k != "axis"}
    keep = {"keepdim" if k == "keepdims" else k: v for k, v in rest.items()}
    return Sample(
        op,
        (x,),
        lambda b, x: getattr(b, op)(x, **attrs),
        lambda x: reference(x, **given_axis, **keep),
        label,
    )


def _product(x: torch.Tensor, dim: Any = (), keepdim: bool = False) -> torch.Tensor:
    for axis in sorted(dim, reverse=True):
        x = torch.prod(x, axis, keepdim=keepdim, dtype=x.dtype)
    return x if dim else torch.prod(x, dtype=x.dtype)


def _sum(x: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    return torch.sum(x, dim, keepdim=keepdim, dtype=x.dtype)


def _logsumexp(x: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    return torch.logsumexp(x, tuple(range(x.ndim)) if dim is None else dim, keepdim)


REDUCTIONS = [
    *[
        _reduction(op, reference, x, label, **attrs)
        for op, reference in [
            ("sum", _sum),
            ("mean", torch.mean),
            ("max", torch.amax),
            ("min", torch.amin),
            ("prod", _product),
            ("logsumexp", _logsumexp),
            ("var", torch.var),
            ("std", torch.std),
            ("vector_norm", torch.linalg.vector_norm),
        ]
        for extra in [{"correction": 0} if op in ("var", "std") else {}]
        for x, label, attrs in [
            (f32(B, S, 3), "last", {"axis": (-1,), **extra}),
            (f32(B, S, 3), "keepdims", {"axis": (0, 2), "keepdims": True, **extra}),
            (f32(B, S, 3), "whole", {**extra}),
        ]
    ],
    _reduction("sum", _sum, ints(9, B, 3, dtype="int8"), "int8", axis=(1,)),
    _reduction("sum", _sum, ints(9, B, 3), "int64", axis=(1,), keepdims=True),
    _reduction(
        "prod", _product, ints(4, B, 3, low=1, dtype="uint8"), "uint8", axis=(1,)
    ),
    _reduction("max", torch.amax, ints(9, B, 3), "integers", axis=(1,)),
    _reduction("max", torch.amax, given([[1.0, NAN], [1.0, 1.0]]), "nan", axis=(1,)),
    _reduction("var", torch.var, f32(B, S), "bessel", axis=(1,), correction=1),
    _reduction("std", torch.std, f32(B, S), "bessel", axis=(1,), correction=1.0),
    _reduction("any", torch.any, truth(B, 3), "last", axis=(-1,)),
    _reduction("any", torch.any, truth(B, 3), "whole"),
    _reduction("all", torch.all, truth(B, 3), "last", axis=(-1,), keepdims=True),
    _reduction("all", torch.all, truth(B, 3), "whole"),
    _reduction(
        "vector_norm", torch.linalg.vector_norm, f32(B, 3), "l1", axis=(1,), ord=1.0
    ),
    _reduction(
        "vector_norm", torch.linalg.vector_norm, f32(B, 3), "l3", axis=(1,), ord=3.0
    ),
    _reduction(
        "vector_norm", torch.linalg.vector_norm, f32(B, 3), "max", axis=(1,), ord=INF
    ),
    _reduction(
        "logsumexp", _logsumexp, given([[1e4, 1e4], [-INF, 3.0]]), "stable", axis=(1,)
    ),
    *[
        _reduction(op, getattr(torch, op), x, label, **attrs)
        for op in ("argmax", "argmin")
        for x, label, attrs in [
            (f32(B, S, 3), "axis", {"axis": 1}),
            (f32(B, S, 3), "keepdims", {"axis": -1, "keepdims": True}),
            (f32(B, S, 3), "whole", {}),
            (given([[1.0, 3.0, 3.0], [0.0, NAN, 2.0]]), "first", {"axis": 1}),
            (ints(3, B, 9), "integers", {"axis": 1}),
        ]
    ],
    *[
        Sample(
            "cumulative_sum",
            (x,),
            lambda b, x: b.cumulative_sum(x, axis=-1),
            lambda x: torch.cumsum(x, -1, dtype=x.dtype),
            label,
        )
        for x, label in [
            (f32(B, S), ""),
            (ints(9, B, S), "int64"),
            (ints(9, B, S, dtype="int8"), "int8"),
        ]
    ],
]


def _creation(
    op: str, reference: Callable[..., Any], label: str, build: Callable[..., Any]
) -> Sample:
    # The operand is there for its symbols: its sizes are the graph's inputs.
    return Sample(op, (f32(B, S),), build, reference, label, differentiable=False)


CREATION = [
    _creation(
        "arange",
        lambda x: torch.arange(x.shape[1]),
        "symbolic",
        lambda b, x: b.arange(stop=S, dtype="int64"),
    ),
    _creation(
        "arange",
        lambda x: torch.arange(1, 2 * x.shape[1], 2),
        "step",
        lambda b, x: b.arange(start=1, stop=2 * S, step=2, dtype="int64"),
    ),
    _creation(
        "arange",
        lambda x: torch.arange(5, -1, -2),
        "down",
        lambda b, x: b.arange(start=5, stop=-1, step=-2, dtype="int64"),
    ),
    _creation(
        "arange",
        lambda x: torch.arange(x.shape[1], dtype=torch.float32),
        "floats",
        lambda b, x: b.arange(stop=S, dtype="float32"),
    ),
    _creation(
        "arange",
        lambda x: torch.arange(0.5, 3, 0.25),
        "float_step",
        lambda b, x: b.arange(start=0.5, stop=3.0, step=0.25, dtype="float32"),
    ),
    _creation(
        "arange",
        lambda x: torch.arange(2, 6, dtype=torch.int32),
        "int32",
        lambda b, x: b.arange(start=2, stop=6, dtype="int32"),
    ),
    _creation(
        "linspace",
        lambda x: torch.linspace(-1, 2, 7),
        "",
        lambda b, x: b.linspace(start=-1.0, stop=2.0, num=7, dtype="float32"),
    ),
    _creation(
        "linspace",
        lambda x: torch.linspace(3, 5, 1),
        "one",
        lambda b, x: b.linspace(start=3.0, stop=5.0, num=1, dtype="float32"),
    ),
    *[
        _creation(
            "full",
            lambda x, v=value, d=dtype: torch.full(
                tuple(x.shape), v, dtype=getattr(torch, d)
            ),
            f"{value}_{dtype}",
            lambda b, x, v=value, d=dtype: b.full(shape=(B, S), value=v, dtype=d),
        )
        for value, dtype in [
            (0, "float32"),
            (0.0, "int64"),
            (1, "int32"),
            (1.0, "float32"),
            (-INF, "float32"),
            (NAN, "float32"),
            (-0.0, "float32"),
            (True, "bool"),
            (False, "bool"),
            (2.5, "bfloat16"),
            (7, "int64"),
        ]
    ],
    _creation(
        "full",
        lambda x: torch.tensor(2.5),
        "rank_0",
        lambda b, x: b.full(shape=(), value=2.5, dtype="float32"),
    ),
    _creation(
        "full",
        lambda x: torch.tensor(x.shape[1] - 1),
        "symbolic",
        lambda b, x: b.full(shape=(), value=S - 1, dtype="int64"),
    ),
    _creation(
        "full",
        lambda x: torch.full((3,), float(x.shape[1])),
        "symbolic_float",
        lambda b, x: b.full(shape=(3,), value=S, dtype="float32"),
    ),
    _creation(
        "eye",
        lambda x: torch.eye(x.shape[1]),
        "square",
        lambda b, x: b.eye(rows=S, columns=S, dtype="float32"),
    ),
    _creation(
        "eye",
        lambda x: torch.eye(3, 5, dtype=torch.int64),
        "wide",
        lambda b, x: b.eye(rows=3, columns=5, dtype="int64"),
    ),
]


def _matmul(x: Input, y: Input, label: str) -> Sample:
    return Sample("matmul", (x, y), lambda b, x, y: b.matmul(x, y), torch.matmul, label)


def _einsum(equation: str, *xs: Input) -> Sample:
    return Sample(
        "einsum",
        xs,
        lambda b, *xs: b.einsum(*xs, equation=equation),
        lambda *xs: torch.einsum(equation, *xs),
        equation.replace("->", "_to_"),
    )


def _order(op: str, x: Input, label: str, reference: Any, **attrs: Any) -> Sample:
    return Sample(
        op,
        (x,),
        lambda b, x: getattr(b, op)(x, **attrs),
        lambda x: tuple(reference(x)),
        label,
    )


TIES = given(np.array([[2, 1, 2, 1, 0, 1]] * 2), "int64")
PRODUCTS = [
    _matmul(f32(B, 3), f32(3, 4), "matrices"),
    _matmul(f32(B, 1, S, 3), f32(2, 3, 4), "batches"),
    _matmul(f32(B, 3), f32(3), "vector_right"),
    _matmul(f32(3), f32(B, 3, 4), "vector_left"),
    _matmul(f32(3), f32(3), "vectors"),
    _matmul(ints(9, B, 3), ints(9, 3, 4), "integers"),
    _einsum("bhqd,bhkd->bhqk", f32(B, 2, S, 3), f32(B, 2, S, 3)),
    _einsum("ij->ji", f32(B, 3)),
    _einsum("ii->i", f32(3, 3)),
    _einsum("i,j,k->ijk", f32(B), f32(3), f32(2)),
    _order("sort", spaced(B, S), "", lambda x: torch.sort(x), axis=-1),
    _order(
        "sort",
        spaced(B, S),
        "descending",
        lambda x: torch.sort(x, 0, descending=True),
        axis=0,
        descending=True,
    ),
    _order(
        "sort", TIES, "stable", lambda x: torch.sort(x, stable=True), axis=1, stable=True
    ),
    _order(
        "sort",
        TIES,
        "stable_descending",
        lambda x: torch.sort(x, descending=True, stable=True),
        axis=1,
        stable=True,
        descending=True,
    ),
    _order("sort", given([2.0, NAN, -INF, 1.0]), "nan", torch.sort, axis=0),
    _order("topk", spaced(B, 6), "largest", lambda x: torch.topk(x, 3), k=3),
    _order(
        "topk",
        spaced(6, B),
        "smallest",
        lambda x: torch.topk(x, 2, 0, largest=False),
        k=2,
        axis=0,
        largest=False,
    ),
    _order("topk", spaced(6, B), "axis", lambda x: torch.topk(x, 2, 0), k=2, axis=0),
    _order(
        "topk", spaced(B, S), "symbolic", lambda x: torch.topk(x, x.shape[1] - 1), k=S - 1
    ),
    _order(
        "topk", given([[5, 3, 9, 1]], "int64"), "integers",
        lambda x: torch.topk(x, 2), k=2,
    ),
    Sample(
        "bincount",
        (ints(4, B),),
        lambda b, x: b.bincount(x, length=6),
        lambda x: torch.bincount(x, minlength=6),
    ),
]  # fmt: skip

ROWS = [*UNARY, *BINARY, *OTHER, *REDUCTIONS, *CREATION, *PRODUCTS]
