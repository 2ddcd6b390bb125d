"""Layers and loading code that emitted linen files copy when they need them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from safetensors.flax import load_file, save_file

from ivyport.backends import files
from ivyport.backends.files import load_weights, write_pretrained
from ivyport.backends.jax import _tables

PARTS = (files, _tables)  # functions of every target, and of every form in JAX


def unset(name):
    """What starts a tensor whose values come with the weights: it has none."""

    def refuse(*_):
        hint = "load the weights (from_pretrained)"
        raise ValueError(f"{name} has no values of its own: {hint}")

    def start(_, shape, dtype=jnp.float32):
        # linen may ask for the shape alone; where `init` is compiled, its run refuses.
        if not isinstance(jnp.zeros(()), jax.core.Tracer):
            refuse()
        return jax.pure_callback(refuse, jax.ShapeDtypeStruct(shape, dtype))

    return start


def frozen(module, *parts):
    """The class with its parameters in the collection "frozen", which does not train.

    Of `parts` alone, the paths of modules or parameters below it, if there are any.
    """

    def merged(variables):
        held = traverse_util.flatten_dict(variables.get("params", {}))
        kept = traverse_util.flatten_dict(variables.get("frozen", {}))
        params = traverse_util.unflatten_dict(held | kept)
        return {"params": params, "frozen": variables.get("frozen", {})}

    def split(variables):
        held = traverse_util.flatten_dict(variables.get("params", {}))
        kept = traverse_util.flatten_dict(variables.get("frozen", {}))
        for path in list(held):
            inside = any(path[: len(part)] == part for part in parts)
            if inside or not parts:
                kept[path] = held.pop(path)
        held = {path: value for path, value in held.items() if path not in kept}
        made = {"params": held, "frozen": kept}
        return {k: traverse_util.unflatten_dict(v) for k, v in made.items()}

    both = ["params", "frozen"]
    return nn.map_variables(module, both, merged, split, mutable=True)


class BatchNorm(nn.BatchNorm):
    """Batch norm whose running variance is unbiased, as in PyTorch."""

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, features)
        var = self.variable("batch_stats", "var", jnp.ones, features)
        means, variances = mean.value, var.value
        if not self.use_running_average:
            axes = tuple(range(x.ndim - 1))
            means, variances = x.mean(axes), x.var(axes)
            count = x.size // features
            if count == 1:
                raise ValueError(f"{x.shape} has one value a channel: train with more")
            if not self.is_initializing():
                new = self.momentum, 1 - self.momentum
                unbiased = variances * count / (count - 1)
                mean.value = new[0] * mean.value + new[1] * means
                var.value = new[0] * var.value + new[1] * unbiased
        y = (x - means) * jax.lax.rsqrt(variances + self.epsilon)
        if self.use_scale:
            y = y * self.param("scale", self.scale_init, (features,))
        if self.use_bias:
            y = y + self.param("bias", self.bias_init, (features,))
        return y


class ExponentialMovingAverage(nn.Module):
    """Running average that starts at zero and is divided by its weight, as in haiku."""

    momentum: float

    @nn.compact
    def __call__(self, value, update):
        average = self.variable("batch_stats", "average", jnp.zeros_like, value)
        hidden = self.variable("batch_stats", "hidden", jnp.zeros_like, value)
        counter = self.variable("batch_stats", "counter", jnp.zeros, (), jnp.int32)
        if update and not self.is_initializing():
            kept = self.momentum
            value = jax.lax.stop_gradient(value)
            counter.value = counter.value + 1
            hidden.value = kept * hidden.value + (1 - kept) * value
            average.value = hidden.value / (1 - kept**counter.value)
        return average.value


class DebiasedBatchNorm(nn.Module):
    """Batch norm over the last axis with debiased statistics, as in haiku."""

    momentum: float
    epsilon: float
    use_scale: bool = True
    use_bias: bool = True
    use_running_average: bool = True

    def setup(self):
        self.mean_ema = ExponentialMovingAverage(self.momentum)
        self.var_ema = ExponentialMovingAverage(self.momentum)

    def __call__(self, x):
        trains = not self.use_running_average
        axes = tuple(range(x.ndim - 1))
        batch = x.mean(axes), x.var(axes)
        mean = self.mean_ema(batch[0], trains)
        var = self.var_ema(batch[1], trains)
        mean, var = batch if trains else (mean, var)
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return self.scaled(y)

    @nn.compact
    def scaled(self, y):
        shape = y.shape[-1:]
        if self.use_scale:
            y = y * self.param("scale", nn.initializers.ones, shape)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, shape)
        return y


class PaddedEmbed(nn.Embed):
    """Embedding whose row `padding_idx` gets no gradient, as in PyTorch."""

    padding_idx: int = 0

    def __call__(self, inputs):
        rows = super().__call__(inputs)
        padded = (inputs == self.padding_idx)[..., None]
        return jnp.where(padded, jax.lax.stop_gradient(rows), rows)


def load_variables(files):
    """The variables among `saved_files`, as `apply` takes them."""
    flat = load_weights(files, load_file)
    return traverse_util.unflatten_dict(flat, sep=".")


def save_variables(variables, folder, file, config):
    """Write what `load_variables` reads, and the rest of the port."""
    tensors = traverse_util.flatten_dict(variables, sep=".")
    write_pretrained(folder, file, config, tensors, save_file)


__all__ = [
    "BatchNorm",
    "DebiasedBatchNorm",
    "PaddedEmbed",
    "frozen",
    "load_variables",
    "save_variables",
    "unset",
]
