"""Rows of operations that move elements: shapes, joins, indexing, scatters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ivyport.core.ir import NewAxis, Slice
from tests.ops.sample import (
    B,
    Input,
    S,
    Sample,
    f32,
    given,
    half,
    ints,
    permuted,
    truth,
)

ALL = Slice()


def _shape(
    op: str, x: Input, label: str, reference: Callable[..., Any], **attrs: Any
) -> Sample:
    return Sample(op, (x,), lambda b, x: getattr(b, op)(x, **attrs), reference, label)


SHAPES = [
    _shape("reshape", f32(B, S, 6), "split", lambda x: x.view(*x.shape[:2], 2, 3),
           shape=(B, S, 2, 3)),
    _shape("reshape", f32(B, S, 6), "merge", lambda x: x.flatten(0, 1),
           shape=(B * S, 6)),
    _shape("reshape", f32(B, S, 6), "free", lambda x: x.flatten(1), shape=(B, -1)),
    _shape("reshape", given([[2.0]]), "rank_0", lambda x: x.reshape(()), shape=()),
    _shape("permute_dims", f32(B, S), "matrix", lambda x: x.T, axes=(1, 0)),
    _shape("permute_dims", f32(B, S, 3), "last", lambda x: x.mT, axes=(0, 2, 1)),
    _shape("permute_dims", f32(B, S, 3, 2), "swap", lambda x: x.transpose(1, 2),
           axes=(0, 2, 1, 3)),
    _shape("permute_dims", f32(B, S, 3), "cycle", lambda x: x.permute(1, 2, 0),
           axes=(1, 2, 0)),
    _shape("permute_dims", f32(B, S, 3), "identity", lambda x: x, axes=(0, 1, 2)),
    _shape("broadcast_to", f32(B, 1, 3), "", lambda x: x.expand(2, -1, 4, 3),
           shape=(2, B, 4, 3)),
    _shape("flip", f32(B, S), "one", lambda x: x.flip(1), axis=(1,)),
    _shape("flip", f32(B, S), "both", lambda x: x.flip(0, 1), axis=(0, -1)),
    _shape("roll", f32(B, S), "one", lambda x: x.roll(2, 1), shift=(2,), axis=(1,)),
    _shape("roll", f32(B, S, 3), "two", lambda x: x.roll((-1, 2), (0, 2)),
           shift=(-1, 2), axis=(0, 2)),
    _shape("tile", f32(B, 3), "", lambda x: x.tile(2, 1, 3), repetitions=(2, 1, 3)),
    _shape("repeat", f32(B, S), "", lambda x: x.repeat_interleave(3, 1),
           repeats=3, axis=1),
    _shape("repeat", f32(B, 2, S), "symbolic",
           lambda x: x.repeat_interleave(x.shape[2], 1), repeats=S, axis=1),
    _shape("tril", f32(B, S, 5), "", lambda x: x.tril()),
    _shape("tril", truth(S, S), "bool", lambda x: x.tril(-1), k=-1),
    _shape("triu", f32(B, S, 5), "", lambda x: x.triu()),
    _shape("triu", f32(S, S), "above", lambda x: x.triu(2), k=2),
]  # fmt: skip


def _pad(
    label: str, padding: tuple[Any, ...], flat: tuple[int, ...], mode: str = "constant",
    value: float = 0.0, x: Input | None = None,
) -> Sample:  # fmt: skip
    modes = {"edge": "replicate", "wrap": "circular"}
    extra = {"value": value} if mode == "constant" else {}
    # The other modes take the last axes of images alone.
    image = max(len(flat) // 2 + 2 - len(padding), 0) if mode != "constant" else 0

    def reference(x: torch.Tensor) -> torch.Tensor:
        x = x[(None,) * image]
        y = torch.nn.functional.pad(x, flat, modes.get(mode, mode), **extra)
        return y[(0,) * image] if image else y

    return Sample(
        "pad",
        (x or f32(B, 3, S),),
        lambda b, x: b.pad(x, padding=padding, mode=mode, value=value),
        reference,
        label,
    )


def _join(op: str, reference: Callable[..., Any], axis: int, *xs: Input) -> Sample:
    return Sample(
        op,
        xs,
        lambda b, *xs: getattr(b, op)(*xs, axis=axis),
        lambda *xs: reference(xs, axis),
        f"axis_{axis}_of_{len(xs)}",
    )


def _split(
    label: str, sizes: tuple[Any, ...], reference: Callable[..., Any], axis: int = -1
) -> Sample:
    return Sample(
        "split",
        (f32(B, S, 6),),
        lambda b, x: b.split(x, sizes=sizes, axis=axis),
        reference,
        label,
    )


NO = (0, 0)
JOINS = [
    _pad("last", (NO, NO, (1, 2)), (1, 2)),
    _pad("value", (NO, (1, 0), (0, 2)), (0, 2, 1, 0), value=-1.5),
    _pad("crop", (NO, NO, (-1, -1)), (-1, -1)),
    _pad("crop_and_grow", (NO, (2, -1), (-1, 3)), (-1, 3, 2, -1), value=2.0),
    _pad("reflect", (NO, NO, (2, 1)), (2, 1), "reflect"),
    _pad("edge", (NO, NO, (2, 1)), (2, 1), "edge"),
    _pad("wrap", (NO, NO, (2, 1)), (2, 1), "wrap"),
    _pad("integers", (NO, (1, 1)), (1, 1), value=3.0, x=ints(9, B, S)),
    _pad("bool", (NO, (1, 1)), (1, 1), value=1.0, x=truth(B, S)),
    _pad("infinite", (NO, (1, 1)), (1, 1), value=float("-inf"), x=f32(B, S)),
    _pad("vector", ((2, 1),), (2, 1), "reflect", x=f32(6)),
    _pad("first_axis", ((1, 0), NO, (0, 2)), (0, 2, 0, 0, 1, 0), "edge"),
    _pad(
        "both_wrap", (NO, NO, (1, 0), (0, 2)), (0, 2, 1, 0), "wrap", x=f32(B, 3, 4, S)
    ),
    _pad("integer_edges", (NO, (1, 1)), (1, 1), "edge", x=ints(9, B, S)),
    _join("concat", torch.concat, -1, f32(B, 3), f32(B, S)),
    _join("concat", torch.concat, 0, f32(B), f32(S), f32(1)),
    _join("concat", torch.concat, 1, ints(9, B, 3), ints(9, B, 1)),
    _join("stack", torch.stack, 0, f32(B, S), f32(B, S)),
    _join("stack", torch.stack, -1, f32(B, S), f32(B, S), f32(B, S)),
    _join("stack", torch.stack, 1, truth(B, S), truth(B, S)),
    _split("equal", (2, 2, 2), lambda x: x.split(2, -1)),
    _split("unequal", (1, 2, 3), lambda x: x.split((1, 2, 3), -1)),
    _split(
        "symbolic", (1, S - 3, 2), lambda x: x.split((1, x.shape[1] - 3, 2), 1), axis=1
    ),
    _split("one", (S,), lambda x: x, axis=1),  # one piece is no tuple
]


def _getitem(
    label: str, index: tuple[Any, ...], reference: Callable[..., Any]
) -> Sample:
    return Sample(
        "getitem",
        (f32(B, S, 6),),
        lambda b, x: b.getitem(x, index=index),
        reference,
        label,
    )


def _slice_update(
    label: str,
    index: tuple[Any, ...],
    values: Input | float,
    reference: Callable[..., Any],
) -> Sample:
    def updated(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        reference(x, values[0] if values else scalar)
        return x

    if isinstance(values, Input):
        return Sample(
            "slice_update",
            (f32(B, S, 6), values),
            lambda b, x, v: b.slice_update(x, v, index=index),
            updated,
            label,
        )
    scalar = values
    return Sample(
        "slice_update",
        (f32(B, S, 6),),
        lambda b, x: b.slice_update(x, scalar, index=index),
        updated,
        label,
    )


def _fill(x: torch.Tensor, v: Any) -> None:
    x[:, 1:, ::2] = v


def _first(x: torch.Tensor, v: Any) -> None:
    x[:, 0] = v


def _middle(x: torch.Tensor, v: Any) -> None:
    x[:, :, 1:5:2] = v


def _whole(x: torch.Tensor, v: Any) -> None:
    x[...] = v


SLICES = [
    _getitem("integer", (ALL, 0), lambda x: x[:, 0]),
    _getitem("last", (ALL, -1, Slice(1, None)), lambda x: x[:, -1, 1:]),
    _getitem(
        "slices", (ALL, Slice(1, S - 1), Slice(0, 6, 2)), lambda x: x[:, 1:-1, ::2]
    ),
    _getitem(
        "new_axis",
        (ALL, NewAxis(), ALL, 2, NewAxis()),
        lambda x: x[:, None, :, 2, None],
    ),
    _getitem(
        "own_bounds", (Slice(0, B), Slice(None, S), Slice(2, 6)), lambda x: x[..., 2:]
    ),
    _getitem("negative", (ALL, Slice(-3, -1)), lambda x: x[:, -3:-1]),
    _getitem("nothing", (ALL, ALL), lambda x: x),
    _slice_update("scalar", (ALL, Slice(1, None), Slice(None, None, 2)), 1.5, _fill),
    _slice_update("integer", (ALL, 0), f32(B, 6), _first),
    _slice_update("broadcast", (ALL, 0), f32(6), _first),
    _slice_update("whole", (ALL,), f32(S, 1), _whole),
    _slice_update("steps", (ALL, ALL, Slice(1, 5, 2)), f32(B, S, 2), _middle),
    _slice_update("stretched", (ALL, ALL, Slice(1, 5, 2)), f32(B, S, 1), _middle),
]


def _index(label: str, reference: Callable[..., Any], *inputs: Any) -> Sample:
    """Inputs are x and indices; None keeps an axis."""
    present = [i for i in inputs if i is not None]

    def build(b: Any, x: Any, *indices: Any) -> Any:
        following = iter(indices)
        return b.index(x, *(None if i is None else next(following) for i in inputs[1:]))

    return Sample("index", tuple(present), build, reference, label)


def _index_update(
    label: str, reference: Callable[..., Any], *inputs: Input, accumulate: bool = False,
    keep: int = 0, scalar: float | None = None,
) -> Sample:  # fmt: skip
    """Inputs are x, values (unless a scalar), indices; the first `keep` axes stay."""

    def build(b: Any, x: Any, *rest: Any) -> Any:
        values, indices = (scalar, rest) if scalar is not None else (rest[0], rest[1:])
        return b.index_update(
            x, values, *(None,) * keep, *indices, accumulate=accumulate
        )

    def updated(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if scalar is not None:
            return reference(x, torch.tensor(scalar), *rest)
        return reference(x, *rest)

    return Sample("index_update", inputs, build, updated, label)


X = f32(5, 4, 3)
INDEXING = [
    _index("rows", lambda x, i: x[i], X, ints(5, B)),
    _index("matrix", lambda x, i: x[i], X, ints(5, B, S)),
    _index("negative", lambda x, i: x[i], X, ints(5, B, low=-5)),
    _index("second", lambda x, i: x[:, i], X, None, ints(4, B)),
    _index("pairs", lambda x, i, j: x[i, j], X, ints(5, B, 1), ints(4, S)),
    _index("apart", lambda x, i, j: x[i, :, j], X, ints(5, B), None, ints(3, B)),
    _index("int32", lambda x, i: x[i], X, ints(5, B, dtype="int32")),
    _index("integers", lambda x, i: x[i], ints(9, 5, 2), ints(5, B)),
    _index_update("set", lambda x, v, i: x.index_put((i,), v),
                  X, f32(3, 4, 3), given([4, 0, 2], "int64")),
    _index_update("negative", lambda x, v, i: x.index_put((i,), v),
                  X, f32(2, 4, 3), given([-1, 1], "int64")),
    _index_update("add", lambda x, v, i: x.index_put((i,), v, accumulate=True),
                  X, f32(B, 4, 3), ints(5, B), accumulate=True),
    _index_update("add_pairs",
                  lambda x, v, i, j: x.index_put((i, j), v, accumulate=True),
                  X, f32(B, S, 3), ints(5, B, 1), ints(4, S), accumulate=True),
    _index_update("second", lambda x, v, i: x.index_copy(1, i, v),
                  X, f32(5, 2, 3), given([3, 1], "int64"), keep=1),
    _index_update("add_second", lambda x, v, i: x.index_add(1, i, v),
                  X, f32(5, 2, 3), given([3, 3], "int64"), keep=1, accumulate=True),
    _index_update("add_scalar",
                  lambda x, v, i: x.index_put((i,), v, accumulate=True),
                  X, ints(5, B), scalar=2.5, accumulate=True),
    _index_update("scalar", lambda x, v, i: x.index_put((i,), v),
                  X, ints(5, B), scalar=2.5),
    _index_update("mask", lambda x, v, m: x.masked_fill(m, v),
                  f32(B, S), truth(B, S), scalar=-2.0),
    _index_update("mask_of_rows", lambda x, v, m: x.index_put((m,), v),
                  f32(B, S, 3), f32(3), truth(B, S)),
    _index_update("mask_of_one_row", lambda x, v, m: x.index_put((m,), v),
                  f32(B, S, 3), f32(1, 3), truth(B, S)),
    _index_update("mask_add", lambda x, v, m: x + v * m,
                  f32(B, S), truth(B, S), scalar=1.5, accumulate=True),
    _index_update("mask_add_half", lambda x, v, m: x + v.to(x.dtype) * m,
                  half(B, S), truth(B, S), scalar=1.5, accumulate=True),
]  # fmt: skip


def _take(label: str, x: Input, i: Input, axis: int) -> Sample:
    def reference(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        taken = x.index_select(axis, i.flatten())
        at = axis % x.ndim
        return taken.reshape(*x.shape[:at], *i.shape, *x.shape[at + 1 :])

    return Sample(
        "take", (x, i), lambda b, x, i: b.take(x, i, axis=axis), reference, label
    )


def _gather(label: str, x: Input, i: Input, axis: int) -> Sample:
    return Sample(
        "take_along_axis",
        (x, i),
        lambda b, x, i: b.take_along_axis(x, i, axis=axis),
        lambda x, i: torch.gather(x, axis, i.long()),
        label,
    )


REDUCE = {"max": "amax", "min": "amin", "mul": "prod"}


def _scatter(
    mode: str,
    label: str,
    x: Input,
    i: Input,
    v: Input | float,
    axis: int = 1,
    **options: Any,
) -> Sample:
    def reference(x: Any, i: Any, *values: Any) -> torch.Tensor:
        v_ = values[0] if values else v
        if mode == "set":
            return x.scatter(axis, i, v_)
        if not values:
            v_ = torch.full(i.shape, v, dtype=x.dtype)
        if mode == "add":
            return x.scatter_add(axis, i, v_)
        return x.scatter_reduce(axis, i, v_, REDUCE[mode])

    inputs = (x, i, v) if isinstance(v, Input) else (x, i)

    def build(b: Any, x: Any, i: Any, *values: Any) -> Any:
        return b.scatter(x, i, values[0] if values else v, axis=axis, mode=mode)

    return Sample("scatter", inputs, build, reference, f"{mode}_{label}", **options)


WHERE = permuted(6, B, 3)
GATHERS = [
    _take("rows", X, ints(5, B), 0),
    _take("middle", X, ints(4, B, S), 1),
    _take("last", X, ints(3, B), -1),
    _gather("equal", f32(B, 6), ints(6, B, 3), 1),
    _gather("first_axis", f32(6, S), ints(6, B, S), 0),
    _gather("shorter", f32(B, S, 6), ints(6, B, 2, 3), 2),
    _gather("one", f32(4, 6), ints(6, 1, 3), -1),
    _gather("integers", ints(9, B, 6), ints(6, B, 3), 1),
    _gather("int32", f32(B, 6), ints(6, B, 3, dtype="int32"), 1),
    _scatter("set", "", f32(B, 6), WHERE, f32(B, 3)),
    _scatter("set", "scalar", f32(B, 6), WHERE, 2.5),
    _scatter(
        "set", "shorter", f32(7, 6), permuted(6, 4, 3), f32(5, 4), differentiable=False
    ),
    _scatter("set", "integers", ints(9, B, 6), WHERE, 1),
    _scatter("add", "", f32(B, 6), ints(6, B, 8), f32(B, 8)),
    _scatter("add", "axis_0", f32(4, B), ints(4, S, B), f32(S, B), axis=0),
    _scatter("add", "scalar", f32(B, 6), ints(6, B, 8), 2.5),
    _scatter("max", "", f32(B, 6), ints(6, B, 8), f32(B, 8), differentiable=False),
    _scatter("min", "", f32(B, 6), ints(6, B, 8), f32(B, 8), differentiable=False),
    _scatter("mul", "", f32(B, 6), WHERE, f32(B, 3)),
    _scatter("mul", "repeated", f32(B, 6), ints(6, B, 8), f32(B, 8)),
]

ROWS = [*SHAPES, *JOINS, *SLICES, *INDEXING, *GATHERS]
