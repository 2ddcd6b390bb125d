"""Rows of matrices, of counts of bits, and of images at computed places."""

from __future__ import annotations

import numpy as np
import torch

from ivyport.core.ir import TensorType
from tests.ops.sample import B, Input, Sample, f32, given

L = torch.linalg


def _definite(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = rng.standard_normal(shape)
    return x @ np.swapaxes(x, -1, -2) + 2 * np.eye(shape[-1])


MATRIX = Input(TensorType("float32", (B, 3, 3)), _definite)
SOLVED = {"rtol": 1e-5, "grad_rtol": 1e-4}


def _triangular(label: str, **attrs: bool) -> Sample:
    def reference(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        a = a.mT if attrs.get("transposed") else a
        return L.solve_triangular(
            a,
            x,
            upper=attrs["lower"] == attrs.get("transposed", False),
            left=attrs.get("left", True),
            unitriangular=attrs.get("unit_diagonal", False),
        )

    x = f32(B, 3, 2) if attrs.get("left", True) else f32(B, 2, 3)
    build = lambda b, a, x: b.solve_triangular(a, x, **attrs)  # noqa: E731
    return Sample("solve_triangular", (MATRIX, x), build, reference, label, **SOLVED)


def _factors(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    factors, exchanges = L.lu_factor(x)
    order = [list(range(3)) for _ in x]
    for rows, swaps in zip(order, exchanges.tolist(), strict=True):
        for i, other in enumerate(swaps):
            rows[i], rows[other - 1] = rows[other - 1], rows[i]
    return factors, exchanges - 1, torch.tensor(order, dtype=torch.int32)


MATRICES = [
    # The gradient by a matrix of which one triangle is read is a matter of taste.
    Sample(
        "cholesky",
        (MATRIX,),
        lambda b, x: b.cholesky(x),
        L.cholesky,
        differentiable=False,
        rtol=1e-5,
    ),
    Sample("inv", (MATRIX,), lambda b, x: b.inv(x), L.inv, **SOLVED),
    Sample("det", (MATRIX,), lambda b, x: b.det(x), L.det, **SOLVED),
    Sample("slogdet", (MATRIX,), lambda b, x: b.slogdet(x), L.slogdet, **SOLVED),
    Sample("lu", (f32(B, 3, 3),), lambda b, x: b.lu(x), _factors, **SOLVED),
    Sample(
        "solve",
        (MATRIX, f32(B, 3, 2)),
        lambda b, a, x: b.solve(a, x),
        L.solve,
        **SOLVED,
    ),
    _triangular("lower", lower=True),
    _triangular("upper-right", lower=False, left=False),
    _triangular("transposed", lower=True, transposed=True),
    _triangular("unit", lower=True, unit_diagonal=True),
]

NUMBERS = [0, 1, 2, 3, 7, 100, -1, -128, 127]


def _bits(x: torch.Tensor, ones: bool) -> torch.Tensor:
    width = torch.iinfo(x.dtype).bits
    texts = [format(int(n) % 2**width, f"0{width}b") for n in x]
    counts = [t.count("1") if ones else width - len(t.lstrip("0")) for t in texts]
    return torch.tensor(counts, dtype=x.dtype)


BITS = [
    Sample(
        op,
        (given(NUMBERS, dtype),),
        lambda b, x, op=op: getattr(b, op)(x),
        lambda x, op=op: _bits(x, op == "bit_count"),
        dtype,
    )
    for op in ("bit_count", "leading_zeros")
    for dtype in ("int8", "int32")
]

IMAGE, PLACES = f32(B, 2, 4, 5), f32(B, 3, 6, 2, low=-1.4, high=1.4)
CORNERS = given([[[[-1, -1], [1, 1], [0, 0], [1, -1]]]], smooth=False)

IMAGES = [
    Sample(
        "grid_sample",
        (IMAGE, PLACES),
        lambda b, x, g, m=mode, p=padding, a=corners: b.grid_sample(
            x, g, mode=m, padding=p, align_corners=a
        ),
        lambda x, g, m=mode, p=padding, a=corners: torch.nn.functional.grid_sample(
            x, g, mode=m, padding_mode=p, align_corners=a
        ),
        f"{mode}-{padding}-{corners}",
        rtol=1e-5,
        grad_rtol=1e-4,
    )
    for mode in ("bilinear", "nearest")
    for padding in ("zeros", "border", "reflection")
    for corners in (False, True)
] + [
    Sample(
        "grid_sample",
        (given(np.arange(12).reshape(1, 1, 3, 4)), CORNERS),
        lambda b, x, g: b.grid_sample(x, g, padding="border", align_corners=True),
        lambda x, g: torch.nn.functional.grid_sample(
            x, g, padding_mode="border", align_corners=True
        ),
        "corners",
    )
]

LINALG = [*MATRICES, *BITS, *IMAGES]
