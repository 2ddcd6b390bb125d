"""The port: a torch module, never written to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from ivyport.core.arguments import Described, call
from ivyport.frontends.torch.tensors import to_numpy
from ivyport.verification.compare import Array, Flat, differ, flatten
from ivyport.verification.sides import (
    CALLS,
    Lazy,
    PortFails,
    Record,
    Result,
    located,
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
from ivyport.verification.torch_dropout import Dropout, seeded
from ivyport.verification.torch_noise import drawing
from ivyport.verification.watch import Watcher


class TorchPort:
    """Runs `model` on its own tensors or on others; names are those of its state."""

    #: torch has every dtype that a source has.
    narrows = False
    silent = False
    infers = False

    def __init__(
        self,
        model: nn.Module,
        arguments: Described | None = None,
        *,
        wide: bool = False,
        quantile: float | None = None,
    ) -> None:
        self._wide = wide
        self._quantile = quantile
        self._model = model
        self._arguments = arguments
        self._weights = Weights(model, _tied(model), wide)
        self.owner: Mapping[str, str] = self._weights.owner
        tensors = [*model.parameters(), *model.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")

    def precise(self) -> AbstractContextManager[None]:
        """No TF32."""
        return full_precision()

    def dtypes(self) -> set[str]:
        """Names of dtypes, such as 'float32'."""
        tensors = [*self._model.parameters(), *self._model.buffers()]
        return {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}

    def widened(self) -> TorchPort:
        """The same port in float64."""
        return self._other(wide=True, quantile=self._quantile)

    def fixed(self, quantile: float) -> TorchPort:
        """The same port with every random draw at one quantile."""
        return self._other(wide=self._wide, quantile=quantile)

    def _other(self, *, wide: bool, quantile: float | None) -> TorchPort:
        other = TorchPort(self._model, self._arguments, wide=wide, quantile=quantile)
        other.silent = self.silent
        return other

    def trains(self) -> set[str]:
        """Names of the parameters that the port trains."""
        return trained_names(self._model, self.owner)

    def rates(self, inputs: Mapping[str, Array], *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call."""
        dropout = Dropout(silent=False)
        with torch.no_grad(), _located():
            self._call(inputs, self._weights.parameters, train, dropout=dropout)
        return dropout.rates

    def draws(
        self, inputs: Mapping[str, Array], *, train: bool, silent: bool = False
    ) -> bool:
        """Whether calls, each from another seed, differ, of dropout unless it is `silent`."""

        def called(seed: int) -> Flat:
            with torch.no_grad(), _located(), seeded(self._model, seed):
                raw, _ = self._call(
                    inputs,
                    self._weights.parameters,
                    train,
                    dropout=Dropout(silent=silent),
                )
            return _outputs(raw)

        first = called(0)
        return any(differ(first, called(seed)) for seed in range(1, 1 + CALLS))

    def eagerly(self, inputs: Mapping[str, Array]) -> Result | None:
        """None: torch compiles nothing."""
        del inputs
        return None

    def forward(
        self,
        inputs: Mapping[str, Array],
        *,
        train: bool = False,
        state: Tensors | None = None,
    ) -> Result:
        """Outputs on inputs of any size."""
        with torch.no_grad(), _located():
            raw, buffers = self._call(inputs, self._weights.parameters, train, state)
        return Result(_outputs(raw), buffers=lazy(buffers), state=buffers)

    def gradients(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Tensors | None = None,
        *,
        train: bool = False,
        state: Tensors | None = None,
    ) -> Result:
        """Outputs, gradients of the sum of ``weights * output``, and buffers."""
        given = parameters or self._weights.parameters
        with torch.enable_grad(), _located():
            leaves = self._weights.trained(given)
            raw, buffers = self._call(inputs, {**given, **leaves}, train, state)
            gradients = differentiate(raw, leaves, weights)
        return Result(_outputs(raw), weights, gradients, lazy(buffers), buffers)

    def outputs(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Tensors,
        *,
        train: bool = False,
    ) -> Flat:
        """The outputs with other parameters, of a forward alone."""
        del weights
        with torch.no_grad(), _located():
            return _outputs(self._call(inputs, parameters, train)[0])

    def stepped(self, gradients: Lazy, rate: float) -> Tensors:
        """Parameters after one SGD step; `gradients` are used up."""
        return self._weights.stepped(gradients, rate)

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run in eval mode and record the arrays that each call of a module returns."""
        found = {path: self._model.get_submodule(at) for path, at in modules.items()}
        paths = {id(module): path for path, module in found.items()}
        watcher = Watcher(paths, record, _copied, call="forward", library="torch")
        with watcher.patched({type(module) for module in found.values()}):
            try:
                with torch.no_grad(), _located():
                    self._call(inputs, self._weights.parameters, train=False)
            except PortFails as error:
                return watcher.failed or "", str(error)
        return None

    def _call(
        self,
        inputs: Mapping[str, Array],
        parameters: Tensors,
        train: bool,
        state: Tensors | None = None,
        dropout: Dropout | None = None,
    ) -> tuple[Any, Tensors]:
        def prepare(model: nn.Module) -> None:
            model.train(train)
            active.recurrent(model)

        tensors = {
            name: self._weights.convert(from_array(array).to(self._device))
            for name, array in inputs.items()
        }
        args, kwargs = call(self._arguments, tensors)
        fixed = self._quantile is not None
        silent = (train or self.silent) and not fixed
        active = dropout or Dropout(silent=silent, kept=fixed)
        with active, drawing(self._quantile):
            return self._weights.call(
                parameters, args, kwargs, prepare, state, train=train
            )


def _tied(model: nn.Module) -> dict[str, str]:
    """Other names of one parameter object, with the first one."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    owner = {name: first.setdefault(id(tensor), name) for name, tensor in named}
    return {name: owned for name, owned in owner.items() if name != owned}


def _outputs(raw: Any) -> Flat:
    def leaf(value: Any) -> Any:
        return to_numpy(value) if isinstance(value, torch.Tensor) else value

    return flatten(raw, leaf)


def _copied(value: Any) -> Array:
    """An array of an activation, which the forward may go on to write to."""
    return to_numpy(value).copy()


@contextlib.contextmanager
def _located() -> Iterator[None]:
    with located("torch", "ivyport/frontends"):
        yield
