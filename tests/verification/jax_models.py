"""Small sources in JAX, and what maps them to the ports of `ports`."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as linen
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ivyport import verification
from ivyport.core.report import Report
from ivyport.weights.mapping import Row, WeightMap
from tests.verification.ports import OI, OIHW, norm_rows

X = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).standard_normal((4, 6, 6, 3)).astype(np.float32)


@dataclasses.dataclass
class Case:
    """A source with what it is called with."""

    source: Any
    inputs: dict[str, Any]
    given: dict[str, Any]

    def run(self, port: Any, rows: WeightMap, modules: Any = None, **more) -> Report:
        """The report of `port`; the batch is free."""
        options = {"free": {n: {0: "batch"} for n in self.inputs}, **self.given, **more}
        kwargs = options.pop("kwargs", self.inputs)
        modules = modules or {"": ""}
        return verification.run(self.source, port, rows, modules, kwargs, **options)


# ---- two layers: `ports.Mlp`


def mlp(params, x):
    """A plain function over its parameters."""
    h = jax.nn.gelu(x @ params["up"]["w"] + params["up"]["b"])
    y = h @ params["down"]["w"] + params["down"]["b"]
    return {"y": y, "best": y.argmax(-1)}


def hk_mlp(x):
    h = jax.nn.gelu(hk.Linear(8, name="up")(x))
    y = hk.Linear(3, name="down")(h)
    return {"y": y, "best": y.argmax(-1)}


class LinenMlp(linen.Module):
    @linen.compact
    def __call__(self, x):
        h = jax.nn.gelu(linen.Dense(8, name="up")(x))
        y = linen.Dense(3, name="down")(h)
        return {"y": y, "best": y.argmax(-1)}


class NnxMlp(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(5, 8, rngs=rngs)
        self.down = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.gelu(self.up(x))
        y = self.down(h)
        return {"y": y, "best": y.argmax(-1)}


def mlp_case(kind: str) -> Case:
    """One of the four, with biases that are not zero."""
    key = jax.random.key(0)
    if kind == "flax.nnx":
        module = NnxMlp(nnx.Rngs(0))
        module.up.bias[...] += jnp.arange(8) / 8
        return Case(module, {"x": X}, {})
    if kind == "flax.linen":
        source = LinenMlp()
        params = shifted(source.init(key, X))
        return Case(source, {"x": X}, {"params": params})
    source = hk.transform(hk_mlp)
    params = shifted(source.init(key, X))
    source = mlp if kind == "jax" else source
    return Case(source, {"x": X}, {"params": params})


def shifted(tree: Any) -> Any:
    """The tree with every vector moved off its start."""
    return jax.tree.map(
        lambda a: a + jnp.arange(a.size) / a.size if a.ndim == 1 else a, tree
    )


def mlp_rows(kind: str) -> list[Row]:
    """Rows to `ports.Mlp`."""
    mark = ":" if kind == "haiku" else "."
    flax = kind.startswith("flax")
    weight, bias = ("kernel", "bias") if flax else ("w", "b")
    rows = []
    for name in ("up", "down"):
        rows.append(Row(f"{name}{mark}{weight}", f"{name}.weight", OI))
        rows.append(Row(f"{name}{mark}{bias}", f"{name}.bias"))
    return rows


# ---- batch norm and dropout: `ports.ConvNet`


def hk_conv(x, is_training):
    h = hk.Conv2D(8, 3, name="conv")(x)
    norm = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)
    h = jax.nn.relu(norm(h, is_training)).mean((1, 2))
    if is_training:
        h = hk.dropout(hk.next_rng_key(), 0.5, h)
    return hk.Linear(5, name="head")(h)


class LinenConv(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        h = linen.Conv(8, (3, 3), name="conv")(x)
        norm = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")
        h = jax.nn.relu(norm(h)).mean((1, 2))
        h = linen.Dropout(0.5, deterministic=not train)(h)
        return linen.Dense(5, name="head")(h)


class NnxConv(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, x):
        h = jax.nn.relu(self.norm(self.conv(x))).mean((1, 2))
        return self.head(self.dropout(h))


def conv_case(kind: str) -> Case:
    """One of the three, whose statistics have seen a batch."""
    key = jax.random.key(0)
    if kind == "haiku":
        source = hk.transform_with_state(hk_conv)
        params, state = source.init(key, IMAGES, True)
        _, state = source.apply(params, state, key, IMAGES * 2 + 1, True)
        given = {"params": shifted(params), "state": state}
        return Case(source, {"x": IMAGES}, given)
    if kind == "flax.linen":
        source = LinenConv()
        variables = source.init(key, IMAGES)
        _, new = source.apply(
            variables,
            IMAGES * 2 + 1,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        params = shifted({"params": variables["params"]}) | new
        return Case(source, {"x": IMAGES}, {"params": params})
    source = NnxConv(nnx.Rngs(0))
    source(IMAGES * 2 + 1)
    source.head.bias[...] += jnp.arange(5)
    return Case(source, {"x": IMAGES}, {})


def conv_rows(kind: str) -> list[Row]:
    """Rows to `ports.ConvNet` with the norm of that library."""
    if kind == "haiku":
        return [
            Row("conv:w", "conv.weight", OIHW),
            Row("conv:b", "conv.bias"),
            *norm_rows(8),
            Row("head:w", "head.weight", OI),
            Row("head:b", "head.bias"),
        ]
    return [
        Row("conv.kernel", "conv.weight", OIHW),
        Row("conv.bias", "conv.bias"),
        Row("norm.scale", "norm.weight"),
        Row("norm.bias", "norm.bias"),
        Row("head.kernel", "head.weight", OI),
        Row("head.bias", "head.bias"),
        Row("norm.mean", "norm.running_mean", kind="buffer"),
        Row("norm.var", "norm.running_var", kind="buffer"),
    ]
