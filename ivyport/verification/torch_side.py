"""The source: a torch module."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from ivyport.frontends.nested import as_call
from ivyport.frontends.torch.inputs import bind_inputs, by_name
from ivyport.frontends.torch.session import hf_configs, preserved
from ivyport.frontends.torch.tensors import tensor_aliases, to_numpy
from ivyport.verification.compare import Array, Flat, flatten, is_array
from ivyport.verification.sides import (
    Activation,
    Lazy,
    NoGradients,
    Noise,
    Result,
    WeightsOf,
)
from ivyport.verification.torch_calls import (
    Tensors,
    Weights,
    differentiate,
    from_array,
    full_precision,
    lazy,
    trained_names,
)
from ivyport.verification.torch_dropout import Dropout, Outside, seeded
from ivyport.verification.torch_modes import TrainMode, is_counter
from ivyport.verification.torch_noise import drawing
from ivyport.verification.torch_ties import Ties

#: A cache object cannot be an output of the port; records keep the outputs' names.
_SWITCHES = {"use_cache": False, "return_dict": True}
T = TypeVar("T")


class TorchSide:
    """Runs `model` on example inputs; tensors are named as the port's record names them."""

    #: Where the model draws, its batch norms alone are in train mode.
    partly = True

    def __init__(
        self,
        model: nn.Module,
        kwargs: Mapping[str, Any],
        args: Sequence[Any] = (),
        *,
        wide: bool = False,
        quantile: float | None = None,
    ) -> None:
        self.model = model
        self._wide = wide
        self._quantile = quantile
        self.inputs = bind_inputs(model, args, kwargs)
        aliases = tensor_aliases(model)
        tied = {other: name for name, others in aliases.items() for other in others}
        self._weights = Weights(model, tied, wide)
        self.owner: Mapping[str, str] = self._weights.owner
        self.drops = False
        self._outside = Outside()
        self._statistics: bool | None = None
        self._train_mode: TrainMode | None = None
        #: Classes of outputs that are neither tensors nor constants.
        self.lost: set[str] = set()

    def precise(self) -> AbstractContextManager[None]:
        """No TF32."""
        return full_precision()

    def widened(self) -> TorchSide:
        """The same model and inputs in float64."""
        return self._other(wide=True, quantile=self._quantile)

    def fixed(self, quantile: float) -> TorchSide:
        """The same model and inputs, with every random draw at one quantile."""
        other = self._other(wide=self._wide, quantile=quantile)
        # Nothing has to be kept out of train mode any more.
        other._train_mode = TrainMode(self.model)
        return other

    def _other(self, *, wide: bool, quantile: float | None) -> TorchSide:
        args, kwargs = self.inputs.call()
        other = TorchSide(self.model, kwargs, args, wide=wide, quantile=quantile)
        other._statistics, other._train_mode = self._statistics, self._train_mode
        return other

    def without(self, names: Collection[str]) -> TorchSide:
        """The same model and inputs, with None for these arguments."""
        given = [
            dataclasses.replace(one, value=None) if one.name in names else one
            for one in self.inputs.given
        ]
        args, kwargs = as_call(given)
        return TorchSide(
            self.model, kwargs, args, wide=self._wide, quantile=self._quantile
        )

    def drew_outside(self) -> bool:
        """Whether the last call drew by Python's `random` or numpy's."""
        return self._outside.drew

    def ties(self, inputs: Mapping[str, Array]) -> list[str]:
        """Lines at which the model orders equal values."""
        with Ties() as found:
            self.forward(inputs)
        return list(found.lines)

    def noisy(self) -> Noise:
        """Where train mode draws random numbers beside dropout."""
        return self._in_train_mode().noise

    def abstract(self) -> str:
        """What has shapes and no values, in words; '' where everything can be computed."""
        tensors = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        tensors |= self.inputs.leaves
        found = [
            n for n, t in tensors.items() if t.is_meta or isinstance(t, FakeTensor)
        ]
        return _no_values(found)

    def has_statistics(self) -> bool:
        """Whether a forward in train mode updates running statistics."""
        if self._in_train_mode().fails:
            return False
        if self._statistics is None:
            model = self.model
            before = {**dict(model.named_parameters()), **dict(model.named_buffers())}
            frozen = any(not p.requires_grad for p in model.parameters())
            written = frozen or any(True for _ in model.buffers())
            after = self.forward(train=True).buffers if written else {}
            self._statistics = any(
                not np.array_equal(array, to_numpy(self._weights.convert(before[n])))
                for n, array in after.items()
                if n in before and not is_counter(n)
            )
        return self._statistics

    def arrays(self, kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The tensors inside of `kwargs`, by default the traced ones."""
        inputs = self.inputs
        if kwargs is not None:
            inputs = bind_inputs(self.model, *by_name(self.model, kwargs))
        return {name: to_numpy(tensor) for name, tensor in inputs.leaves.items()}

    def forward(
        self,
        inputs: Mapping[str, Array] | None = None,
        parameters: Tensors | None = None,
        *,
        train: bool = False,
        seed: int | None = None,
        state: Tensors | None = None,
    ) -> Result:
        """Outputs on other inputs, or with other parameters (by owner's name)."""
        parameters = parameters or self._weights.parameters

        def call(parameters: Tensors) -> tuple[Any, Tensors]:
            with seeded(self.model, seed):
                return self._call(inputs, parameters, train, state)

        raw, buffers = self._inferred(call, parameters)
        with torch.no_grad():
            outputs = self._outputs(raw)
        return Result(outputs, buffers=lazy(buffers if train else {}), state=buffers)

    def gradients(self, weights_of: WeightsOf, *, train: bool = False) -> Result:
        """Outputs on the traced inputs, and gradients by the parameters' names."""
        with torch.enable_grad(), _differentiable():
            given = self._weights.parameters
            leaves = self._weights.trained(given)
            raw, buffers = self._call(None, {**given, **leaves}, train)
            outputs = self._outputs(raw)
            weights = weights_of(outputs)
            gradients = differentiate(raw, leaves, weights)
        held = lazy(buffers if train else {})
        return Result(outputs, weights, gradients, held, buffers)

    def trains(self) -> set[str]:
        """Names of the parameters that the source trains."""
        return trained_names(self.model, self.owner)

    def rates(self, *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call."""

        def call(parameters: Tensors) -> list[float]:
            dropout = Dropout(silent=False)
            self._call(None, parameters, train, dropout=dropout)
            return dropout.rates

        return self._inferred(call, self._weights.parameters)

    def unlike(self) -> str:
        """Why train mode cannot be run, in words."""
        fails = self._in_train_mode().fails
        return f"train mode is not compared: {fails}" if fails else ""

    def _in_train_mode(self) -> TrainMode:
        if self._train_mode is None:
            self._train_mode = TrainMode(self.model)
            with torch.no_grad():
                self._train_mode.find(lambda: self.forward(train=True).outputs)
        return self._train_mode

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

        def call(parameters: Tensors) -> list[Activation]:
            found.clear()
            counts.clear()
            self._call(inputs, parameters, train=False)
            return found

        # Hooks are among what `preserved` puts back.
        with preserved(self.model):
            for module in names:
                module.register_forward_hook(hook)
            return self._inferred(call, self._weights.parameters)

    def notes(self) -> list[str]:
        """Outputs and gradients that differ by intention."""
        found = []
        if self.lost:
            names = ", ".join(sorted(self.lost))
            found.append(f"outputs that are no tensors are not ported: {names}")
        return found

    def _inferred(self, call: Callable[[Tensors], T], parameters: Tensors) -> T:
        """`call` on the parameters, without gradients where the source runs without.

        A forward that differentiates (forces of an energy) is run again with them.
        """
        try:
            with torch.no_grad():
                return call(parameters)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
        with torch.enable_grad():
            return call({**parameters, **self._weights.trained(parameters)})

    def _call(
        self,
        inputs: Mapping[str, Array] | None,
        parameters: Tensors,
        train: bool,
        state: Tensors | None = None,
        dropout: Dropout | None = None,
    ) -> tuple[Any, Tensors]:
        """The raw outputs and the buffers after the call."""

        def prepare(model: nn.Module) -> None:
            for config in hf_configs(model):
                for name, value in _SWITCHES.items():
                    if name in vars(config):
                        setattr(config, name, value)
            model.eval()
            if mode is not None:
                mode.enter()
            active.recurrent(model)

        convert = self._weights.convert
        leaves = {
            name: convert(tensor).clone()
            if inputs is None
            else convert(from_array(inputs[name]).to(tensor.device))
            for name, tensor in self.inputs.leaves.items()
        }
        # Copies of the containers, too: the model may write to them.
        args, kwargs = self.inputs.refilled(leaves).call()
        mode = self._in_train_mode() if train else None
        fixed = self._quantile is not None
        active = dropout or Dropout(silent=not fixed, kept=fixed)
        with active, drawing(self._quantile):
            watching = self._outside.watching()
            result = self._weights.call(
                parameters, args, kwargs, prepare, state, watching, train=train
            )
        if not train:
            self.drops = bool(active.rates)
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


@contextmanager
def _differentiable() -> Iterator[None]:
    """A source that runs may still refuse to be differentiated: writes in place, say."""
    try:
        yield
    except RuntimeError as error:
        brief = str(error).strip().partition("\n")[0]
        raise NoGradients(brief) from error


def _no_values(names: list[str]) -> str:
    some = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
    return f"{len(names)} tensors have no values ({some})" if names else ""
