"""Samples of creation, reductions, scans, sorting and norms."""

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

f16, bf16, i32, u8 = torch.float16, torch.bfloat16, torch.int32, torch.uint8

x = normal("B", 4)
cube = normal("B", "S", 8)
whole = ints(9, "B", 4)

CREATE: list[Sample] = [
    row("zeros", lambda x: x + torch.zeros(x.shape[0], 4), x, ops="full add"),
    row("zeros-int", lambda x: torch.zeros(2, dtype=torch.long) + x, ints(3, "B", 2)),
    row("zeros-bool", lambda x: torch.zeros(2, dtype=torch.bool) | x, truth(2)),
    row("ones", lambda x: torch.ones(x.shape), x),
    row("empty", lambda x: torch.empty(x.shape[0], 2).fill_(3.0), x),
    row("empty-like", lambda x: torch.empty_like(x).fill_(3), x),
    row("new_zeros", lambda x: x.new_zeros(2, x.shape[0]), whole),
    row("new_ones", lambda x: x.new_ones((x.shape[0],), dtype=torch.bool), x),
    row("new_empty", lambda x: x.new_empty(2).zero_(), x),
    row("new_full", lambda x: x.new_full((2, x.shape[0]), 3.5), x),
    row("zeros_like", torch.zeros_like, x, ops="full"),
    row("ones_like", lambda x: torch.ones_like(x, dtype=torch.int32), x),
    row("full", lambda x: torch.full((x.shape[0], 2), -math.inf), x),
    row("full-int", lambda x: torch.full((2,), 3) + x, ints(3, 2)),
    row("full-bool", lambda x: torch.full((2,), True) | x, truth(2)),
    row("full-size", lambda x: torch.full((2,), x.shape[0]), x),
    row(
        "full-cast", lambda x: torch.full((2,), 3, dtype=f16) + x, normal(2, dtype=f16)
    ),
    row("full_like", lambda x: torch.full_like(x, 2), x),
    row("scalar_tensor", lambda x: x * A.scalar_tensor.default(2), x),
    row(
        "scalar_tensor-int", lambda x: A.scalar_tensor.default(x.shape[0], dtype=i32), x
    ),
    row("fill", lambda x: A.fill.Scalar(x, 2), x),
    row("fill-tensor", lambda x, v: A.fill.Tensor(x, v), x, scalar(2)),
    row("fill_-tensor", lambda x, v: A.fill_.Tensor(x.clone(), v), x, scalar(2.0)),
    row("zero", lambda x: A.zero.default(x), x),
    row("arange", lambda x: torch.arange(x.shape[0]), x, ops="arange"),
    row("arange-start", lambda x: torch.arange(2, x.shape[0] + 2), x),
    row("arange-step", lambda x: torch.arange(1, 2 * x.shape[0], 2), x),
    row("arange-down", lambda x: torch.arange(5, 0, -2) + x, ints(9, "B", 3)),
    row("arange-float", lambda x: torch.arange(0, 1, 0.25) + x, x),
    row("arange-uneven", lambda x: torch.arange(0.5, 3.2, 0.7) + x, x),
    row("arange-dtype", lambda x: torch.arange(4, dtype=torch.float32) + x, x),
    row("arange-int32", lambda x: torch.arange(0, 8, 2, dtype=i32) + x, x),
    row("linspace", lambda x: torch.linspace(-1, 1, 4) + x, x),
    row("linspace-one", lambda x: torch.linspace(2, 3, 1) + x, x),
    row("eye", lambda x: torch.eye(4) + x, normal(4, 4)),
    row("eye-m", lambda x: torch.eye(3, 4, dtype=torch.long) + x, ints(3, 3, 4)),
    row("eye-symbolic", lambda x: torch.eye(x.shape[0]), x),
    row("tril", torch.tril, cube, ops="tril"),
    row("tril-k", lambda x: x.tril(-1), cube),
    row("triu-k", lambda x: x.triu(diagonal=1), cube),
    row("tril_", lambda x: x.clone().tril_(), cube),
    row("triu_", lambda x: x.clone().triu_(1), cube),
    row(
        "causal",
        lambda x: torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(),
        cube,
    ),
    row(
        "meshgrid",
        lambda x, y: torch.meshgrid(x, y, indexing="ij"),
        normal("B"),
        normal(4),
    ),
    row(
        "meshgrid-xy",
        lambda x, y: torch.meshgrid(x, y, indexing="xy"),
        normal("B"),
        normal(4),
    ),
    row(
        "meshgrid-3",
        lambda x, y, z: A.meshgrid.indexing([x, y, z], indexing="xy"),
        normal("B"),
        normal(4),
        normal(2),
    ),
    row(
        "meshgrid-default",
        lambda x, y: A.meshgrid.default([x, y]),
        normal("B"),
        normal(4),
    ),
    row("one_hot", lambda x: F.one_hot(x, 9), whole, ops="one_hot"),
    row("isin", lambda x, y: torch.isin(x, y), whole, ints(9, 2)),
    row(
        "isin-invert", lambda x, y: torch.isin(x, y, invert=True), whole, ints(9, 1, 2)
    ),
    row("isin-scalar", lambda x: torch.isin(x, 3), whole),
    row("isin-promoted", lambda x, y: torch.isin(x, y), whole, uniform(0, 9, 3)),
    row("bucketize", lambda x: torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0])), x),
    row(
        "bucketize-right",
        lambda x, e: torch.bucketize(x, e, right=True, out_int32=True),
        given(1, 2, 3),
        given(1, 2, 2, 3),
    ),
    row(
        "searchsorted", lambda e, x: torch.searchsorted(e, x), given(1, 2, 2, 3), whole
    ),
    row(
        "searchsorted-right",
        lambda e, x: torch.searchsorted(e, x, side="right"),
        given(1, 2, 2, 3),
        whole,
    ),
    row(
        "searchsorted-rows",
        lambda e, x: torch.searchsorted(e, x),
        normal("B", 3),
        x,
        refuses="a vector is due",
    ),
]


def reductions() -> list[Sample]:
    rows = []
    for name in ("sum", "mean", "prod"):
        rows += [
            row(f"{name}", getattr(torch, name), x, ops=name),
            row(
                f"{name}-dtype",
                lambda x, n=name: getattr(torch, n)(x, dtype=torch.float64),
                x,
            ),
            row(f"{name}-dim", lambda x, n=name: getattr(torch, n)(x, -1), cube),
            row(
                f"{name}-keep",
                lambda x, n=name: getattr(torch, n)(x, 1, keepdim=True),
                cube,
            ),
        ]
    for name in ("any", "all"):
        op = getattr(A, name)
        rows += [
            row(f"{name}", op.default, truth("B", 4), ops=name),
            row(f"{name}-dim", lambda x, op=op: op.dim(x, -1, True), truth("B", 4)),
            row(f"{name}-dims", lambda x, op=op: op.dims(x, [0, -1]), ints(2, "B", 4)),
            row(f"{name}-none", lambda x, op=op: op.dims(x, None), ints(2, "B", 4)),
            row(f"{name}-uint8", op.default, ints(2, "B", 4, dtype=u8)),
        ]
    for name in ("max", "min"):
        full, wide, arg = (getattr(A, p + name) for p in ("", "a", "arg"))
        rows += [
            row(f"{name}", full.default, x, ops=name),
            row(f"{name}-dim", lambda x, op=full: op.dim(x, -1), spaced("B", 4)),
            row(
                f"{name}-dim-keep",
                lambda x, op=full: op.dim(x, 1, True),
                spaced("B", 4, 3),
            ),
            row(f"{name}-dim-0d", lambda x, op=full: op.dim(x, 0), scalar(1.0)),
            row(f"a{name}", lambda x, op=wide: op.default(x, [0, -1]), cube),
            row(f"a{name}-all", lambda x, op=wide: op.default(x), cube),
            row(f"arg{name}", lambda x, op=arg: op.default(x), spaced("B", 4)),
            row(
                f"arg{name}-dim",
                lambda x, op=arg: op.default(x, -1, True),
                spaced("B", 4),
            ),
        ]
    return rows


def moments() -> list[Sample]:
    rows: list[Sample] = []
    for name in ("var", "std"):
        op, both = getattr(A, name), getattr(A, f"{name}_mean")
        rows += [
            row(f"{name}", op.default, x, ops=name),
            row(f"{name}-biased", lambda x, op=op: op.default(x, False), x),
            row(f"{name}-dim", lambda x, op=op: op.dim(x, [-1], False, True), cube),
            row(
                f"{name}-correction",
                lambda x, op=op: op.correction(x, [1], correction=2),
                cube,
            ),
            row(f"{name}-correction-none", lambda x, op=op: op.correction(x), cube),
            row(
                f"{name}_mean",
                lambda x, op=both: op.correction(x, [-1], correction=0),
                cube,
            ),
        ]
    return rows


REDUCE: list[Sample] = [
    *reductions(),
    *moments(),
    row("sum-bool", lambda x: x.sum(-1), truth("B", 4), ops="astype sum"),
    row("sum-int32", torch.sum, ints(9, "B", 4, dtype=i32)),
    row("sum-int-float", lambda x: x.sum(dtype=torch.float32), whole),
    row("sum-dims", lambda x: x.sum((0, -1)), cube),
    row("sum-none", lambda x: A.sum.dim_IntList(x, None), cube),
    row("sum-empty-list", lambda x: A.sum.dim_IntList(x, []), cube),
    row("sum-0d", lambda x: x.sum(-1), scalar(2.0)),
    row("prod-int", lambda x: x.prod(1), ints(4, "B", 4, dtype=i32)),
    row(
        "mean-half",
        lambda x: x.mean(-1, dtype=torch.float32),
        normal("B", 4, dtype=bf16),
    ),
    row("logsumexp", lambda x: x.logsumexp(-1), cube, ops="logsumexp"),
    row("logsumexp-dims", lambda x: x.logsumexp((0, 1), keepdim=True), cube),
    row("logsumexp-int", lambda x: A.special_logsumexp.default(x, [1]), whole),
    row("cumsum", lambda x: x.cumsum(-1), cube, ops="cumulative_sum"),
    row("cumsum-bool", lambda x: x.cumsum(1), truth("B", "S")),
    row("cumsum-int32", lambda x: x.cumsum(0), ints(3, "B", 4, dtype=i32)),
    row("cumsum-dtype", lambda x: x.cumsum(0, dtype=torch.float32), whole),
    row("cumsum-0d", lambda x: x.cumsum(0), scalar(1.0)),
    row("cumsum_", lambda x: x.clone().cumsum_(-1), x),
    *(
        row(
            f"vector_norm-{order}",
            lambda x, order=order: torch.linalg.vector_norm(
                x, order, dim=-1, keepdim=True
            ),
            x,
        )
        for order in (2, 1, 3, 0, math.inf, -math.inf)
    ),
    row("vector_norm-all", torch.linalg.vector_norm, x),
    row(
        "vector_norm-dtype",
        lambda x: torch.linalg.vector_norm(x, dtype=torch.float64),
        x,
    ),
    row("norm", lambda x: A.norm.Scalar(x), x),
    row("norm-dim", lambda x: A.norm.ScalarOpt_dim(x, 2, [-1], True), x),
    row("norm-dtype", lambda x: A.norm.ScalarOpt_dtype(x, 2, dtype=torch.float64), x),
    row(
        "norm-dim-dtype",
        lambda x: A.norm.ScalarOpt_dim_dtype(x, None, [1], False, dtype=torch.float32),
        x,
    ),
    row("normalize", lambda x: F.normalize(x, dim=-1), x),
    row("x.norm", lambda x: x / x.norm(p=2, dim=-1, keepdim=True), x),
    row("linalg_norm", torch.linalg.norm, cube),
    row("linalg_norm-dim", lambda x: torch.linalg.norm(x, ord=1, dim=-1), cube),
    row(
        "linalg_norm-matrix",
        lambda x: torch.linalg.norm(x, ord=2),
        normal(3, 4),
        refuses="norm of matrices",
    ),
    row("matrix_norm", lambda x: torch.linalg.matrix_norm(x), cube),
    row(
        "matrix_norm-nuc",
        lambda x: A.linalg_matrix_norm.str_ord(x, "nuc"),
        cube,
        refuses="nuc",
    ),
    row("topk", lambda x: x.topk(2), spaced("B", 8), ops="topk"),
    row(
        "topk-smallest", lambda x: torch.topk(x, 3, dim=0, largest=False), spaced(6, 4)
    ),
    row("sort", torch.sort, spaced("B", 8), ops="sort"),
    row("sort-descending", lambda x: x.sort(dim=0, descending=True), spaced(6, 4)),
    row("sort-stable", lambda x: torch.sort(x, stable=True), ints(3, "B", 8)),
    row(
        "sort-stable-descending",
        lambda x: torch.sort(x, stable=True, descending=True),
        ints(3, 9),
    ),
    row("argsort", lambda x: x.argsort(-1, descending=True), spaced("B", 8)),
    row("argsort-stable", lambda x: torch.argsort(x, stable=True), ints(3, "B", 8)),
    row("diff", torch.diff, x),
    row("diff-2", lambda x: torch.diff(x, n=2, dim=-1), cube),
    row(
        "diff-prepend",
        lambda x, p: torch.diff(x, prepend=p, append=p),
        x,
        ints(3, "B", 1),
    ),
    row("diff-bool", torch.diff, truth("B", 4)),
    row("histc", lambda x: torch.histc(x.float(), bins=9, min=0, max=8), ints(9, "B")),
    row(
        "histc-shifted",
        lambda x: torch.histc(x.float(), bins=5, min=2, max=6),
        ints(9, "B", 4),
    ),
    row(
        "histc-floats", lambda x: torch.histc(x, 4, 0, 1), normal("B"), refuses="histc"
    ),
    row(
        "bincount",
        lambda x: torch.bincount(x, minlength=9)[:9],
        ints(9, 20),
        refuses="bincount",
    ),
]

ROWS = [*CREATE, *REDUCE]
