"""Norms whose running statistics no single operation keeps, as their parts.

`torch.export` cannot capture a cumulative average (``momentum=None``): its weight is a number in a
tensor. And `aten.instance_norm` writes to its statistics without saying so. Both are computed here
from operations that a capture sees; values and writes are those of torch.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm


def spell_out(model: nn.Module) -> None:
    """Give such modules a `forward` of their own; call inside `session.preserved`."""
    for module in model.modules():
        if not getattr(module, "track_running_stats", False):
            continue
        if type(module).forward in _FORWARDS and module.running_mean is not None:
            forward = _FORWARDS[type(module).forward]
            if forward is _cumulative and module.momentum is not None:
                continue
            module.forward = functools.partial(forward, module)


def _cumulative(self: _BatchNorm, input: torch.Tensor) -> torch.Tensor:
    self._check_input_dim(input)
    if not self.training:
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(
            input, mean, var, self.weight, self.bias, False, 0.0, self.eps
        )
    self.num_batches_tracked.add_(1)
    axes = [axis for axis in range(input.dim()) if axis != 1]
    share = 1.0 / self.num_batches_tracked.to(self.running_mean.dtype)
    _write(self, input.mean(axes), input.var(axes), share)
    return F.batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


def _instances(self: _InstanceNorm, input: torch.Tensor) -> torch.Tensor:
    self._check_input_dim(input)
    channels = input.dim() - self._get_no_batch_dim()
    if not channels:
        input = input.unsqueeze(0)
    mean, var = self.running_mean, self.running_var
    if not self.training:
        y = F.batch_norm(input, mean, var, self.weight, self.bias, False, 0.0, self.eps)
    else:
        axes = list(range(2, input.dim()))
        means, variances = input.mean(axes).mean(0), input.var(axes).mean(0)
        _write(self, means, variances, self.momentum)
        y = F.instance_norm(
            input, None, None, self.weight, self.bias, True, 0.0, self.eps
        )
    return y if channels else y.squeeze(0)


def _write(
    self: _BatchNorm | _InstanceNorm,
    mean: torch.Tensor,
    var: torch.Tensor,
    share: torch.Tensor | float | None,
) -> None:
    share = 0.0 if share is None else share
    for held, new in ((self.running_mean, mean), (self.running_var, var)):
        held.copy_(held * (1 - share) + new.detach() * share)


_FORWARDS = {
    _BatchNorm.forward: _cumulative,
    _InstanceNorm.forward: _instances,
}
