"""Runs torch modules on other tensors than their own, without leaving a trace on them.

Parameters and buffers are handed to `torch.func.functional_call`: gradients are taken
of detached views, so that the user's `.grad` and `requires_grad` are never touched, and
buffers are copies, so that a forward in train mode updates those. So are frozen parameters
in train mode: a momentum encoder is written as a buffer is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from ivyport.core import dtype as dt
from ivyport.frontends.torch.session import preserved, quiet
from ivyport.frontends.torch.tensors import to_numpy
from ivyport.verification.compare import Array, flatten
from ivyport.verification.sides import Lazy
from ivyport.verification.torch_dropout import same_random

Tensors = dict[str, torch.Tensor]
Convert = Callable[[torch.Tensor], torch.Tensor]

#: Products that torch refuses for operands of different dtypes.
_PRODUCTS = {
    F.linear,
    F.bilinear,
    F.conv1d,
    F.conv2d,
    F.conv3d,
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
    F.layer_norm,
    F.group_norm,
    F.batch_norm,
    F.scaled_dot_product_attention,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.einsum,
    torch.baddbmm,
    torch.addmm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.mm,
    torch.Tensor.bmm,
}


class Weights:
    """The parameters and buffers of `model`, each tied one once.

    Args:
        model: is never written to.
        tied: other names of one parameter, with the name that it is kept under.
        wide: run it in float64.
    """

    def __init__(self, model: nn.Module, tied: Mapping[str, str], wide: bool) -> None:
        self.model = model
        self._wide = wide
        #: Makes the tensors that the model is run with.
        self.convert = convert = _widen if wide else torch.Tensor.detach
        named = model.named_parameters(remove_duplicate=False)
        #: Every name of a parameter, with the name under which its tensor is kept.
        self.owner = {name: tied.get(name, name) for name, _ in named}
        self.parameters: Tensors = {
            name: convert(tensor)
            for name, tensor in model.named_parameters()
            if self.owner[name] == name
        }
        trained = {
            id(t)
            for t in model.parameters()
            if t.requires_grad and t.is_floating_point()
        }
        #: The names of the parameters that train, frozen ones left out.
        self.training = {
            self.owner[n]
            for n, t in model.named_parameters(remove_duplicate=False)
            if id(t) in trained
        }

    def trained(self, parameters: Tensors) -> Tensors:
        """Leaves of autograd that share the memory of those `parameters` that train."""
        return {
            name: tensor.detach().requires_grad_()
            for name, tensor in parameters.items()
            if name in self.training
        }

    def call(
        self,
        parameters: Mapping[str, torch.Tensor],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        prepare: Callable[[nn.Module], None],
        state: Mapping[str, torch.Tensor] | None = None,
        around: AbstractContextManager[Any] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Any, Tensors]:
        """The raw outputs, and the buffers after the call; `around` is entered for the call.

        `prepare` sets modes on the model, which is put back afterwards. `state` are the
        buffers before the call, by default the model's own. Frozen parameters count as
        buffers in train mode.
        """
        tensors = {name: parameters[owner] for name, owner in self.owner.items()}
        copies: dict[int, torch.Tensor] = {}
        held = dict(self.model.named_buffers(remove_duplicate=False))
        if train:
            held |= {
                name: tensors.pop(name)
                for name, owner in self.owner.items()
                if owner not in self.training
            }
        buffers = {
            name: copies.setdefault(id(buffer), self.convert(buffer).clone())
            for name, buffer in (held | dict(state or {})).items()
        }
        # A module of two names is one: torch would put the second name's tensor back into it.
        modules = dict(self.model.named_modules(remove_duplicate=False))
        first: dict[tuple[int, str], str] = {}
        names = {}
        for name in (*tensors, *buffers):
            path, _, attr = name.rpartition(".")
            names[name] = first.setdefault((id(modules[path]), attr), name)
        given = {n: t for n, t in {**tensors, **buffers}.items() if names[n] == n}
        mode = _Promote() if self._wide else contextlib.nullcontext()
        with preserved(self.model), same_random(self.model), quiet(), mode:
            prepare(self.model)
            with around or contextlib.nullcontext():
                result = functional_call(
                    self.model, given, tuple(args), dict(kwargs), tie_weights=False
                )
        # The call leaves in `given` what a forward assigned instead of writing to it.
        after: dict[int, torch.Tensor] = {}  # of two names of one buffer there is one
        return result, {
            name: after.setdefault(id(tensor), tensor.detach())
            for name in buffers
            for tensor in (given[names[name]],)
        }

    def stepped(self, gradients: Lazy, rate: float) -> Tensors:
        """Parameters after one SGD step; `gradients` are used up."""
        made: Tensors = {}
        for name, gradient in gradients.drain():
            own = self.parameters[name]
            held = isinstance(gradient, torch.Tensor)
            step = gradient if held else from_array(gradient).to(own.device)
            # Not in place: autograd gives one tensor for two parameters, or one row for many.
            made[name] = torch.add(own, step, alpha=-rate)
        return {**self.parameters, **made}


def trained_names(model: nn.Module, owner: Mapping[str, str]) -> set[str]:
    """The names, as `owner` has them, of the floats that require a gradient."""
    named = model.named_parameters(remove_duplicate=False)
    return {
        owner[name]
        for name, tensor in named
        if tensor.requires_grad and tensor.is_floating_point()
    }


def lazy(tensors: Mapping[str, torch.Tensor]) -> Lazy:
    """Tensors by name that are read as numpy arrays."""
    return Lazy(tensors, to_numpy)


def from_array(array: Array) -> torch.Tensor:
    """A torch tensor on a copy of the array."""
    array = np.array(array, order="C")
    if array.dtype == dt.to_numpy("bfloat16"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    """Floats in float64, everything else as it is."""
    tensor = tensor.detach()
    return tensor.double() if tensor.is_floating_point() else tensor


def differentiate(raw: Any, leaves: Tensors, weights: Mapping[str, Array]) -> Lazy:
    """Gradients of the sum of ``weights * output`` by the names of `leaves`.

    A weight whose output has another shape or is absent is left out.
    """
    tensors = flatten(raw).leaves
    parts = []
    for name, weight in weights.items():
        output = tensors.get(name)
        if not isinstance(output, torch.Tensor) or output.shape != weight.shape:
            continue
        if output.requires_grad:
            output = output.double() if output.dtype == torch.double else output.float()
            r = from_array(weight).to(output.device, output.dtype)
            # Where the weight is 0 the output may be infinite.
            parts.append(torch.where(r != 0, output * r, 0).sum())
    made: tuple[torch.Tensor | None, ...] = (None,) * len(leaves)
    if parts and leaves:
        loss = torch.stack([part.to(parts[0].device) for part in parts]).sum()
        made = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return lazy(
        {
            # Of an embedding with `sparse=True` torch gives the rows that were read alone.
            name: torch.zeros_like(leaf).detach() if grad is None else _dense(grad)
            for (name, leaf), grad in zip(leaves.items(), made, strict=True)
        }
    )


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient


class _Promote(TorchFunctionMode):
    """Lets a model whose code names float32 run in float64: products are promoted."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _PRODUCTS:
            args = tuple(_promoted(value) for value in args)
            kwargs = {name: _promoted(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _promoted(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.double()
    if type(value) in (tuple, list):
        return type(value)(_promoted(item) for item in value)
    return value


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Switch off TF32 and every other shortcut in float32, and restore it after."""
    precision = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions
