"""Samples of matrices, and of images at computed places."""

from __future__ import annotations

import torch

from tests.frontends.torch.sample import A, F, Input, Sample, normal, row

L = torch.linalg


def _definite(g: torch.Generator, s: tuple[int, ...]) -> torch.Tensor:
    x = torch.randn(s, generator=g)
    return x @ x.mT + 2 * torch.eye(s[-1])


matrix = Input(("B", 3, 3), _definite)
one = Input((3, 3), _definite)
image, grid = normal("B", 2, 4, 5), normal("B", 3, 6, 2)

ROWS: list[Sample] = [
    row("cholesky", L.cholesky, matrix, ops="cholesky"),
    row("cholesky-upper", lambda x: L.cholesky(x, upper=True), matrix),
    row("inv", L.inv, matrix, ops="inv", rtol=1e-4),
    row("inverse", torch.inverse, matrix, rtol=1e-4),
    row("det", torch.det, matrix, ops="det", rtol=1e-4),
    row("linalg_det", L.det, matrix, rtol=1e-4),
    row("slogdet", torch.slogdet, matrix, ops="slogdet", rtol=1e-4),
    row("linalg_slogdet", L.slogdet, matrix, rtol=1e-4),
    row("solve", L.solve, matrix, normal("B", 3, 2), ops="solve", rtol=1e-4),
    row("solve-vector", L.solve, one, normal(3), rtol=1e-4),
    row("solve-vectors", L.solve, matrix, normal("B", 3), rtol=1e-4),
    row("solve-shared", L.solve, one, normal("B", 3, 2), rtol=1e-4),
    row(
        "solve-right",
        lambda a, x: L.solve(a, x, left=False),
        matrix,
        normal("B", 2, 3),
        rtol=1e-4,
    ),
    row(
        "solve_triangular",
        lambda a, x: L.solve_triangular(a, x, upper=True),
        matrix,
        normal("B", 3, 2),
        rtol=1e-4,
    ),
    row(
        "solve_triangular-right",
        lambda a, x: L.solve_triangular(
            a, x, upper=False, left=False, unitriangular=True
        ),
        one,
        normal("B", 2, 3),
        rtol=1e-4,
    ),
    row(
        "grid_sample",
        lambda x, g: F.grid_sample(x, g, align_corners=True),
        image,
        grid,
        ops="grid_sample",
        rtol=1e-4,
    ),
    row(
        "grid_sample-nearest",
        lambda x, g: F.grid_sample(x, g, "nearest", "reflection", False),
        image,
        grid,
        rtol=1e-4,
    ),
    row(
        "grid_sampler_2d",
        lambda x, g: A.grid_sampler_2d.default(x, g, 0, 1, False),
        image,
        grid,
        rtol=1e-4,
    ),
    row(
        "grid_sample-cubic",
        lambda x, g: F.grid_sample(x, g, "bicubic", align_corners=False),
        image,
        grid,
        refuses="'bilinear' or",
    ),
]
