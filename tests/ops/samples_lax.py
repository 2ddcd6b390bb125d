"""Rows of the operations that XLA has and the Array API standard lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.ops.sample import B, Input, S, Sample, f32, given, ints

F = torch.nn.functional
X = f32(5, 4, 3)


def _unary(
    op: str, reference: Callable[..., Any], x: Input, label: str = "", **options: Any
) -> Sample:
    build = lambda b, x: getattr(b, op)(x)  # noqa: E731
    return Sample(op, (x,), build, reference, label, **options)


def _binary(
    op: str, reference: Callable[..., Any], x: Input, y: Input, label: str,
    number: float,
) -> list[Sample]:  # fmt: skip
    """Two tensors, and a number on either side."""
    like = {"dtype": getattr(torch, x.type.dtype)}
    return [
        Sample(op, (x, y), lambda b, x, y: getattr(b, op)(x, y), reference, label),
        Sample(
            op,
            (x,),
            lambda b, x: getattr(b, op)(x, number),
            lambda x: reference(x, torch.tensor(number, **like)),
            f"{label}_scalar_right",
        ),
        Sample(
            op,
            (y,),
            lambda b, y: getattr(b, op)(number, y),
            lambda y: reference(torch.tensor(number, **like), y),
            f"{label}_scalar_left",
        ),
    ]


def _truncated(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.div(x, y, rounding_mode="trunc")


POSITIVE = f32(B, 3, low=0.1, high=5)
NEGATIVE = f32(B, 3, low=-5, high=-0.1)
INTS = given([7, -7, 7, -7, 6], "int32"), given([3, 3, -3, -3, -3], "int32")

ELEMENTWISE = [
    _unary("cbrt", lambda x: x ** (1 / 3), POSITIVE),
    _unary("cbrt", lambda x: -((-x) ** (1 / 3)), NEGATIVE, "negative"),
    _unary("exp2", torch.exp2, f32(B, 3)),
    _unary("erfc", torch.erfc, f32(B, 3)),
    _unary("erfc", torch.erfc, f32(B, 3, low=3, high=8), "far", rtol=1e-5),
    _unary("lgamma", torch.lgamma, POSITIVE, rtol=2e-6),
    _unary("digamma", torch.digamma, POSITIVE, rtol=5e-6, grad_rtol=1e-4),
    _unary("stop_gradient", lambda x: x, f32(B, 3), differentiable=False),
    *_binary("fmod", torch.fmod, *INTS, "integers", 4),
    *_binary("fmod", torch.fmod, f32(B, 3), f32(3, low=0.5, high=2), "floats", 1.5),
    *_binary("trunc_divide", _truncated, *INTS, "", 4),
    Sample(
        "trunc_divide",
        (ints(9, B, 3, low=-9), ints(5, 3, low=1)),
        lambda b, x, y: b.trunc_divide(x, y),
        _truncated,
        "broadcasts",
    ),
    _unary("signbit", torch.signbit, f32(B, 3), differentiable=False),
    Sample(
        "nextafter",
        (f32(B, 3), f32(3)),
        lambda b, x, y: b.nextafter(x, y),
        torch.nextafter,
        rtol=1e-9,
        differentiable=False,
    ),
]


def _running(
    op: str, reference: Callable[..., Any], x: Input, label: str, **options: Any
) -> Sample:
    return Sample(
        f"cumulative_{op}",
        (x,),
        lambda b, x: getattr(b, f"cumulative_{op}")(x, axis=1),
        reference,
        label,
        **options,
    )


RUNNING = [
    _running("prod", lambda x: x.cumprod(1), f32(B, S, 2), ""),
    _running(
        "prod", lambda x: x.cumprod(1, dtype=x.dtype),
        ints(3, B, S, low=1, dtype="int8"), "int8",
    ),
    _running("max", lambda x: x.cummax(1).values, f32(B, S, 2), ""),
    _running("max", lambda x: x.cummax(1).values, ints(9, B, S), "integers"),
    _running("min", lambda x: x.cummin(1).values, f32(B, S), ""),
    _running("logsumexp", lambda x: x.logcumsumexp(1), f32(B, S, 2), ""),
    _running(
        "logsumexp", lambda x: x.logcumsumexp(1), given([[1e4, 1e4, -1e4]]), "stable",
        grad_rtol=1e-3,  # an eps of 1e4 in the exponent
    ),
]  # fmt: skip


def _at(start: int, dtype: str = "int32") -> Input:
    return given(start, dtype)


def _slice(
    label: str, reference: Callable[..., Any], sizes: tuple[Any, ...], *starts: Any
) -> Sample:
    """Starts are inputs, or numbers."""
    inputs = [s for s in starts if isinstance(s, Input)]

    def build(b: Any, x: Any, *given: Any) -> Any:
        following = iter(given)
        filled = [next(following) if isinstance(s, Input) else s for s in starts]
        return b.dynamic_slice(x, *filled, sizes=sizes)

    return Sample("dynamic_slice", (f32(B, 6, S), *inputs), build, reference, label)


def _updated(
    label: str, reference: Callable[..., Any], values: Input, *starts: Input
) -> Sample:
    def written(x: torch.Tensor, values: torch.Tensor, *starts: Any) -> torch.Tensor:
        x = x.clone()
        reference(x)[...] = values
        return x

    return Sample(
        "dynamic_update_slice",
        (f32(B, 6, S), values, *starts),
        lambda b, *xs: b.dynamic_update_slice(*xs),
        written,
        label,
    )


def _reduced(
    mode: str, label: str, x: Input, v: Input | float, *indices: Input | None
) -> Sample:
    """`indices` of axes that are kept are None."""
    reduce = {"mul": "prod", "min": "amin", "max": "amax"}[mode]
    values = [v] if isinstance(v, Input) else []

    def split(operands: Any) -> tuple[Any, list[Any]]:
        first, rest = (operands[0], operands[1:]) if values else (v, operands)
        following = iter(rest)
        return first, [None if i is None else next(following) for i in indices]

    def build(b: Any, x: Any, *rest: Any) -> Any:
        first, where = split(rest)
        return b.index_reduce(x, first, *where, mode=mode)

    def reference(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        first, where = split(rest)
        axis = next(a for a, i in enumerate(where) if i is not None)
        shape = [*x.shape[:axis], len(where[axis]), *x.shape[axis + 1 :]]
        index = where[axis][(...,) + (None,) * (x.ndim - axis - 1)].expand(shape)
        source = torch.as_tensor(first, dtype=x.dtype).expand(shape)
        return x.scatter_reduce(axis, index, source, reduce)

    inputs = [i for i in indices if i is not None]
    return Sample(
        "index_reduce", (x, *values, *inputs), build, reference, f"{mode}_{label}",
        differentiable=False,
    )  # fmt: skip


DYNAMIC = [
    _slice(
        "middle", lambda x, *s: x[:, 2:5], (B, 3, S), _at(0), _at(2, "int64"), _at(0)
    ),
    _slice("numbers", lambda x, i: x[:1, 2:5], (1, 3, S), 0, _at(2), 0),
    _slice("beyond", lambda x, i: x[:, -2:], (B, 2, S), 0, _at(9), 0),
    _slice("before", lambda x, i: x[:, :2], (B, 2, S), 0, _at(-3), 0),
    _slice(
        "symbolic", lambda x, i: x[..., 1:], (B, 6, S - 1), 0, 0, _at(1)
    ),
    _updated(
        "middle", lambda x: x[:, 2:4], f32(B, 2, S), _at(0), _at(2, "int64"), _at(0)
    ),
    _updated("before", lambda x: x[:, :2], f32(B, 2, S), _at(0), _at(-3), _at(0)),
    _updated("beyond", lambda x: x[:, 4:], f32(B, 2, S), _at(1), _at(9), _at(3)),
    _reduced("max", "rows", X, f32(7, 4, 3), ints(5, 7)),
    _reduced("min", "rows", X, f32(7, 4, 3), ints(5, 7, dtype="int32")),
    _reduced("mul", "second", X, f32(5, 7, 3), None, ints(4, 7)),
    _reduced("max", "number", X, 0.5, ints(5, B)),
]  # fmt: skip


def _sum_pool(
    label: str, x: Input, count: int, reference: Callable[..., Any], **attrs: Any
) -> Sample:
    def build(b: Any, x: Any) -> Any:
        rank = x.type.rank - 2
        settings = {
            "kernel": (3,) * rank,
            "stride": (2,) * rank,
            "padding": ((0, 0),) * rank,
            **attrs,
        }
        return b.sum_pool(x, **settings)

    return Sample(
        "sum_pool", (x,), build, lambda x: reference(x) * count, label, rtol=2e-6
    )


POOLS = [
    _sum_pool("line", f32(B, 3, S), 3, lambda x: F.avg_pool1d(x, 3, 2)),
    _sum_pool("plane", f32(B, 3, 8, 7), 9, lambda x: F.avg_pool2d(x, 3, 2)),
    _sum_pool(
        "padded",
        f32(B, 3, 8, 7),
        9,
        lambda x: F.avg_pool2d(F.pad(x, (2, 0, 0, 1)), 3, 2),
        padding=((0, 1), (2, 0)),
    ),
    _sum_pool("volume", f32(B, 2, 5, 4, 3), 27, lambda x: F.avg_pool3d(x, 3, 2)),
    _sum_pool(
        "last",
        f32(B, 8, 7, 3),
        9,
        lambda x: F.avg_pool2d(x.movedim(-1, 1), 3, 2).movedim(1, -1),
        layout="channels_last",
    ),
]


def _random(
    op: str, label: str, mean: float, dtype: str, p: Input | None = None
) -> Sample:
    floats = {} if dtype == "bool" else {"dtype": dtype}
    chance = [mean] if dtype == "bool" else []

    def build(b: Any, x: Any, *p: Any) -> Any:
        return getattr(b, op)(*(p or chance), shape=(B, 4000), **floats)

    def reference(x: torch.Tensor, *p: torch.Tensor) -> torch.Tensor:
        return torch.empty(x.shape[0], 4000, dtype=getattr(torch, dtype))

    # The first operand is there for its symbol.
    inputs = (f32(B, S), *[p] * (p is not None))
    return Sample(op, inputs, build, reference, label, differentiable=False, mean=mean)


RANDOM = [
    _random("random_uniform", "", 0.5, "float32"),
    _random("random_uniform", "half", 0.5, "bfloat16"),
    _random("random_normal", "", 0.0, "float32"),
    _random("random_bernoulli", "number", 0.3, "bool"),
    _random("random_bernoulli", "tensor", 0.2, "bool", given([[0.2]])),
    _random("random_bernoulli", "half", 0.25, "bool", given([[0.25]], "bfloat16")),
]

ROWS = [*ELEMENTWISE, *RUNNING, *DYNAMIC, *POOLS, *RANDOM]
