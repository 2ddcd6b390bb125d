"""Small sources of every kind, as a user would write them, with their parameters."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 20, (2, 6)).astype(np.int32)
X = RNG.standard_normal((2, 8)).astype(np.float32)
IMAGES = RNG.standard_normal((2, 16, 16, 3)).astype(np.float32)


@dataclasses.dataclass
class Tiny:
    """A source with what `to_graph` needs to trace it."""

    source: Any
    kwargs: dict[str, Any]
    given: dict[str, Any]


def drawn(tree: Any, *, positive: bool = False) -> Any:
    """Random arrays of those shapes; integers are ones. Nothing runs in JAX."""
    rng = np.random.default_rng(1)

    def draw(x: Any) -> np.ndarray:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return np.ones(x.shape, x.dtype)
        values = 0.3 * rng.standard_normal(x.shape)
        return np.asarray(0.5 + abs(values) if positive else values, x.dtype)

    return jax.tree.map(draw, tree)


def haiku(function: Callable[..., Any], **kwargs: Any) -> Tiny:
    pair = hk.transform_with_state(function)
    params, state = jax.eval_shape(lambda key: pair.init(key, **kwargs), KEY)
    shown = {k: v for k, v in kwargs.items() if k != "is_training"}
    given = {"params": drawn(params), "state": drawn(state, positive=True)}
    return Tiny(pair, shown, given)


def linen(module: nn.Module, **kwargs: Any) -> Tiny:
    variables = jax.eval_shape(lambda key: module.init(key, **kwargs), KEY)
    given = {
        name: drawn(tree, positive=name != "params") for name, tree in variables.items()
    }
    return Tiny(module, kwargs, {"params": given})


def live(make: Callable[[], nnx.Module], **kwargs: Any) -> Tiny:
    """Made without values, which are drawn; random streams are as nnx makes them."""
    definition, params, rest = nnx.split(make(), nnx.Param, ...)
    return Tiny(nnx.merge(definition, drawn(params), rest), kwargs, {})


# ---- haiku


def hk_mlp() -> Tiny:
    return haiku(lambda x: hk.nets.MLP([16, 4])(x), x=X)


def hk_resnet() -> Tiny:
    def tiny_resnet(images: jax.Array, is_training: bool) -> jax.Array:
        net = hk.nets.ResNet(
            [1, 1, 1, 1], 5, bottleneck=False, channels_per_group=[4, 4, 8, 8],
            use_projection=[True, True, True, True],
        )  # fmt: skip
        return net(images, is_training)

    return haiku(tiny_resnet, images=IMAGES, is_training=True)


class Block(hk.Module):
    """A transformer layer."""

    def __init__(self, heads: int, rate: float, name: str | None = None) -> None:
        super().__init__(name=name)
        self.heads = heads
        self.rate = rate

    def __call__(self, h: jax.Array, mask: jax.Array, is_training: bool) -> jax.Array:
        width = h.shape[-1]
        w_init = hk.initializers.VarianceScaling(1.0)
        attention = hk.MultiHeadAttention(
            self.heads, width // self.heads, w_init=w_init
        )
        normed = self.norm(h)
        attended = attention(normed, normed, normed, mask=mask)
        h = h + self.drop(attended, is_training)
        dense = hk.Linear(2 * width)(self.norm(h))
        dense = hk.Linear(width)(jax.nn.gelu(dense))
        return h + self.drop(dense, is_training)

    def norm(self, h: jax.Array) -> jax.Array:
        return hk.LayerNorm(-1, True, True)(h)

    def drop(self, h: jax.Array, is_training: bool) -> jax.Array:
        if not is_training:
            return h
        return hk.dropout(hk.next_rng_key(), self.rate, h)


def hk_transformer() -> Tiny:
    def language_model(ids: jax.Array, is_training: bool) -> jax.Array:
        length = ids.shape[1]
        positions = hk.get_parameter("positions", [length, 16], init=jnp.zeros)
        hidden = hk.Embed(20, 16)(ids) + positions
        mask = jnp.tril(jnp.ones((1, 1, length, length)))
        for _ in range(3):
            hidden = Block(4, 0.1)(hidden, mask, is_training)
        logits = hk.Linear(20, name="head")(hk.LayerNorm(-1, True, True)(hidden))
        return logits

    return haiku(language_model, ids=IDS, is_training=True)


def hk_stack() -> Tiny:
    def stacked(x: jax.Array) -> jax.Array:
        layers = hk.experimental.layer_stack(3)(lambda h: jnp.tanh(hk.Linear(8)(h)))
        return hk.Linear(2)(layers(x))

    return haiku(stacked, x=X)


# ---- linen


class LinenBlock(nn.Module):
    """A transformer layer."""

    heads: int
    rate: float = 0.1

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(self.heads, dropout_rate=self.rate)(
            y, y, deterministic=deterministic
        )
        x = x + nn.Dropout(self.rate)(y, deterministic=deterministic)
        y = nn.Dense(32)(nn.LayerNorm()(x))
        y = nn.Dense(x.shape[-1])(nn.gelu(y))
        return x + nn.Dropout(self.rate)(y, deterministic=deterministic)


class LinenTransformer(nn.Module):
    """A transformer, its layers plain, rematerialised or scanned."""

    form: str = "plain"

    @nn.compact
    def __call__(self, ids: jax.Array, deterministic: bool = True) -> jax.Array:
        initial = nn.initializers.normal()
        x = nn.Embed(20, 16)(ids)
        x = x + self.param("positions", initial, (ids.shape[1], 16))
        if self.form == "scanned":
            scan = nn.scan(
                lambda block, h, _: (block(h, deterministic), None),
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=2,
            )
            x, _ = scan(LinenBlock(4), x, None)
        else:
            remat = self.form == "remat"
            block = nn.remat(LinenBlock, static_argnums=(2,)) if remat else LinenBlock
            for _ in range(2):
                x = block(4)(x, deterministic)
        return nn.Dense(20)(nn.LayerNorm()(x))


class LinenNet(nn.Module):
    """Convolutions and batch norm; parts made in `setup`."""

    features: int = 4

    def setup(self) -> None:
        self.conv = nn.Conv(self.features, (3, 3))
        self.norm = nn.BatchNorm()
        self.heads = [nn.Dense(2), nn.Dense(3)]

    def __call__(self, images: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        x = self.norm(self.conv(images), use_running_average=not train)
        x = jax.nn.relu(x).mean((1, 2))
        return {"a": self.heads[0](x), "b": self.heads[1](x)}


def linen_transformer(form: str = "plain") -> Tiny:
    return linen(LinenTransformer(form), ids=IDS)


def linen_net() -> Tiny:
    return linen(LinenNet(), images=IMAGES)


# ---- nnx


class NNXBlock(nnx.Module):
    """A transformer layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            4, 16, dropout_rate=0.1, decode=False, rngs=rngs
        )
        self.mlp_norm = nnx.LayerNorm(16, rngs=rngs)
        self.up = nnx.Linear(16, 32, rngs=rngs)
        self.down = nnx.Linear(32, 16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.dropout(self.attention(self.norm(x)))
        hidden = nnx.gelu(self.up(self.mlp_norm(x)))
        return x + self.dropout(self.down(hidden))


class RematBlock(NNXBlock):
    """The same, computed again in the backward pass."""

    @nnx.remat
    def __call__(self, x: jax.Array) -> jax.Array:
        return NNXBlock.__call__(self, x)


class NNXTransformer(nnx.Module):
    """A transformer with a tied head."""

    def __init__(self, rngs: nnx.Rngs, block: type[NNXBlock] = NNXBlock) -> None:
        self.embed = nnx.Embed(20, 16, rngs=rngs)
        self.blocks = nnx.List([block(rngs) for _ in range(2)])
        self.head = nnx.Linear(16, 20, use_bias=False, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        hidden = self.embed(ids)
        for block in self.blocks:
            hidden = block(hidden)
        return self.embed.attend(hidden) + self.head(hidden)


def nnx_transformer(block: type[NNXBlock] = NNXBlock) -> Tiny:
    return live(lambda: NNXTransformer(nnx.Rngs(0), block), ids=IDS)


# ---- functions

WEIGHT = RNG.standard_normal((8, 4)).astype(np.float32)


@jax.jit
def _forward(params: Any, x: jax.Array, scale: float = 2.0) -> Any:
    hidden = jnp.tanh(x @ params["layers"][0]["w"] + params["layers"][0]["b"])
    scores = hidden @ WEIGHT[:4] * scale
    return {"scores": scores, "hidden": (hidden, None)}


def plain_function() -> Tiny:
    params = {"layers": [{"w": WEIGHT, "b": WEIGHT[0]}]}
    return Tiny(_forward, {"x": X}, {"params": params})


SOURCES: dict[str, Callable[[], Tiny]] = {
    "hk_mlp": hk_mlp,
    "hk_resnet": hk_resnet,
    "hk_transformer": hk_transformer,
    "hk_stack": hk_stack,
    "linen_transformer": linen_transformer,
    "linen_remat": lambda: linen_transformer("remat"),
    "linen_scanned": lambda: linen_transformer("scanned"),
    "linen_net": linen_net,
    "nnx_transformer": nnx_transformer,
    "nnx_remat": lambda: nnx_transformer(RematBlock),
    "plain_function": plain_function,
}


@functools.cache
def tiny(name: str) -> Tiny:
    """The source of that name, made once."""
    return SOURCES[name]()
