"""Layers and loading code that emitted Flax NNX files copy when they need them."""

from __future__ import annotations

import json
import pathlib

import jax
import jax.numpy as jnp
from flax import nnx
from safetensors.flax import load_file


class Buffer(nnx.Variable):
    """State that is saved with the weights but not trained."""


class BatchNorm(nnx.BatchNorm):
    """Batch norm whose running variance is unbiased, as in PyTorch."""

    def __call__(self, x):
        if self.use_running_average:
            return super().__call__(x)
        axes = tuple(range(x.ndim - 1))
        mean, var = x.mean(axes), x.var(axes)
        count = x.size // x.shape[-1]
        kept = self.momentum
        self.mean[...] = kept * self.mean[...] + (1 - kept) * mean
        self.var[...] = kept * self.var[...] + (1 - kept) * var * count / (count - 1)
        y = (x - mean) * jax.lax.rsqrt(var + self.epsilon)
        return y * self.scale[...] + self.bias[...]


def load_pretrained(make, folder):
    """Fill the model that `make` builds with `folder`'s safetensors, name by name.

    No parameter is initialised at random first; only the dropout keys are computed.
    """
    model = nnx.eval_shape(make)
    graphdef, rngs, state = nnx.split(model, nnx.RngState, ...)
    expected = {".".join(map(str, path)): path for path, _ in state.flat_state()}
    shapes = {".".join(map(str, path)): v.shape for path, v in state.flat_state()}
    weights = {}
    for file in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        weights.update(load_file(file))
    found = {name: value.shape for name, value in weights.items()}
    if found != shapes:
        missing = sorted(shapes.items() - found.items())
        unexpected = sorted(found.items() - shapes.items())
        raise ValueError(f"{folder}: missing {missing}, unexpected {unexpected}")
    variables = dict(state.flat_state())
    loaded = nnx.State.from_flat_path(
        {
            path: variables[path].replace(weights[name])
            for name, path in expected.items()
        }
    )
    if rngs.flat_state():
        rngs = jax.jit(lambda: nnx.state(make(), nnx.RngState))()
    return nnx.merge(graphdef, rngs, loaded)


def config_values(path, fields):
    """The given fields of a JSON file."""
    values = json.loads(pathlib.Path(path).read_text())
    return {key: values[key] for key in fields if key in values}


__all__ = ["BatchNorm", "Buffer", "config_values", "jnp", "load_pretrained"]
