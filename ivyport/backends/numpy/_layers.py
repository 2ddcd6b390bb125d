"""Layers and loading code that emitted NumPy files copy when they need them."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load_file, save_file

from ivyport.backends import files
from ivyport.backends.files import load_weights, write_pretrained
from ivyport.backends.numpy._rt import (
    batch_norm,
    conv,
    conv_transpose,
    embedding,
    group_norm,
    layer_norm,
    rms_norm,
)

PARTS = (files,)  # functions of every target
#: Functions of the runtime that layers call.
CALLED = {
    "BatchNorm": "batch_norm",
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    "Embedding": "embedding",
    "GroupNorm": "group_norm",
    "LayerNorm": "layer_norm",
    "RMSNorm": "rms_norm",
}


class Weight:
    """An array that comes with the files: reading it before is an error."""

    def __init__(self, *shape):
        self.shape = shape
        self.ndim = len(shape)

    def __array__(self, *_, **__):
        hint = "load the weights first (from_pretrained)"
        raise ValueError(f"a weight of shape {self.shape} has no values yet: {hint}")

    def __getitem__(self, _):
        return self.__array__()

    def __getattr__(self, name):
        if name.startswith("__"):  # what Python itself asks for, to copy it say
            raise AttributeError(name)
        return self.__array__()


class Module:
    """A part of the model: its arrays and its own parts are its attributes."""

    def places(self):
        """What holds each array, and its key there, by name.

        An array or a part that is reached twice has its first name.
        """
        found = {}
        seen = set()

        def visit(holder, prefix):
            items = enumerate(holder) if isinstance(holder, list) else holder.items()
            for key, value in items:
                known = id(value) in seen
                if isinstance(value, (np.ndarray, np.generic, Weight)):
                    seen.add(id(value))
                    if not known:
                        found[f"{prefix}{key}"] = holder, key
                elif isinstance(value, (Module, list, dict)) and not known:
                    seen.add(id(value))
                    inner = vars(value) if isinstance(value, Module) else value
                    visit(inner, f"{prefix}{key}.")

        visit(vars(self), "")
        return found


class Linear(Module):
    """x @ weight.T + bias."""

    def __init__(self, in_features, out_features, bias=True):
        self.weight = Weight(out_features, in_features)
        self.bias = Weight(out_features) if bias else None

    def __call__(self, x):
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """Rows of a table by their numbers."""

    def __init__(self, num_embeddings, embedding_dim):
        self.weight = Weight(num_embeddings, embedding_dim)

    def __call__(self, ids):
        return embedding(self.weight, ids)


class LayerNorm(Module):
    """Layer norm over the last axes, as many as `shape` has."""

    def __init__(self, *shape, eps=1e-5, bias=True):
        self.eps = eps
        self.weight = Weight(*shape)
        self.bias = Weight(*shape) if bias else None

    def __call__(self, x):
        axes = self.weight.ndim
        return layer_norm(x, self.weight, self.bias, axes=axes, eps=self.eps)


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axes."""

    def __init__(self, *shape, eps):
        self.eps = eps
        self.weight = Weight(*shape)

    def __call__(self, x):
        return rms_norm(x, self.weight, axes=self.weight.ndim, eps=self.eps)


class GroupNorm(Module):
    """Group norm; the channels are on the last axis."""

    def __init__(self, num_groups, num_channels, eps=1e-5):
        self.num_groups = num_groups
        self.eps = eps
        self.weight = Weight(num_channels)
        self.bias = Weight(num_channels)

    def __call__(self, x):
        return group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)


class BatchNorm(Module):
    """Batch norm by running statistics; the channels are on the last axis."""

    def __init__(self, num_features, eps=1e-5, weight=True, bias=True):
        self.eps = eps
        self.weight = Weight(num_features) if weight else None
        self.bias = Weight(num_features) if bias else None
        self.running_mean = Weight(num_features)
        self.running_var = Weight(num_features)

    def __call__(self, x):
        mean, var = self.running_mean, self.running_var
        return batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)


class Conv(Module):
    """Convolution of (batch, *space, channels); `weight` is (out, *kernel, in / groups)."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=None,
        padding=None,
        dilation=None,
        groups=1,
        bias=True,
    ):
        self.options = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        self.weight = Weight(out_channels, *kernel_size, in_channels // groups)
        self.bias = Weight(out_channels) if bias else None

    def __call__(self, x):
        y = conv(x, self.weight, **self.options)
        return y if self.bias is None else y + self.bias


class ConvTranspose(Module):
    """Gradient of a convolution; `weight` is (in, out / groups, *kernel)."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        output_padding,
        dilation,
        groups=1,
        bias=True,
    ):
        self.options = {
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
            "groups": groups,
        }
        self.weight = Weight(in_channels, out_channels // groups, *kernel_size)
        self.bias = Weight(out_channels) if bias else None

    def __call__(self, x):
        y = conv_transpose(x, self.weight, **self.options)
        return y if self.bias is None else y + self.bias


def sinusoids(length, width, base=10000.0, halves=False, last=False):
    """Sines and cosines of positions, (length, width), of frequencies from 1 to 1 / base.

    They take turns, or are the two `halves`. `last` says that 1 / base is one of them.
    """
    count = width // 2
    steps = np.arange(count) / (count - last)
    angles = np.arange(length)[:, None] * base**-steps
    waves = [np.sin(angles), np.cos(angles)]
    table = (
        np.concatenate(waves, 1)
        if halves
        else np.stack(waves, -1).reshape(length, width)
    )
    return table.astype(np.float32)


def llama3_frequencies(width, base, factor, low, high, length):
    """Rotary frequencies whose long waves are stretched by `factor`, as in Llama 3."""
    rates = 1.0 / base ** (np.arange(0, width, 2) / width)
    kept = (length * rates / (2 * np.pi) - low) / (high - low)
    kept = np.clip(kept, 0, 1)
    return (kept * rates + (1 - kept) * rates / factor).astype(np.float32)


def load_pretrained(model, files):
    """`model` with the weights among `saved_files`, by name."""
    weights = load_weights(files, load_file)
    places = model.places()
    expected = {n: np.shape(holder[key]) for n, (holder, key) in places.items()}.items()
    found = {name: value.shape for name, value in weights.items()}.items()
    if found != expected:
        raise ValueError(
            f"weights: missing {sorted(expected - found)}, "
            + f"unexpected {sorted(found - expected)}"
        )
    for name, (holder, key) in places.items():
        holder[key] = weights[name]
    return model


def save_pretrained(model, folder, file, config):
    """Write what `load_pretrained` reads: the weights as they are now, and the rest."""
    places = model.places().items()
    tensors = {n: np.asarray(holder[key], order="C") for n, (holder, key) in places}
    write_pretrained(folder, file, config, tensors, save_file)


__all__ = [
    "BatchNorm",
    "Conv",
    "ConvTranspose",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "RMSNorm",
    "llama3_frequencies",
    "load_pretrained",
    "save_pretrained",
    "sinusoids",
]
