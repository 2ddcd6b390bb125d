"""Factors, inverses and determinants of torch (https://docs.pytorch.org/docs/stable/linalg.html)."""

from __future__ import annotations

import torch

from ivyport.core.build import Builder
from ivyport.core.ir import NewAxis, Slice, Value
from ivyport.core.ops import broadcast
from ivyport.frontends.torch.registry import lowers

aten = torch.ops.aten


def _turned(b: Builder, x: Value) -> Value:
    rank = x.type.rank
    return b.transpose(x, (*range(rank - 2), rank - 1, rank - 2))


@lowers(aten.linalg_cholesky.default)
def cholesky(b: Builder, input: Value, upper: bool = False) -> Value:
    """The triangular factor."""
    found = b.cholesky(input)
    return _turned(b, found) if upper else found


@lowers(aten.linalg_inv.default, aten.inverse.default)
def inv(b: Builder, A: Value | None = None, input: Value | None = None) -> Value:
    """The inverse."""
    return b.inv(A if input is None else input)


@lowers(aten.linalg_det.default)
def linalg_det(b: Builder, A: Value) -> Value:
    """The determinant."""
    return b.det(A)


@lowers(aten.det.default)
def det(b: Builder, input: Value) -> Value:
    """The determinant."""
    return b.det(input)


@lowers(aten.linalg_slogdet.default)
def linalg_slogdet(b: Builder, A: Value) -> tuple[Value, Value]:
    """The sign and the log of the size of the determinant."""
    sign, size = b.slogdet(A)
    return sign, size


@lowers(aten.slogdet.default)
def slogdet(b: Builder, input: Value) -> tuple[Value, Value]:
    """The same under its old name."""
    return linalg_slogdet(b, input)


@lowers(aten.linalg_solve.default)
def solve(b: Builder, A: Value, B: Value, left: bool = True) -> Value:
    """X of A X = B; B may hold vectors."""
    vectors = B.type.rank == 1 or B.type.shape == A.type.shape[:-1]
    x = b.getitem(B, index=(*(Slice(),) * B.type.rank, NewAxis())) if vectors else B
    a = A
    if not left:
        a, x = _turned(b, A), (x if vectors else _turned(b, x))
    a, x = _aligned(b, a, x)
    found = b.solve(a, x)
    if vectors:
        return b.getitem(found, index=(*(Slice(),) * (found.type.rank - 1), 0))
    return found if left else _turned(b, found)


@lowers(aten.linalg_solve_triangular.default)
def solve_triangular(
    b: Builder,
    input: Value,
    B: Value,
    upper: bool,
    left: bool = True,
    unitriangular: bool = False,
) -> Value:
    """X of A X = B (X A = B), A triangular."""
    a, x = _aligned(b, input, B)
    return b.solve_triangular(
        a, x, lower=not upper, left=left, unit_diagonal=unitriangular
    )


def _aligned(b: Builder, a: Value, x: Value) -> tuple[Value, Value]:
    """Both with the same leading axes."""
    lead = broadcast(a.type.shape[:-2], x.type.shape[:-2])
    return (
        b.expand(a, (*lead, *a.type.shape[-2:])),
        b.expand(x, (*lead, *x.type.shape[-2:])),
    )
