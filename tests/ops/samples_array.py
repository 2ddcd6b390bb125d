"""Rows of reductions, creation, products and order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.ops.sample import (
    B,
    Input,
    S,
    Sample,
    f32,
    fixed,
    given,
    half,
    ints,
    spaced,
    truth,
)

NAN, INF = float("nan"), float("inf")


def _reduction(
    op: str,
    reference: Callable[..., Any],
    x: Input,
    label: str,
    *,
    grad_rtol: float = 1e-5,
    **attrs: Any,
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
        grad_rtol=grad_rtol,
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
    _reduction("sum", _sum, half(B, 300), "half", axis=(1,)),
    _reduction("mean", torch.mean, half(B, 300), "half", axis=(1,)),
    _reduction("sum", _sum, ints(9, B, 3), "int64", axis=(1,), keepdims=True),
    _reduction(
        "prod", _product, ints(4, B, 3, low=1, dtype="uint8"), "uint8", axis=(1,)
    ),
    _reduction("max", torch.amax, ints(9, B, 3), "integers", axis=(1,)),
    _reduction(
        "max", torch.amax, fixed(given([[1.0, NAN], [1.0, 1.0]])), "nan", axis=(1,)
    ),
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
        "logsumexp",
        _logsumexp,
        given([[1e4, 1e4], [-INF, 3.0]]),
        "stable",
        axis=(1,),
        grad_rtol=1e-4,
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
    _matmul(half(B, 3), half(3, 4), "half"),
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
        "sort", TIES, "stable", lambda x: torch.sort(x, stable=True), axis=1,
        stable=True,
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
        "topk", spaced(B, S), "symbolic", lambda x: torch.topk(x, x.shape[1] - 1),
        k=S - 1,
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

ROWS = [*REDUCTIONS, *CREATION, *PRODUCTS]
