"""Layers and loading code that emitted Flax NNX files copy when they need them."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from safetensors.flax import load_file, save_file

from ivyport.backends import files
from ivyport.backends.files import load_weights, write_pretrained
from ivyport.backends.jax import _tables
from ivyport.backends.jax._tables import llama3_frequencies, sinusoids

PARTS = (files, _tables)  # functions of every target, and of every form in JAX


class Buffer(nnx.Variable):
    """State that is saved with the weights but not trained."""


class Unset(Buffer):
    """A tensor whose values come with the weights: reading it before is an error."""

    def __init__(self, value, **metadata):
        # An abstract model (`nnx.eval_shape`) has no values: it is filled as a whole.
        unset = not isinstance(value, jax.core.Tracer)
        if not unset and jnp.issubdtype(value.dtype, jnp.inexact):
            value = jnp.full_like(value, jnp.nan)
        elif not unset:
            # No number says that it is none. This runs where the values are made (`nnx.jit`).
            value = jax.pure_callback(self.refuse, jax.typeof(value))
        super().__init__(value, unset=unset and "a tensor of this model", **metadata)

    @staticmethod
    def refuse(name="a tensor made under nnx.jit"):
        hint = "load the weights first (from_pretrained, nnx.update)"
        raise ValueError(f"{name} has no values yet: {hint}")

    def __getitem__(self, key):
        if self.unset:
            self.refuse(self.unset)
        return super().__getitem__(key)

    def set_value(self, value, **index):
        super().set_value(value, **index)
        self.set_metadata(unset=False)

    def replace(self, *value, **changes):
        return super().replace(*value, **({"unset": False} if value else {}), **changes)


class UnsetParam(Unset, nnx.Param):
    """The same for a tensor that is trained."""


def name_unset(model):
    """Tell each tensor without values its place in the model, for its error."""
    for path, value in nnx.iter_graph(model):
        if isinstance(value, Unset) and value.unset:
            value.set_metadata(unset=".".join(map(str, path)))


class Frozen(nnx.Variable):
    """A weight that is not trained: `nnx.grad` and optimizers of `nnx.Param` pass it by."""


def freeze(module):
    """Make every parameter of `module` and of its parts `Frozen`."""
    for _, part in nnx.iter_modules(module):
        for name, value in list(vars(part).items()):
            if isinstance(value, nnx.Param):
                setattr(part, name, Frozen(value[...]))


class BatchNorm(nnx.BatchNorm):
    """Batch norm whose running variance is unbiased, as in PyTorch."""

    def __call__(self, x):
        if self.use_running_average:
            return super().__call__(x)
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        count = x.size // x.shape[-1]
        if count == 1:
            raise ValueError(f"{x.shape} has one value a channel: train with more")
        kept = self.momentum
        self.mean[...] = kept * self.mean[...] + (1 - kept) * mean
        self.var[...] = kept * self.var[...] + (1 - kept) * var * count / (count - 1)
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        y = y if self.scale is None else y * self.scale[...]
        return y if self.bias is None else y + self.bias[...]


class PaddedEmbed(nnx.Embed):
    """Embedding whose row `padding_idx` gets no gradient, as in PyTorch."""

    def __init__(self, *sizes, padding_idx, **options):
        super().__init__(*sizes, **options)
        self.padding_idx = padding_idx

    def __call__(self, inputs):
        rows = super().__call__(inputs)
        padded = (inputs == self.padding_idx)[..., None]
        return jnp.where(padded, jax.lax.stop_gradient(rows), rows)


class PointwiseConv(nnx.Conv):
    """Convolution of single points: on a CPU a matrix product, which uses all cores."""

    def __call__(self, x):
        whole = super().__call__
        return jax.lax.platform_dependent(x, cpu=self.product, default=whole)

    def product(self, x):
        x = x[:, *(slice(None, None, stride) for stride in self.strides)]
        x = x @ self.kernel[...].reshape(self.in_features, self.out_features)
        return x if self.bias is None else x + self.bias[...]


class DepthwiseConv(nnx.Conv):
    """Convolution channel by channel: on a CPU two sums over the kernel's points.

    XLA's own takes 10 to 20 times as long there. Each sum runs on one core.
    """

    def __call__(self, x):
        whole = super().__call__
        return jax.lax.platform_dependent(x, cpu=self.two_sums, default=whole)

    def two_sums(self, x):
        pads = [(p, p) if isinstance(p, int) else p for p in self.padding]
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
        kernel, stride = self.kernel_size[0], self.strides[0]
        rows = (x.shape[1] - kernel) // stride + 1
        cut = rows // 2 * stride
        halves = [x[:, : cut + kernel - stride], x[:, cut:]] if cut else [x]
        y = jnp.concatenate([self.sum_of_points(half) for half in halves], axis=1)
        return y if self.bias is None else y + self.bias[...]

    def sum_of_points(self, x):
        counts = [
            n - k + 1 for n, k in zip(x.shape[1:-1], self.kernel_size, strict=True)
        ]
        total = 0
        for point in itertools.product(*map(range, self.kernel_size)):
            parts = zip(point, counts, self.strides, strict=True)
            shifted = x[:, *(slice(i, i + n, stride) for i, n, stride in parts)]
            total = total + shifted * self.kernel[...][*point, 0]
        return total


class ExponentialMovingAverage(nnx.Module):
    """Running average that starts at zero and is divided by its weight, as in haiku."""

    def __init__(self, num_features, momentum):
        self.momentum = momentum
        self.average = nnx.BatchStat(jnp.zeros(num_features))
        self.counter = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.hidden = nnx.BatchStat(jnp.zeros(num_features))

    def update(self, value):
        kept = self.momentum
        self.counter[...] += 1
        self.hidden[...] = kept * self.hidden[...] + (1 - kept) * value
        self.average[...] = self.hidden[...] / (1 - kept ** self.counter[...])


class DebiasedBatchNorm(nnx.Module):
    """Batch norm over the last axis with debiased statistics, as in haiku."""

    def __init__(
        self, num_features, momentum, epsilon, use_scale=True, use_bias=True, *, rngs
    ):
        self.use_running_average, self.epsilon = False, epsilon
        self.scale = nnx.Param(jnp.ones(num_features)) if use_scale else None
        self.bias = nnx.Param(jnp.zeros(num_features)) if use_bias else None
        self.mean_ema = ExponentialMovingAverage(num_features, momentum)
        self.var_ema = ExponentialMovingAverage(num_features, momentum)

    def __call__(self, x):
        mean, var = self.mean_ema.average[...], self.var_ema.average[...]
        if not self.use_running_average:
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axes), x.var(axes)
            self.mean_ema.update(jax.lax.stop_gradient(mean))
            self.var_ema.update(jax.lax.stop_gradient(var))
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        y = y if self.scale is None else y * self.scale[...]
        return y if self.bias is None else y + self.bias[...]


def load_pretrained(make, files):
    """Fill the model that `make` builds with the weights among `saved_files`, by name.

    No parameter is initialised at random first; only the dropout keys are computed. The
    model is in eval mode: call `.train()` on it for dropout.
    """
    graphdef, rngs, state = nnx.split(nnx.eval_shape(make), nnx.RngState, ...)
    variables = {".".join(map(str, p)): (p, v) for p, v in nnx.to_flat_state(state)}
    weights = load_weights(files, load_file)
    expected = {
        name: variable.shape for name, (_, variable) in variables.items()
    }.items()
    found = {name: value.shape for name, value in weights.items()}.items()
    if found != expected:
        raise ValueError(
            f"weights: missing {sorted(expected - found)}, "
            + f"unexpected {sorted(found - expected)}"
        )
    filled = {path: v.replace(weights[name]) for name, (path, v) in variables.items()}
    if nnx.to_flat_state(rngs):
        rngs = jax.jit(lambda: nnx.state(make(), nnx.RngState))()
    model = nnx.merge(graphdef, rngs, nnx.from_flat_state(filled))
    model.eval()
    return model


def save_pretrained(model, folder, file, config):
    """Write what `load_pretrained` reads: the weights as they are now, and the rest."""
    state = nnx.to_flat_state(nnx.split(model, nnx.RngState, ...)[2])
    tensors = {".".join(map(str, path)): value[...] for path, value in state}
    write_pretrained(folder, file, config, tensors, save_file)


__all__ = [
    "BatchNorm",
    "Buffer",
    "DebiasedBatchNorm",
    "Frozen",
    "Unset",
    "freeze",
    "jnp",
    "llama3_frequencies",
    "load_pretrained",
    "name_unset",
    "save_pretrained",
    "sinusoids",
]
