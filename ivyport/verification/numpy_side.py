"""The port: a NumPy model, of which copies run; it has no gradients and no train mode."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np

from ivyport.core.arguments import Described, call
from ivyport.core.errors import DefectError
from ivyport.verification.compare import Array, Flat, flatten
from ivyport.verification.sides import Lazy, PortFails, Record, Result, located
from ivyport.verification.watch import Watcher


class NumPySide:
    """Runs a copy of `model`; names are attribute paths (`encoder.layer.0.weight`)."""

    infers = True
    #: NumPy has every dtype that a source has but bfloat16.
    narrows = False
    silent = False

    def __init__(
        self, model: Any, arguments: Described | None = None, *, wide: bool = False
    ) -> None:
        self._wide = wide
        self._model = model
        self._arguments = arguments
        self.owner: Mapping[str, str] = {name: name for name in model.places()}

    def precise(self) -> AbstractContextManager[None]:
        """NumPy has one precision."""
        return nullcontext()

    def dtypes(self) -> set[str]:
        """Names of dtypes, such as 'float32'."""
        places = self._model.places().values()
        return {str(np.asarray(holder[key]).dtype) for holder, key in places}

    def widened(self) -> NumPySide:
        """The same port in float64."""
        return NumPySide(self._model, self._arguments, wide=True)

    def fixed(self, quantile: float) -> NumPySide:
        """The same port: it draws nothing."""
        del quantile
        return self

    def trains(self) -> set[str]:
        """None of its arrays."""
        return set()

    def rates(self, inputs: Mapping[str, Array], *, train: bool) -> list[float]:
        """None: it has no dropout."""
        return []

    def draws(
        self, inputs: Mapping[str, Array], *, train: bool, silent: bool = False
    ) -> bool:
        """It draws nothing."""
        return False

    def eagerly(self, inputs: Mapping[str, Array]) -> Result | None:
        """None: NumPy compiles nothing."""
        return None

    def forward(
        self, inputs: Mapping[str, Array], *, train: bool = False, state: Any = None
    ) -> Result:
        """Outputs on inputs of any size."""
        if train:
            raise DefectError("a port to NumPy has no train mode to compare")
        model = self._copied(state)
        with _running():
            raw = self._call(model, inputs)
        held = {
            name: np.asarray(holder[key])
            for name, (holder, key) in model.places().items()
        }
        return Result(flatten(raw, _array), buffers=Lazy(held, _same), state=held)

    def gradients(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Any = None,
        *,
        train: bool = False,
        state: Any = None,
    ) -> Result:
        """Never: there are none."""
        raise DefectError("a port to NumPy has no gradients to compare")

    def outputs(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Any,
        *,
        train: bool = False,
    ) -> Flat:
        """Never: nothing is trained."""
        raise DefectError("a port to NumPy has no gradients to compare")

    def stepped(self, gradients: Lazy, rate: float) -> Any:
        """Never: nothing is trained."""
        raise DefectError("a port to NumPy does not train")

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run a copy and record the arrays that each call of a module returns."""
        model = self._copied(None)
        found = {path: _reach(model, attr) for path, attr in modules.items()}
        paths = {id(module): path for path, module in found.items()}
        watcher = Watcher(paths, record, _array, call="__call__", library="numpy")
        with watcher.patched({type(module) for module in found.values()}):
            try:
                with _running():
                    self._call(model, inputs)
            except PortFails as error:
                return watcher.failed or "", str(error)
        return None

    def _copied(self, state: Mapping[str, Array] | None) -> Any:
        """A copy of the model that shares its arrays, with those of `state`."""
        places = self._model.places()
        arrays = {name: holder[key] for name, (holder, key) in places.items()}
        kept = {id(array): array for array in arrays.values()}
        model = copy.deepcopy(self._model, kept)
        for name, (holder, key) in model.places().items():
            array = arrays[name] if state is None else state[name]
            holder[key] = _widened(array) if self._wide else array
        return model

    def _call(self, model: Any, inputs: Mapping[str, Array]) -> Any:
        if not self._wide:
            args, kwargs = call(self._arguments, inputs)
            return model(*args, **kwargs)
        given = {name: _widened(array) for name, array in inputs.items()}
        args, kwargs = call(self._arguments, given)
        # Its own conversion of what is given makes float32 of it.
        with mock.patch.dict(
            type(model).__call__.__globals__, as_array=lambda _, array, *__: array
        ):
            return model(*args, **kwargs)


@contextmanager
def _running() -> Iterator[None]:
    """What a port raises is a finding; that 0 / 0 is no number is none."""
    with located("numpy"), np.errstate(all="ignore"):
        yield


def _widened(array: Any) -> Array:
    array = np.asarray(array)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _array(value: Any) -> Any:
    return np.asarray(value) if isinstance(value, np.generic) else value


def _same(value: Any) -> Array:
    return np.asarray(value)


def _reach(model: Any, attribute_path: str) -> Any:
    for part in attribute_path.split(".") if attribute_path else []:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model
