"""Layers and loading code that emitted haiku files copy when they need them."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp
from safetensors.flax import load_file, save_file

from ivyport.backends import files
from ivyport.backends.files import load_weights, write_pretrained
from ivyport.backends.jax import _tables

PARTS = (files, _tables)  # functions of every target, and of every form in JAX


def unset(name):
    """What starts a tensor whose values come with the weights: it has none."""

    def refuse(*_):
        raise ValueError(f"{name} has no values of its own: load the weights (load)")

    def start(shape, dtype):
        # Where `init` is compiled, its run refuses.
        if not isinstance(jnp.zeros(()), jax.core.Tracer):
            refuse()
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(shape, dtype))

    return start


def weight(module, name):
    """A parameter of another module."""
    return module.params_dict()[f"{module.module_name}/{name}"]


def with_frozen(function, frozen):
    """A transformed function whose state holds the parameters in `frozen`.

    No gradient of the parameters, and no optimizer, meets them.
    """

    def split(tree):
        return hk.data_structures.partition(lambda m, n, _: (m, n) in frozen, tree)

    def init(*args, **kwargs):
        kept, params = split((result := function.init(*args, **kwargs))[0])
        return params, hk.data_structures.merge(result[1], kept)

    def apply(params, state, *args, **kwargs):
        kept, state = split(state)
        params = hk.data_structures.merge(params, kept)
        y, state = function.apply(params, state, *args, **kwargs)
        return y, hk.data_structures.merge(state, kept)

    return hk.TransformedWithState(init, apply)


class Dropout(hk.Module):
    """Dropout in train mode alone."""

    def __init__(self, rate, broadcast_dims=(), is_training=False, name=None):
        super().__init__(name=name)
        self.rate, self.broadcast_dims = rate, broadcast_dims
        self.deterministic = not is_training

    def __call__(self, x, deterministic=None):
        if self.deterministic if deterministic is None else deterministic:
            return x
        return hk.dropout(hk.next_rng_key(), self.rate, x, self.broadcast_dims)


class BatchNorm(hk.Module):
    """Batch norm with a plain moving average; as in PyTorch its variance may be unbiased."""

    def __init__(
        self, momentum, epsilon, use_scale=True, use_bias=True, unbiased=True,
        is_training=False, name=None,
    ):  # fmt: skip
        super().__init__(name=name)
        self.momentum, self.epsilon, self.unbiased = momentum, epsilon, unbiased
        self.use_scale, self.use_bias = use_scale, use_bias
        self.is_training = is_training

    def __call__(self, x):
        shape = x.shape[-1:]
        mean = hk.get_state("mean", shape, x.dtype, init=jnp.zeros)
        var = hk.get_state("var", shape, x.dtype, init=jnp.ones)
        if self.is_training:
            axes = tuple(range(x.ndim - 1))
            count = x.size // x.shape[-1]
            if count == 1:
                raise ValueError(f"{x.shape} has one value a channel: train with more")
            kept, share = self.momentum, 1 - self.momentum
            old, (mean, var) = (mean, var), (x.mean(axes), x.var(axes))
            scale = count / (count - 1) if self.unbiased else 1
            new = jax.lax.stop_gradient((mean, var * scale))
            hk.set_state("mean", kept * old[0] + share * new[0])
            hk.set_state("var", kept * old[1] + share * new[1])
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return scaled(y, self.use_scale, self.use_bias)


class DebiasedBatchNorm(hk.Module):
    """Batch norm over the last axis with debiased statistics, as `hk.BatchNorm`."""

    def __init__(
        self, momentum, epsilon, use_scale=True, use_bias=True, is_training=False,
        name=None,
    ):  # fmt: skip
        super().__init__(name=name)
        self.epsilon, self.is_training = epsilon, is_training
        self.use_scale, self.use_bias = use_scale, use_bias
        self.mean_ema = hk.ExponentialMovingAverage(momentum, name="mean_ema")
        self.var_ema = hk.ExponentialMovingAverage(momentum, name="var_ema")

    def __call__(self, x):
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        if self.is_training or hk.running_init():
            self.mean_ema(jax.lax.stop_gradient(mean))
            self.var_ema(jax.lax.stop_gradient(var))
        if not self.is_training:
            mean, var = self.mean_ema.average, self.var_ema.average
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return scaled(y, self.use_scale, self.use_bias)


def scaled(y, use_scale, use_bias):
    """``y * scale + offset``, parameters of the module that calls it."""
    shape = y.shape[-1:]
    if use_scale:
        y = y * hk.get_parameter("scale", shape, y.dtype, init=jnp.ones)
    if use_bias:
        y = y + hk.get_parameter("offset", shape, y.dtype, init=jnp.zeros)
    return y


class PaddedEmbed(hk.Embed):
    """Embedding whose row `padding_idx` gets no gradient, as in PyTorch."""

    def __init__(self, *sizes, padding_idx, **options):
        super().__init__(*sizes, **options)
        self.padding_idx = padding_idx

    def __call__(self, ids):
        rows = super().__call__(ids)
        padded = (ids == self.padding_idx)[..., None]
        return jnp.where(padded, jax.lax.stop_gradient(rows), rows)


def load_trees(files):
    """Parameters and state among `saved_files`, as haiku nests them."""
    trees = {"params": {}, "state": {}}
    for path, value in load_weights(files, load_file).items():
        kind, _, rest = path.partition("/")
        module, _, name = rest.rpartition("/")
        trees[kind].setdefault(module, {})[name] = value
    return trees["params"], trees["state"]


def save_trees(params, state, folder, file):
    """Write what `load_trees` reads, and the rest of the port."""
    tensors = {
        f"{kind}/{module}/{name}": value
        for kind, tree in (("params", params), ("state", state))
        for module, held in tree.items()
        for name, value in held.items()
    }
    write_pretrained(folder, file, {}, tensors, save_file)


__all__ = [
    "BatchNorm",
    "DebiasedBatchNorm",
    "Dropout",
    "PaddedEmbed",
    "load_trees",
    "save_trees",
    "unset",
    "weight",
    "with_frozen",
]
