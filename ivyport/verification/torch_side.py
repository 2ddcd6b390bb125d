"""The source: a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules.batchnorm import _BatchNorm

from ivyport.frontends.torch.session import hf_configs, preserved
from ivyport.frontends.torch.structure import named_tensors
from ivyport.frontends.torch.tensors import to_numpy
from ivyport.frontends.torch.trace import tensor_aliases
from ivyport.verification.compare import Array, Flat, flatten, is_array
from ivyport.verification.sides import Activation, Lazy, Result, WeightsOf
from ivyport.verification.torch_calls import (
    Convert,
    Tensors,
    Weights,
    differentiate,
    from_array,
    full_precision,
    lazy,
)
from ivyport.verification.torch_dropout import Dropout, seeded

#: A cache object cannot be an output of the port; records keep the outputs' names.
_SWITCHES = {"use_cache": False, "return_dict": True}


class TorchSide:
    """Runs `model` on `kwargs`; inputs are named as the port names its arguments."""

    def __init__(
        self, model: nn.Module, kwargs: Mapping[str, Any], *, wide: bool = False
    ) -> None:
        self.model = model
        self.kwargs = dict(kwargs)
        aliases = tensor_aliases(model)
        tied = {other: name for name, others in aliases.items() for other in others}
        self._weights = Weights(model, tied, wide)
        self.owner: Mapping[str, str] = self._weights.owner
        self.drops = False
        #: Classes of outputs that are neither tensors nor constants.
        self.lost: set[str] = set()

    def precise(self) -> AbstractContextManager[None]:
        """No TF32."""
        return full_precision()

    def widened(self) -> TorchSide:
        """The same model and inputs in float64."""
        return TorchSide(self.model, self.kwargs, wide=True)

    def abstract(self) -> str:
        """What has shapes and no values, in words; '' where everything can be computed."""
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        for name, value in self.kwargs.items():
            tensors |= dict(named_tensors(name, value))
        found = [
            n for n, t in tensors.items() if t.is_meta or isinstance(t, FakeTensor)
        ]
        return _no_values(found)

    def has_statistics(self) -> bool:
        """Whether a forward in train mode updates running statistics."""
        return any(
            isinstance(m, _BatchNorm) and m.running_mean is not None
            for m in self.model.modules()
        )

    def arrays(self, kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The tensors inside of `kwargs`, by default the traced ones."""
        given = self.kwargs if kwargs is None else kwargs
        return {
            leaf: to_numpy(tensor)
            for name, value in given.items()
            for leaf, tensor in named_tensors(name, value)
        }

    def forward(
        self,
        inputs: Mapping[str, Array] | None = None,
        parameters: Tensors | None = None,
        *,
        train: bool = False,
        seed: int | None = None,
    ) -> Result:
        """Outputs on other inputs, or with other parameters (by owner's name)."""
        parameters = parameters or self._weights.parameters
        with torch.no_grad(), seeded(self.model, seed):
            try:
                raw, buffers = self._call(inputs, parameters, train)
            except RuntimeError as error:
                # A forward that differentiates (forces of an energy) does not run without.
                if "does not require grad" not in str(error):
                    raise
                with torch.enable_grad():
                    leaves = self._weights.trained(parameters)
                    raw, buffers = self._call(inputs, {**parameters, **leaves}, train)
            outputs = self._outputs(raw)
        return Result(outputs, buffers=lazy(buffers if train else {}))

    def gradients(self, weights_of: WeightsOf, *, train: bool = False) -> Result:
        """Outputs on the traced inputs, and gradients by the parameters' names."""
        with torch.enable_grad():
            given = self._weights.parameters
            leaves = self._weights.trained(given)
            raw, buffers = self._call(None, {**given, **leaves}, train)
            outputs = self._outputs(raw)
            weights = weights_of(outputs)
            gradients = differentiate(raw, leaves, weights)
        return Result(outputs, weights, gradients, lazy(buffers if train else {}))

    def stepped(self, gradients: Lazy, rate: float) -> Tensors:
        """Parameters after one SGD step; `gradients` are used up."""
        return self._weights.stepped(gradients, rate)

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
                array = to_numpy(tensors[0]).copy()
                cls = type(module).__name__
                found.append(Activation(name, cls, call, array))

        # Hooks are among what `preserved` puts back.
        with torch.no_grad(), preserved(self.model):
            for module in names:
                module.register_forward_hook(hook)
            self._call(inputs, self._weights.parameters, train=False)
        return found

    def notes(self) -> list[str]:
        """Outputs and gradients that differ by intention."""
        found = []
        if self.lost:
            names = ", ".join(sorted(self.lost))
            found.append(f"outputs that are no tensors are not ported: {names}")
        return found

    def _call(
        self,
        inputs: Mapping[str, Array] | None,
        parameters: Tensors,
        train: bool,
    ) -> tuple[Any, Tensors]:
        """The raw outputs and the buffers after the call."""

        def prepare(model: nn.Module) -> None:
            for config in hf_configs(model):
                for name, value in _SWITCHES.items():
                    if name in vars(config):
                        setattr(config, name, value)
            model.eval()
            if train:
                # Dropout and other randomness stay off.
                for module in model.modules():
                    module.training = isinstance(module, _BatchNorm)
            dropout.recurrent(model)

        convert = self._weights.convert
        kwargs = {n: _fresh(n, v, inputs, convert) for n, v in self.kwargs.items()}
        dropout = Dropout(silent=True)
        with dropout:
            result = self._weights.call(parameters, kwargs, prepare)
        if not train:
            self.drops = bool(dropout.rates)
        return result

    def _outputs(self, raw: Any) -> Flat:
        def leaf(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return to_numpy(value)
            if is_array(value):
                # Objects that the trace does not know either (a cache) are no outputs.
                self.lost.add(type(value).__name__)
                return None
            return value

        return flatten(raw, leaf)


def _no_values(names: list[str]) -> str:
    some = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    return f"{len(names)} tensors have no values ({some})" if names else ""


def _fresh(
    name: str, value: Any, inputs: Mapping[str, Array] | None, convert: Convert
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
