"""Layers and loading code that emitted torch files copy when they need them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from ivyport.backends import files
from ivyport.backends.files import load_weights, write_pretrained

PARTS = (files,)  # functions of every target


class Unset(torch.Tensor):
    """A tensor whose values come with the weights: computing with it raises before."""

    path = "a tensor of this model"

    def __deepcopy__(self, memo):
        made = self.clone()
        if isinstance(self, nn.Parameter):
            made = nn.Parameter(made, self.requires_grad)
        made.path = self.path
        return made

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        name = func.__name__
        if name in ("copy_", "fill_") and not isinstance(args[1], Unset):
            whole = isinstance(args[0], nn.Parameter)
            args[0].__class__ = nn.Parameter if whole else torch.Tensor
            return func(*args, **(kwargs or {}))
        moves = {"__get__", "__set__", "__repr__", "__reduce_ex__", "to", "cpu", "cuda"}
        moves |= {"detach", "requires_grad_", "dim", "size", "stride", "numel", "clone"}
        moves |= {"is_complex", "is_floating_point", "storage_offset", "empty_like"}
        moves |= {"half", "float", "double", "bfloat16", "share_memory_", "is_shared"}
        moves |= {"_has_compatible_shallow_copy_type", "pin_memory", "is_pinned"}
        if name not in moves:
            held = [
                x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Unset)
            ]
            named = held[0].path if held else "a tensor"
            hint = "load the weights first (from_pretrained, load_state_dict)"
            raise RuntimeError(f"{named} has no values yet: {hint}")
        made = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(made, Unset):
            made.path = args[0].path
        return made


def name_unset(model):
    """Tell each tensor without values its place in the model, for its error."""
    for path, value in (*model.named_buffers(), *model.named_parameters()):
        if isinstance(value, Unset):
            value.path = path


def sinusoids(length, width, base=10000.0, halves=False, last=False):
    """Sines and cosines of positions, (length, width), of frequencies from 1 to 1 / base.

    They take turns, or are the two `halves`. `last` says that 1 / base is one of them.
    """
    count = width // 2
    steps = torch.arange(count) / (count - last)
    angles = torch.arange(length)[:, None] * base**-steps
    waves = [angles.sin(), angles.cos()]
    return torch.cat(waves, 1) if halves else torch.stack(waves, -1).flatten(1)


class BatchNorm(nn.Module):
    """Batch norm over axis 1 whose running variance is biased, as in Flax."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, scale=True, bias=True):
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(num_features)) if scale else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x):
        mean = self.running_mean
        var = self.running_var
        if self.training:
            with torch.no_grad():
                batch = x.to(mean.dtype).transpose(0, 1).flatten(1)
                mean.lerp_(batch.mean(dim=1), self.momentum)
                var.lerp_(batch.var(dim=1, correction=0), self.momentum)
            mean = var = None
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, self.training, eps=self.eps
        )


class ExponentialMovingAverage(nn.Module):
    """Running average that starts at zero and is divided by its weight, as in haiku."""

    def __init__(self, shape, momentum):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("average", torch.zeros(shape))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int32))
        self.register_buffer("hidden", torch.zeros(shape))

    @torch.no_grad()
    def update(self, value):
        self.counter += 1
        self.hidden.lerp_(value.to(self.hidden.dtype), self.momentum)
        self.average.copy_(self.hidden / (1 - (1 - self.momentum) ** self.counter))


class DebiasedBatchNorm(nn.Module):
    """Batch norm over axis 1 whose running statistics are debiased, as in haiku."""

    def __init__(self, num_features, eps=1e-5, momentum=0.1, scale=True, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if scale else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if bias else None
        self.mean_ema = ExponentialMovingAverage(num_features, momentum)
        self.var_ema = ExponentialMovingAverage(num_features, momentum)

    def forward(self, x):
        mean = self.mean_ema.average
        var = self.var_ema.average
        if self.training:
            batch = x.detach().to(mean.dtype).transpose(0, 1).flatten(1)
            self.mean_ema.update(batch.mean(dim=1))
            self.var_ema.update(batch.var(dim=1, correction=0))
            mean = var = None
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, self.training, eps=self.eps
        )


class SharedDropout(nn.Module):
    """Dropout whose one draw serves whole axes, as in stochastic depth."""

    def __init__(self, p, axes):
        super().__init__()
        self.p = p
        self.axes = axes

    def forward(self, x):
        if not self.training or self.p == 0.0:
            return x
        shape = [1 if axis in self.axes else n for axis, n in enumerate(x.shape)]
        return x * F.dropout(x.new_ones(shape), self.p)


def load_pretrained(make, files):
    """Fill the model that `make` builds with the weights among `saved_files`, by name.

    Nothing is initialised at random first. A tensor with several names is in the files
    under the first. The model is in eval mode: call `.train()` on it for dropout.
    """
    with torch.device("meta"):
        model = make()
    weights = load_weights(files, load_file)
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        held = first.setdefault(tensor, name)
        if held == name and name in weights and isinstance(tensor, nn.Parameter):
            weights[name] = nn.Parameter(weights[name], tensor.requires_grad)
        elif held != name and held in weights:
            weights[name] = weights[held]
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def save_pretrained(model, folder, file, config):
    """Write what `load_pretrained` reads: the weights as they are now, and the rest."""
    first = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first.setdefault(tensor, name)
    tensors = {name: tensor.detach() for tensor, name in first.items()}

    def save(shard, path):
        save_file({n: t.clone().contiguous() for n, t in shard.items()}, path)

    write_pretrained(folder, file, config, tensors, save)


def llama3_frequencies(width, base, factor, low, high, length):
    """Rotary frequencies whose long waves are stretched by `factor`, as in Llama 3."""
    rates = 1.0 / base ** (torch.arange(0, width, 2) / width)
    kept = (length * rates / (2 * torch.pi) - low) / (high - low)
    kept = kept.clamp(0, 1)
    return kept * rates + (1 - kept) * rates / factor


__all__ = [
    "BatchNorm",
    "DebiasedBatchNorm",
    "SharedDropout",
    "Unset",
    "llama3_frequencies",
    "load_pretrained",
    "name_unset",
    "save_pretrained",
    "sinusoids",
]
