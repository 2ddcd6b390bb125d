"""Points at which frameworks differ in the derivative of a function, though not in its value.

A row is a function and its arguments, all of which have gradients; the points are those where
the function has a corner, an end of its domain, or equal elements to choose from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

INF, NAN = float("inf"), float("nan")
Row = tuple[Callable[..., Any], *tuple[Any, ...]]

SIGNS = [-0.0, 0.0, 1.0, -1.0]
TIES = [[1.0, 2.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.0, -0.0, -1.0, -0.0]]
EQUAL = [0.0, 1.0, 1.0, 2.0], [-0.0, 1.0, 0.5, 2.0]
ZEROS = [[0.0, 2.0, 3.0], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]]
CORNER = [[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]]

TORCH: dict[str, Row] = {
    "abs": (torch.abs, SIGNS),
    "relu": (F.relu, SIGNS),
    "relu6": (F.relu6, [0.0, 6.0, 3.0, -0.0]),
    "hardtanh": (F.hardtanh, [-1.0, 1.0, 0.5]),
    "hardtanh of bounds": (lambda x: F.hardtanh(x, -2.0, 0.5), [-2.0, 0.5, 0.0]),
    "hardsigmoid": (F.hardsigmoid, [-3.0, 3.0, 0.0]),
    "hardswish": (F.hardswish, [-3.0, 3.0, 0.0]),
    "leaky_relu": (F.leaky_relu, SIGNS),
    "leaky_relu negative": (lambda x: F.leaky_relu(x, -0.5), SIGNS),
    "prelu": (F.prelu, SIGNS, [0.25]),
    "elu": (lambda x: F.elu(x, 0.5), SIGNS),
    "selu": (F.selu, SIGNS),
    "celu": (lambda x: F.celu(x, 0.5), SIGNS),
    "rrelu": (F.rrelu, SIGNS),
    "threshold": (lambda x: F.threshold(x, 0.5, 0.1), [0.5, 1.0]),
    "hardshrink": (F.hardshrink, [0.5, -0.5, 0.0, 1.0]),
    "softshrink": (F.softshrink, [0.5, -0.5, 0.0, 1.0]),
    "softplus": (lambda x: F.softplus(x, 2.0, 10.0), [5.0, 5.1, 0.0]),
    "log_sigmoid": (F.logsigmoid, [0.0, -0.0, -200.0, 200.0]),
    "softsign": (F.softsign, SIGNS),
    "silu": (F.silu, [0.0, -200.0, 200.0]),
    "mish": (F.mish, [0.0, -200.0, 200.0]),
    "gelu": (F.gelu, [0.0, -200.0, 200.0]),
    "gelu tanh": (lambda x: F.gelu(x, approximate="tanh"), [0.0, -200.0, 200.0]),
    "clamp": (lambda x: x.clamp(-1.0, 1.0), [-1.0, 1.0, 0.0, 2.0]),
    "clamp min": (lambda x: x.clamp(min=0.5), [0.5, 1.0]),
    "clamp max": (lambda x: x.clamp(max=0.5), [0.5, 1.0]),
    "clamp at 0": (lambda x: x.clamp(min=0), SIGNS),
    "clamp of one point": (lambda x: x.clamp(1.0, 1.0), [1.0, 2.0]),
    "clamp by tensors": (torch.clamp, [1.0, 2.0, 1.5], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
    "clamp tensors equal": (torch.clamp, [1.0, 2.0, 1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 0.0]),
    "clamp_min tensor": (torch.clamp_min, *EQUAL),
    "maximum": (torch.maximum, *EQUAL),
    "minimum": (torch.minimum, *EQUAL),
    "maximum of a constant": (lambda x: torch.maximum(x, torch.tensor(1.0)), [1.0, 2.0]),
    "fmax": (torch.fmax, *EQUAL),
    "fmin": (torch.fmin, *EQUAL),
    "maximum scalar tensor": (torch.maximum, [0.0, 1.0], [0.0]),
    "amax": (lambda x: x.amax(-1), TIES),
    "amin": (lambda x: x.amin(-1), TIES),
    "amax of all": (lambda x: x.amax(), TIES),
    "max of all": (lambda x: x.max(), TIES),
    "max of an axis": (lambda x: x.max(-1).values, TIES),
    "min of an axis": (lambda x: x.min(-1).values, TIES),
    "min of all": (lambda x: x.min(), TIES),
    "max keepdim": (lambda x: x.max(0, keepdim=True).values, TIES),
    "sort": (lambda x: x.sort(stable=True, dim=-1).values, TIES),
    "sort descending": (lambda x: x.sort(stable=True, dim=-1, descending=True).values, TIES),
    "topk": (lambda x: x.topk(2).values, [[1.0, 2.0, 2.0, 0.0]]),
    "max_pool": (lambda x: F.max_pool1d(x[None], 2), TIES),
    "max_pool overlapping": (lambda x: F.max_pool1d(x[None], 3, 1, 1), TIES),
    "max_pool2d": (lambda x: F.max_pool2d(x[None], 2, 1), TIES),
    "adaptive_max_pool": (lambda x: F.adaptive_max_pool1d(x[None], 2), TIES),
    "adaptive_max_pool 1": (lambda x: F.adaptive_max_pool2d(x[None], 1), TIES),
    "prod": (lambda x: x.prod(-1), ZEROS),
    "prod of all": (lambda x: x.prod(), ZEROS),
    "pow 2": (lambda x: x**2, SIGNS),
    "pow 3": (lambda x: x**3, SIGNS),
    "pow 0": (lambda x: x**0, SIGNS),
    "pow 0.5": (lambda x: x**0.5, [0.0, 1.0]),
    "pow 1.5": (lambda x: x**1.5, [0.0, 1.0]),
    "pow -1": (lambda x: x**-1, [0.0, 1.0]),
    "pow of tensors": (torch.pow, [0.0, 0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 0.0, 0.0]),
    "pow of -": (torch.pow, [0.0, -1.0], [-1.0, 2.0]),
    "pow of a number": (lambda y: 0.0**y, [0.0, 1.0, 2.0]),
    "pow of 2": (lambda y: 2.0**y, [0.0, 1.0, 2.0]),
    "sqrt": (torch.sqrt, [0.0, 1.0]),
    "rsqrt": (torch.rsqrt, [0.0, 1.0]),
    "reciprocal": (torch.reciprocal, [0.0, 1.0]),
    "norm": (lambda x: x.norm(dim=-1), CORNER),
    "norm 1": (lambda x: x.norm(1, dim=-1), CORNER),
    "norm 3": (lambda x: x.norm(3, dim=-1), CORNER),
    "norm 0.5": (lambda x: x.norm(0.5, dim=-1), CORNER),
    "norm inf": (lambda x: x.norm(INF, dim=-1), [*CORNER, [2.0, -2.0, 2.0]]),
    "norm -inf": (lambda x: x.norm(-INF, dim=-1), [*CORNER, [2.0, -2.0, 2.0]]),
    "normalize": (F.normalize, CORNER),
    "cosine_similarity": (lambda x, y: F.cosine_similarity(x, y, -1), CORNER, CORNER[::-1]),
    "std": (lambda x: x.std(-1), CORNER),
    "var": (lambda x: x.var(-1), CORNER),
    "logsumexp": (lambda x: x.logsumexp(-1), [[-INF, -INF], [-INF, 0.0], [INF, 0.0], [1.0, 1.0]]),
    "softmax": (lambda x: x.softmax(-1), [[-INF, 0.0, 1.0], [1.0, 1.0, 1.0]]),
    "log_softmax": (lambda x: x.log_softmax(-1)[..., 1], [[-INF, 0.0, 1.0]]),
    "where": (lambda x: torch.where(x > 0, x.log(), 0.0), [0.0, -1.0, 1.0]),
    "where of sqrt": (lambda x: torch.where(x > 0, x.sqrt(), x), [0.0, -1.0, 1.0]),
    "masked_fill": (lambda x: x.sqrt().masked_fill(x == 0, 1.0), [0.0, 1.0]),
    "atan2": (torch.atan2, [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]),
    "hypot": (torch.hypot, [0.0, 3.0, 0.0], [0.0, 4.0, 1.0]),
    "sign": (torch.sign, SIGNS),
    "floor": (torch.floor, SIGNS),
    "ceil": (torch.ceil, SIGNS),
    "round": (torch.round, [0.5, 1.0]),
    "trunc": (torch.trunc, SIGNS),
    "frac": (torch.frac, SIGNS),
    "fmod": (torch.fmod, [3.0, -3.0, 0.0, 2.0], [3.0, 2.0, 2.0, 4.0]),
    "remainder": (torch.remainder, [3.0, -3.0, 0.0, 2.0], [3.0, 2.0, 2.0, 4.0]),
    "div floor": (lambda x, y: torch.div(x, y, rounding_mode="floor"), [3.0, 1.0], [3.0, 2.0]),
    "xlogy": (torch.xlogy, [0.0, 0.0, 1.0], [0.0, 1.0, 2.0]),
    "log": (torch.log, [0.0, 1.0]),
    "log1p": (torch.log1p, [-1.0, 0.0]),
    "asin": (torch.asin, [1.0, -1.0, 0.0]),
    "acos": (torch.acos, [1.0, -1.0, 0.0]),
    "acosh": (torch.acosh, [1.0, 2.0]),
    "atanh": (torch.atanh, [1.0, 0.0]),
    "erfinv": (torch.erfinv, [1.0, 0.0]),
    "nan_to_num": (torch.nan_to_num, [NAN, INF, 1.0]),
    "logit": (lambda x: torch.logit(x, 0.25), [0.25, 0.75, 0.5, 0.0]),
    "hinge": (lambda x: F.relu(1 - x), [1.0, 0.0]),
    "scatter_reduce amax": (
        lambda x, y: x.scatter_reduce(0, torch.tensor([0, 0, 1, 2]), y, "amax"), *EQUAL),
    "scatter_reduce amin": (
        lambda x, y: x.scatter_reduce(0, torch.tensor([0, 0, 1, 2]), y, "amin"), *EQUAL),
    "scatter_reduce prod": (
        lambda x, y: x.scatter_reduce(0, torch.tensor([0, 0, 1, 2]), y, "prod"), *EQUAL),
    "scatter_reduce prod of zeros": (
        lambda x, y: x.scatter_reduce(0, torch.tensor([0, 0, 1, 1]), y, "prod"),
        [2.0, 0.0, 3.0, 0.0], [0.0, 3.0, 2.0, 0.0]),
    "scatter_reduce prod alone": (
        lambda x, y: x.scatter_reduce(
            0, torch.tensor([0, 0, 1, 1]), y, "prod", include_self=False),
        [2.0, 0.0, 3.0, 0.0], [0.0, 0.0, 2.0, 0.0]),
    "scatter_reduce mean": (
        lambda x, y: x.scatter_reduce(0, torch.tensor([0, 0, 1, 2]), y, "mean"), *EQUAL),
    "scatter_reduce amax alone": (
        lambda x, y: x.scatter_reduce(
            0, torch.tensor([0, 0, 1, 2]), y, "amax", include_self=False), *EQUAL),
    "cumprod": (lambda x: x.cumprod(-1), ZEROS),
    "cdist": (lambda x: torch.cdist(x, x), CORNER),
    "cdist 0.5": (lambda x: torch.cdist(x, x, p=0.5), CORNER),
    "cdist 1": (lambda x: torch.cdist(x, x, p=1), CORNER),
    "cdist 3": (lambda x: torch.cdist(x, x, p=3), CORNER),
    "cdist inf": (lambda x: torch.cdist(x, x, p=INF), [[1.0, 2.0], [1.0, 2.0], [3.0, 1.0]]),
    "dist": (lambda x, y: torch.dist(x, y, p=1), *EQUAL),
    "l1_loss": (F.l1_loss, *EQUAL),
    "huber": (lambda x, y: F.huber_loss(x, y, delta=0.5), *EQUAL),
    "smooth_l1": (lambda x, y: F.smooth_l1_loss(x, y, beta=0.5), *EQUAL),
    "triplet": (lambda x, y: F.triplet_margin_loss(x, y, x * 2), CORNER, CORNER[::-1]),
    "ranking": (
        lambda x, y: F.margin_ranking_loss(x, y, torch.ones(4), margin=0.5), *EQUAL),
    "hinge embedding": (
        lambda x: F.hinge_embedding_loss(x, torch.tensor([1, -1, -1, 1])), [1.0, 1.0, 0.5, 0.0]),
    "multi margin": (lambda x: F.multi_margin_loss(x, torch.tensor([1])), [[0.0, 1.0, 0.0]]),
    "exp2": (torch.exp2, SIGNS),
    "square": (torch.square, SIGNS),
    "layer_norm": (lambda x: F.layer_norm(x, (3,), eps=0.1), CORNER),
    "weight_norm": (lambda v, g: torch._weight_norm(v, g, 0), CORNER[1:] * 2, [[1.0], [0.0]]),
    "lerp": (torch.lerp, [1.0, 2.0], [1.0, 2.0], [0.0, 1.0]),
}  # fmt: skip

JAX: dict[str, Row] = {
    "abs": (jnp.abs, SIGNS),
    "relu": (jax.nn.relu, SIGNS),
    "relu6": (jax.nn.relu6, [0.0, 6.0, 3.0, -0.0]),
    "hard_tanh": (jax.nn.hard_tanh, [-1.0, 1.0, 0.5]),
    "hard_sigmoid": (jax.nn.hard_sigmoid, [-3.0, 3.0, 0.0]),
    "hard_silu": (jax.nn.hard_silu, [-3.0, 3.0, 0.0]),
    "leaky_relu": (jax.nn.leaky_relu, SIGNS),
    "leaky_relu negative": (lambda x: jax.nn.leaky_relu(x, -0.5), SIGNS),
    "leaky_relu by hand": (lambda x: jnp.where(x > 0, x, 0.2 * x), SIGNS),
    "leaky_relu by maximum": (lambda x: jnp.maximum(x, 0.2 * x), SIGNS),
    "elu": (lambda x: jax.nn.elu(x, 0.5), SIGNS),
    "selu": (jax.nn.selu, SIGNS),
    "celu": (lambda x: jax.nn.celu(x, 0.5), SIGNS),
    "elu by hand": (lambda x: jnp.where(x >= 0, x, 0.5 * jnp.expm1(x)), SIGNS),
    "softplus": (jax.nn.softplus, [0.0, -0.0, 30.0, -200.0, 200.0]),
    "log_sigmoid": (jax.nn.log_sigmoid, [0.0, -0.0, -200.0, 200.0]),
    "soft_sign": (jax.nn.soft_sign, SIGNS),
    "squareplus": (jax.nn.squareplus, SIGNS),
    "sparse_plus": (jax.nn.sparse_plus, [-1.0, 1.0, 0.0]),
    "silu": (jax.nn.silu, [0.0, -200.0, 200.0]),
    "mish": (jax.nn.mish, [0.0, -200.0, 200.0]),
    "gelu": (jax.nn.gelu, [0.0, -200.0, 200.0]),
    "gelu erf": (lambda x: jax.nn.gelu(x, approximate=False), [0.0, -200.0, 200.0]),
    "maximum of 0": (lambda x: jnp.maximum(x, 0), SIGNS),
    "maximum of a number": (lambda x: jnp.maximum(x, 1.0), [1.0, 2.0]),
    "minimum of a number": (lambda x: jnp.minimum(1.0, x), [1.0, 2.0]),
    "maximum": (jnp.maximum, *EQUAL),
    "minimum": (jnp.minimum, *EQUAL),
    "maximum of min": (lambda x: jnp.minimum(jnp.maximum(x, 0.0), 1.0), [0.0, 1.0, 0.5]),
    "relu then min": (lambda x: jnp.minimum(jax.nn.relu(x), 1.0), [0.0, 1.0, 0.5]),
    "fmax": (jnp.fmax, *EQUAL),
    "fmin": (jnp.fmin, *EQUAL),
    "clip": (lambda x: jnp.clip(x, -1.0, 1.0), [-1.0, 1.0, 0.0, 2.0]),
    "clip lower": (lambda x: jnp.clip(x, 0.5), [0.5, 1.0]),
    "clip upper": (lambda x: jnp.clip(x, max=0.5), [0.5, 1.0]),
    "clip by arrays": (jnp.clip, [1.0, 2.0, 1.5], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]),
    "clip of one point": (lambda x: jnp.clip(x, 1.0, 1.0), [1.0, 2.0]),
    "clamp": (lambda x: jax.lax.clamp(-1.0, x, 1.0), [-1.0, 1.0, 0.0, 2.0]),
    "clamp by arrays": (
        lambda a, x, b: jax.lax.clamp(a, x, b), [1.0, 1.0], [1.0, 2.0], [2.0, 2.0]),
    "max of an axis": (lambda x: x.max(-1), TIES),
    "min of an axis": (lambda x: x.min(-1), TIES),
    "max of all": (lambda x: x.max(), TIES),
    "nanmax": (lambda x: jnp.nanmax(x, -1), TIES),
    "ptp": (lambda x: jnp.ptp(x, -1), TIES),
    "max initial": (lambda x: jnp.max(x, -1, initial=2.0), TIES),
    "max where": (lambda x: jnp.max(x, -1, initial=-9.0, where=x > 0), TIES),
    "sort": (lambda x: jnp.sort(x, -1), TIES),
    "sort descending": (lambda x: jnp.sort(x, -1, descending=True), TIES),
    "argsort": (lambda x: jnp.take_along_axis(x, jnp.argsort(x, -1), -1), TIES),
    "top_k": (lambda x: jax.lax.top_k(x, 2)[0], TIES),
    "median": (lambda x: jnp.median(x, -1), TIES),
    "quantile": (lambda x: jnp.quantile(x, 0.25, axis=-1), TIES),
    "cummax": (lambda x: jax.lax.cummax(x, 1), TIES),
    "cummin": (lambda x: jax.lax.cummin(x, 1), TIES),
    "maximum.accumulate": (lambda x: jnp.maximum.accumulate(x, 1), TIES),
    "max_pool": (lambda x: jax.lax.reduce_window(
        x, -INF, jax.lax.max, (1, 2), (1, 2), "VALID"), TIES),
    "max_pool overlapping": (lambda x: jax.lax.reduce_window(
        x, -INF, jax.lax.max, (2, 2), (1, 1), "SAME"), TIES),
    "prod": (lambda x: x.prod(-1), ZEROS),
    "prod of all": (lambda x: x.prod(), ZEROS),
    "cumprod": (lambda x: jnp.cumprod(x, -1), ZEROS),
    "square": (lambda x: x**2, SIGNS),
    "pow 3": (lambda x: x**3, SIGNS),
    "pow 0": (lambda x: x**0, SIGNS),
    "pow 0.5": (lambda x: x**0.5, [0.0, 1.0]),
    "pow 1.5": (lambda x: x**1.5, [0.0, 1.0]),
    "pow 0.0": (lambda x: x**0.0, SIGNS),
    "pow -1": (lambda x: x**-1, [0.0, 1.0]),
    "pow of arrays": (jnp.power, [0.0, 0.0, 0.0, 1.0, 2.0], [0.0, 1.0, 2.0, 0.0, 0.0]),
    "pow of -": (jnp.power, [0.0, -1.0], [-1.0, 2.0]),
    "pow of a number": (lambda y: 0.0**y, [0.0, 1.0, 2.0]),
    "pow of 2": (lambda y: 2.0**y, [0.0, 1.0, 2.0]),
    "sqrt": (jnp.sqrt, [0.0, 1.0]),
    "rsqrt": (jax.lax.rsqrt, [0.0, 1.0]),
    "cbrt": (jnp.cbrt, [0.0, 1.0, -8.0]),
    "norm": (lambda x: jnp.linalg.norm(x, axis=-1), CORNER),
    "norm 1": (lambda x: jnp.linalg.norm(x, 1, axis=-1), CORNER),
    "norm 3": (lambda x: jnp.linalg.norm(x, 3, axis=-1), CORNER),
    "norm inf": (lambda x: jnp.linalg.norm(x, INF, axis=-1), [*CORNER, [2.0, -2.0, 2.0]]),
    "norm by hand": (lambda x: jnp.sqrt((x * x).sum(-1)), CORNER),
    "normalized": (lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-3), CORNER),
    "std": (lambda x: x.std(-1), CORNER),
    "var": (lambda x: x.var(-1), CORNER),
    "logsumexp": (
        lambda x: jax.nn.logsumexp(x, -1), [[-INF, -INF], [-INF, 0.0], [INF, 0.0], [1.0, 1.0]]),
    "softmax": (lambda x: jax.nn.softmax(x, -1), [[-INF, 0.0, 1.0], [1.0, 1.0, 1.0]]),
    "log_softmax": (lambda x: jax.nn.log_softmax(x, -1)[..., 1], [[-INF, 0.0, 1.0]]),
    "where": (lambda x: jnp.where(x > 0, jnp.log(x), 0.0), [0.0, -1.0, 1.0]),
    "where of sqrt": (lambda x: jnp.where(x > 0, jnp.sqrt(x), x), [0.0, -1.0, 1.0]),
    "atan2": (jnp.arctan2, [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]),
    "hypot": (jnp.hypot, [0.0, 3.0, 0.0], [0.0, 4.0, 1.0]),
    "sign": (jnp.sign, SIGNS),
    "floor": (jnp.floor, SIGNS),
    "ceil": (jnp.ceil, SIGNS),
    "round": (jnp.round, [0.5, 1.0]),
    "round decimals": (lambda x: jnp.round(x, 1), [0.5, 1.0]),
    "trunc": (jnp.trunc, SIGNS),
    "modf": (lambda x: jnp.modf(x)[0], SIGNS),
    "fmod": (jnp.fmod, [3.0, -3.0, 0.0, 2.0], [3.0, 2.0, 2.0, 4.0]),
    "remainder": (jnp.remainder, [3.0, -3.0, 0.0, 2.0], [3.0, 2.0, 2.0, 4.0]),
    "floor_divide": (jnp.floor_divide, [3.0, 1.0], [3.0, 2.0]),
    "xlogy": (jax.scipy.special.xlogy, [0.0, 0.0, 1.0], [0.0, 1.0, 2.0]),
    "log": (jnp.log, [0.0, 1.0]),
    "asin": (jnp.arcsin, [1.0, -1.0, 0.0]),
    "acos": (jnp.arccos, [1.0, -1.0, 0.0]),
    "acosh": (jnp.arccosh, [1.0, 2.0]),
    "atanh": (jnp.arctanh, [1.0, 0.0]),
    "erf_inv": (jax.lax.erf_inv, [1.0, 0.0]),
    "logaddexp": (jnp.logaddexp, [0.0, -INF, 1.0, -INF], [0.0, 0.0, 1.0, -INF]),
    "nan_to_num": (jnp.nan_to_num, [NAN, INF, 1.0]),
    "sinc": (jnp.sinc, [0.0, 1.0]),
    "huber": (lambda x: jnp.where(jnp.abs(x) < 1, 0.5 * x**2, jnp.abs(x) - 0.5), [0.0, 1.0, -1.0]),
    "at max": (lambda x, y: x.at[jnp.array([0, 0, 1, 2])].max(y), *EQUAL),
    "at min": (lambda x, y: x.at[jnp.array([0, 0, 1, 2])].min(y), *EQUAL),
    "segment_max": (lambda x: jax.ops.segment_max(x, jnp.array([0, 0, 1, 1]), 2), EQUAL[0]),
    "cumlogsumexp": (
        lambda x: jax.lax.cumlogsumexp(x, 1), [[-INF, 0.0, 1.0], [0.0, 0.0, 0.0]]),
    "heaviside": (jnp.heaviside, SIGNS, SIGNS[::-1]),
    "exp2": (jnp.exp2, SIGNS),
    "cosine": (lambda x, y: (x * y).sum(-1) / jnp.maximum(
        jnp.sqrt((x * x).sum(-1)) * jnp.sqrt((y * y).sum(-1)), 1e-8), CORNER, CORNER[::-1]),
    "lax.max on scalars": (lambda x: jax.lax.max(x, jnp.full_like(x, 1.0)), [1.0, 2.0]),
    "sum of abs": (lambda x: jnp.abs(x).sum(-1), CORNER),
    "select": (lambda x: jnp.select([x > 0, x < 0], [x, -x], 0.0), SIGNS),
    "piecewise": (lambda x: jnp.where(x < 0, 0.0, x), SIGNS),
    "hinge": (lambda x: jnp.maximum(0.0, 1.0 - x), [1.0, 0.0]),
    "layer_norm": (
        lambda x: jax.nn.standardize(x, axis=-1, epsilon=0.1), CORNER),
    "maximum of nan": (lambda x: jnp.maximum(x, NAN), [1.0, 2.0]),
    "nanmean": (lambda x: jnp.nanmean(x, -1), [[NAN, NAN], [NAN, 1.0], [2.0, 1.0]]),
    "copysign": (lambda x: jnp.copysign(x, -x), SIGNS),
    "ldexp": (lambda x: jnp.ldexp(x, jnp.array([3, -3, 0, 1])), SIGNS),
    "ldexp of infinity": (lambda x: jnp.ldexp(x, jnp.array([3, -3, 2])), [INF, -INF, 1.5]),
}  # fmt: skip


# What a port leaves different, and why; the rest of the table is exact.
LEFT = {
    "cummax": "JAX halves gradients along the tree of its associative scan",
    "cummin": "JAX halves gradients along the tree of its associative scan",
    "cumlogsumexp": "torch's gradient is NaN behind a first element of minus infinity",
    "pow 0.0": "JAX's gradient is NaN",
    "pow of arrays": "JAX's gradient is NaN",
    "pow of -": "JAX's gradient is NaN",
    "std": "JAX's gradient is NaN",
    "atan2": "JAX's gradient is NaN",
    "xlogy": "JAX's gradient is infinite",
    "maximum of nan": "torch gives the gradient of a NaN to both arguments, JAX to none",
}
LEFT_TORCH = {
    "pow of -": "torch's gradient is infinite",
    "xlogy": "torch's gradient is NaN",
}


def arrays(rows: dict[str, Row]) -> dict[str, list[np.ndarray]]:
    """The arguments of each row."""
    return {n: [np.asarray(a, np.float32) for a in row[1:]] for n, row in rows.items()}


class Kinks(torch.nn.Module):
    """All rows of a table in one forward: one capture costs as much as one row."""

    def __init__(self, rows: dict[str, Row]) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, x: dict[str, list[torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: self.rows[name][0](*x[name]) for name in self.rows}
