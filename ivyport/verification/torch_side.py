"""The source: a torch module, run without leaving a trace on it.

Parameters and buffers are handed to `torch.func.functional_call`: gradients are taken
of detached views, so that the user's `.grad` and `requires_grad` are never touched, and
buffers are copies, so that a forward in train mode updates those.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ivyport.core.dtype import to_numpy
from ivyport.frontends.torch.session import hf_configs, preserved, quiet
from ivyport.frontends.torch.structure import named_tensors
from ivyport.frontends.torch.trace import tensor_aliases
from ivyport.verification.compare import Array, Flat, flatten, is_array

Tensors = dict[str, torch.Tensor]
#: A cache object cannot be an output of the port; records keep the outputs' names.
_SWITCHES = {"use_cache": False, "return_dict": True}


@dataclasses.dataclass
class Result:
    """One forward: its outputs, and what was asked for beside them."""

    outputs: Flat
    weights: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    gradients: Tensors = dataclasses.field(default_factory=dict)
    buffers: dict[str, Array] = dataclasses.field(default_factory=dict)


class TorchSide:
    """Runs `model` on `kwargs`; inputs are named as the port names its arguments."""

    def __init__(
        self, model: nn.Module, kwargs: Mapping[str, Any], *, wide: bool = False
    ) -> None:
        self._convert = _widen if wide else torch.Tensor.detach
        self.model = model
        self.kwargs = dict(kwargs)
        self.inputs: Tensors = {
            leaf: tensor
            for name, value in kwargs.items()
            for leaf, tensor in named_tensors(name, value)
        }
        aliases = tensor_aliases(model)
        tied = {other: name for name, others in aliases.items() for other in others}
        named = model.named_parameters(remove_duplicate=False)
        #: Every name of a parameter, with the name under which its tensor is kept.
        self.owner = {name: tied.get(name, name) for name, _ in named}
        self.parameters: Tensors = {
            name: self._convert(tensor)
            for name, tensor in model.named_parameters()
            if self.owner[name] == name
        }
        #: Embeddings with a row whose gradient torch drops, once gradients were taken.
        self.padding: set[str] = set()
        #: Classes of outputs that are neither tensors nor constants.
        self.lost: set[str] = set()

    def widened(self) -> TorchSide:
        """The same model and inputs in float64."""
        return TorchSide(self.model, self.kwargs, wide=True)

    def has_batch_norm(self) -> bool:
        """Whether a forward in train mode updates running statistics."""
        return any(
            isinstance(m, _BatchNorm) and m.running_mean is not None
            for m in self.model.modules()
        )

    def numpy_inputs(self) -> dict[str, Array]:
        """The traced inputs as numpy arrays."""
        return {name: to_array(tensor) for name, tensor in self.inputs.items()}

    def forward(
        self,
        inputs: Mapping[str, Array] | None = None,
        parameters: Tensors | None = None,
        *,
        train: bool = False,
    ) -> Result:
        """Outputs on other inputs, or with other parameters (by owner's name)."""
        with torch.no_grad():
            raw, buffers = self._call(inputs, parameters or self.parameters, train)
            outputs = self._outputs(raw)
        return Result(outputs, buffers=buffers if train else {})

    def gradients(
        self, weights_of: Callable[[Flat], Mapping[str, Array]], *, train: bool = False
    ) -> Result:
        """Outputs on the traced inputs, and gradients by the parameters' names.

        The gradient is that of the sum of ``weights * output`` over the outputs that
        `weights_of` gives weights for. A parameter without a gradient has zeros.
        """
        floats = [n for n, t in self.parameters.items() if t.is_floating_point()]
        with torch.enable_grad():
            leaves = {n: self.parameters[n].detach().requires_grad_() for n in floats}
            with _TrainPadding(leaves, self.padding):
                raw, buffers = self._call(None, {**self.parameters, **leaves}, train)
            outputs = self._outputs(raw)
            weights = weights_of(outputs)
            gradients = _differentiate(raw, leaves, weights)
        return Result(outputs, weights, gradients, buffers if train else {})

    def stepped(self, gradients: Tensors, rate: float) -> Tensors:
        """Parameters after one SGD step; `gradients` are used up."""
        for name, gradient in gradients.items():
            gradients[name] = gradient.mul_(-rate).add_(self.parameters[name])
        return {**self.parameters, **gradients}

    def activations(self, inputs: Mapping[str, Array] | None) -> list[Activation]:
        """The first tensor of every result of every module, as the calls end."""
        found: list[Activation] = []
        counts: dict[str, int] = {}
        names = {module: name for name, module in self.model.named_modules()}

        def hook(module: nn.Module, _: Any, output: Any) -> None:
            name = names[module]
            call = counts.get(name, 0)
            counts[name] = call + 1
            tensors = [v for v in flatten(output).leaves.values() if torch.is_tensor(v)]
            if tensors:
                array = to_array(tensors[0].detach()).copy()
                cls = type(module).__name__
                found.append(Activation(name, cls, call, array))

        # Hooks are among what `preserved` puts back.
        with torch.no_grad(), preserved(self.model):
            for module in names:
                module.register_forward_hook(hook)
            self._call(inputs, self.parameters, train=False)
        return found

    def _call(
        self,
        inputs: Mapping[str, Array] | None,
        parameters: Tensors,
        train: bool,
    ) -> tuple[Any, dict[str, Array]]:
        """The raw outputs and the buffers after the call."""
        convert = self._convert
        model = self.model
        tensors = {n: parameters[owner] for n, owner in self.owner.items()}
        copies: dict[int, torch.Tensor] = {}
        buffers = {
            name: copies.setdefault(id(buffer), convert(buffer).clone())
            for name, buffer in model.named_buffers(remove_duplicate=False)
        }
        kwargs = {n: _fresh(n, v, inputs, convert) for n, v in self.kwargs.items()}
        with preserved(model), quiet():
            for config in hf_configs(model):
                for name, value in _SWITCHES.items():
                    if name in vars(config):
                        setattr(config, name, value)
            model.eval()
            if train:
                # Dropout and other randomness stay off.
                for module in model.modules():
                    module.training = isinstance(module, _BatchNorm)
            result = functional_call(
                model, {**tensors, **buffers}, (), kwargs, tie_weights=False
            )
        return result, {name: to_array(buffer) for name, buffer in buffers.items()}

    def _outputs(self, raw: Any) -> Flat:
        def leaf(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return to_array(value.detach())
            if is_array(value):
                # Objects that the trace does not know either (a cache) are no outputs.
                self.lost.add(type(value).__name__)
                return None
            return value

        return flatten(raw, leaf)


def _fresh(
    name: str,
    value: Any,
    inputs: Mapping[str, Array] | None,
    convert: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    """A copy of an argument, since the model may write to it, with new tensors."""
    if isinstance(value, torch.Tensor):
        if inputs is None:
            return convert(value).clone()
        return convert(from_array(inputs[name]).to(value.device))
    if isinstance(value, Mapping):
        made = {k: _fresh(f"{name}_{k}", v, inputs, convert) for k, v in value.items()}
        return made if type(value) is dict else type(value)(**made)
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        names = getattr(type(value), "_fields", range(len(value)))
        items = [
            _fresh(f"{name}_{k}", v, inputs, convert)
            for k, v in zip(names, value, strict=True)
        ]
        plain = type(value) in (tuple, list)
        return type(value)(items) if plain else type(value)(*items)
    return value


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    """Floats in float64."""
    tensor = tensor.detach()
    return tensor.double() if tensor.is_floating_point() else tensor


def _differentiate(raw: Any, leaves: Tensors, weights: Mapping[str, Array]) -> Tensors:
    """Gradients of the sum of ``weights * output`` by the names of `leaves`."""
    tensors = flatten(raw).leaves
    parts = []
    for name, weight in weights.items():
        output = tensors[name]
        if output.requires_grad:
            output = output.double() if output.dtype == torch.double else output.float()
            r = from_array(weight).to(output.device, output.dtype)
            # Where the weight is 0 the output may be infinite.
            parts.append(torch.where(r != 0, output * r, 0).sum())
    made: tuple[torch.Tensor | None, ...] = (None,) * len(leaves)
    if parts and leaves:
        loss = torch.stack([part.to(parts[0].device) for part in parts]).sum()
        made = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf).detach() if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), made, strict=True)
    }


@dataclasses.dataclass(frozen=True)
class Activation:
    """One result of one module: its path, class, which call of it, and the tensor."""

    path: str
    cls: str
    call: int
    array: Array


def to_array(tensor: torch.Tensor) -> Array:
    """A numpy array on the tensor's memory where it is on the CPU."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        bits: Array = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(to_numpy("bfloat16"))
    array: Array = tensor.numpy()
    return array


def from_array(array: Array) -> torch.Tensor:
    """A torch tensor on a copy of the array."""
    array = np.array(array, order="C")
    if array.dtype == to_numpy("bfloat16"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


class _TrainPadding(TorchFunctionMode):  # type: ignore[misc]  # torch has no types
    """Gives the padding row of an embedding its gradient, which torch drops.

    The port has the embedding without that rule. Names of the `leaves` that it applies
    to are added to `found`.
    """

    def __init__(self, leaves: Tensors, found: set[str]) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in leaves.items()}
        self._found = found

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        # The function hands its other arguments on by keyword.
        if func is F.embedding and kwargs.get("padding_idx") is not None:
            kwargs["padding_idx"] = None
            name = self._names.get(id(args[1]))
            if name is not None:
                self._found.add(name)
        return func(*args, **kwargs)


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
