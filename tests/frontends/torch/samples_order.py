"""Samples of running extremes, order statistics, diagonals, distances and some formulas."""

from __future__ import annotations

import torch

from tests.frontends.torch.sample import (
    A,
    Sample,
    given,
    ints,
    normal,
    row,
    spaced,
    uniform,
)

nan, inf = float("nan"), float("inf")
x = normal("B", "S")
cube = normal("B", "S", 4)
fixed = spaced("B", 7)
holes = given([1.0, nan, 3.0, -2.0], [nan, nan, nan, nan], [0.5, 0.25, nan, 4.0])
square = normal("B", 3, 3)
positive = uniform(0.1, 4.0, "B", 5)

RUNNING: list[Sample] = [
    row("cumprod", lambda x: x.cumprod(1), x, ops="cumulative_prod"),
    row("cumprod-ints", lambda x: x.cumprod(0), ints(3, 4, low=1, dtype=torch.int32)),
    row("cumprod_", lambda x: A.cumprod_.default(x.clone(), 1), x),
    row("cummax", lambda x: torch.cummax(x, 1), x),
    row("cummax-ties", lambda x: torch.cummax(x, 0), given(1, 3, 3, 2, 3, 4)),
    row("cummin-first-axis", lambda x: torch.cummin(x, 0), cube),
    row("logcumsumexp", lambda x: x.logcumsumexp(1), x, ops="cumulative_logsumexp"),
    row("nansum", lambda x: x.nansum(1), holes),
    row("nansum-all", lambda x: x.nansum(), holes),
    row("count_nonzero", torch.count_nonzero, ints(2, "B", 4)),
    row(
        "count_nonzero-axes",
        lambda x: torch.count_nonzero(x, (0, 1)),
        ints(2, "B", 4),
    ),
    row("count_nonzero-axis", lambda x: torch.count_nonzero(x, 1), ints(2, "B", 4)),
]

STATISTICS: list[Sample] = [
    row("median", lambda x: x.median(1), fixed),
    row("median-all", lambda x: x.median(), fixed),
    row("median-even-keepdim", lambda x: x.median(0, keepdim=True), spaced(6, 2)),
    row("median-nan", lambda x: x.median(1), holes),
    row("kthvalue", lambda x: x.kthvalue(2, 1), fixed),
    row("quantile", lambda x: torch.quantile(x, 0.3, 1), fixed),
    row("quantile-all", lambda x: torch.quantile(x, 0.75, keepdim=True), fixed),
    row("quantile-nan", lambda x: torch.quantile(x, 0.5, 1), holes),
    row("quantile-free", lambda x: torch.quantile(x, 0.4, 1, keepdim=True), x),
    row(
        "quantile-several",
        lambda x, q: torch.quantile(x, q, 1),
        fixed,
        given(0.1, 0.5, 1.0),
    ),
    row(
        "quantile-several-free",
        lambda x, q: torch.quantile(x, q, 0, keepdim=True),
        cube,
        given(0.0, 0.9),
    ),
    *(
        row(
            f"quantile-{how}",
            lambda x, how=how: torch.quantile(x, 0.4, 1, interpolation=how),
            fixed,
        )
        for how in ("lower", "higher", "midpoint", "nearest")
    ),
    row("nanquantile", lambda x: torch.nanquantile(x, 0.4, 1), holes),
    row(
        "nanquantile-several",
        lambda x, q: torch.nanquantile(x, q, 1, interpolation="higher"),
        holes,
        given(0.1, 0.6),
    ),
]

SHAPES: list[Sample] = [
    row("diagonal", lambda x: x.diagonal(dim1=1, dim2=2), square),
    row("diagonal-offset", lambda x: x.diagonal(-1, 0, 2), normal(4, "B", 3)),
    row("diagonal_copy", lambda x: torch.diagonal_copy(x, 1), normal(3, 5)),
    row("linalg_diagonal", torch.linalg.diagonal, square),
    row("diag_embed", torch.diag_embed, x),
    row("diag_embed-offset", lambda x: torch.diag_embed(x, -2, 0, 1), normal("B", 3)),
    row("diag_embed-inf", torch.diag_embed, given(inf, 1.0, nan)),
    row("trace", torch.trace, normal(4, 3)),
    row("rot90", lambda x: torch.rot90(x, 1, (0, 2)), cube),
    row("rot90-3", lambda x: torch.rot90(x, -1, (1, 2)), cube),
    row("rot90-2", lambda x: torch.rot90(x, 2, (0, 1)), cube),
]

DISTANCES: list[Sample] = [
    *(
        row(
            f"cdist-{p}",
            lambda x, y, p=p: torch.cdist(x, y, p),
            normal("B", 7, 4),
            normal("B", 5, 4),
        )
        for p in (0.0, 1.0, 2.0, 3.5, inf)
    ),
    row("cdist-many", torch.cdist, normal(30, 4), normal(28, 4), rtol=1e-4),
    row(
        "cdist-forward",
        lambda x: A._cdist_forward.default(x, x, 1.0, None),
        normal("B", 7, 4),
    ),
    row("renorm", lambda x: torch.renorm(x, 2, 0, 1.5), cube),
    row("renorm_", lambda x: x.clone().renorm_(1, 1, 0.5), cube),
    row(
        "bilinear",
        torch.nn.functional.bilinear,
        cube,
        normal("B", "S", 3),
        normal(5, 4, 3),
        normal(5),
    ),
    row(
        "bilinear-vector",
        torch.nn.functional.bilinear,
        normal(4),
        normal(3),
        normal(5, 4, 3),
    ),
    row(
        "addr",
        lambda c, u, v: torch.addr(c, u, v, beta=0.5, alpha=2),
        normal("B", 3),
        normal("B"),
        normal(3),
    ),
    row(
        "addr_",
        lambda c, u, v: c.clone().addr_(u, v),
        normal("B", 3),
        normal("B"),
        normal(3),
    ),
    row(
        "cross",
        lambda x, y: torch.linalg.cross(x, y, dim=1),
        normal("B", 3, 2),
        normal("B", 3, 2),
    ),
    row("logaddexp", torch.logaddexp, x, normal("S")),
    row("logaddexp-inf", torch.logaddexp, given(-inf, 1e4), given(-inf, 1.0)),
]

FORMULAS: list[Sample] = [
    row("sinc", torch.sinc, given(0.0, 0.5, -1.25)),
    row("sinc_", lambda x: x.clone().sinc_(), x),
    row("special_sinc", torch.special.sinc, x),
    row("deg2rad", torch.deg2rad, x),
    row("deg2rad_", lambda x: x.clone().deg2rad_(), x),
    row("rad2deg", torch.rad2deg, x),
    row("rad2deg_", lambda x: x.clone().rad2deg_(), x),
    row("heaviside", torch.heaviside, given(-1.0, 0.0, 2.0), given(0.5, 0.25, 0.75)),
    row(
        "heaviside_",
        lambda x, y: x.clone().heaviside_(y),
        given(-1.0, 0.0),
        given(0.5, 0.25),
    ),
    row("huber_loss", torch.nn.functional.huber_loss, cube, cube),
    row(
        "huber_loss-sum",
        lambda x, y: torch.nn.functional.huber_loss(x, y, reduction="sum", delta=0.5),
        x,
        x,
    ),
    row("absolute", torch.absolute, x),
    row("absolute_", lambda x: x.clone().absolute_(), x),
    row("arccosh", torch.arccosh, uniform(1.1, 3.0, "B", 5)),
    row("arcsinh", torch.arcsinh, x),
    row("arctanh", torch.arctanh, uniform(-0.9, 0.9, "B", 5)),
    row("lgamma", torch.lgamma, positive, rtol=1e-4),
    row("special_gammaln", torch.special.gammaln, positive, rtol=1e-4),
    row("digamma", torch.digamma, positive, rtol=1e-4),
    row("special_digamma", torch.special.digamma, positive, rtol=1e-4),
    row("special_psi", torch.special.psi, positive, rtol=1e-4),
]

ROWS = [*RUNNING, *STATISTICS, *SHAPES, *DISTANCES, *FORMULAS]
