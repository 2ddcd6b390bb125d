"""The port: a Flax NNX module, split into arrays and merged again inside of what is compiled."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from ivyport.core.arguments import Described, call
from ivyport.verification.compare import Array
from ivyport.verification.jax_calls import Arrays, given
from ivyport.verification.jax_port import JaxPort
from ivyport.verification.sides import PortFails, Record
from ivyport.verification.watch import Watcher


class NNXSide(JaxPort):
    """Runs copies of `model`; names are attribute paths (`encoder.layer.0.kernel`)."""

    def __init__(self, model: nnx.Module, arguments: Described | None = None) -> None:
        graphdef, state = nnx.split(model)
        self._graphdef = graphdef
        self._variables = dict(nnx.to_flat_state(state))
        self._path = {".".join(map(str, path)): path for path in self._variables}
        by_name = {name: self._variables[path] for name, path in self._path.items()}
        self._prepare(
            {n: v.get_value() for n, v in by_name.items()},
            [n for n, v in by_name.items() if isinstance(v, nnx.Param)],
            {n for n, v in by_name.items() if isinstance(v, nnx.RngState)},
            inspect.unwrap(type(model).__call__).__globals__,
            arguments,
        )

    def _called(
        self, values: Arrays, inputs: Arrays, train: bool
    ) -> tuple[Any, Arrays]:
        model = self._merge(values)
        model.train() if train else model.eval()
        args, kwargs = call(self._arguments, inputs)
        result = model(*args, **kwargs)
        after = {
            ".".join(map(str, p)): v for p, v in nnx.to_flat_state(nnx.state(model))
        }
        return result, {name: after[name].get_value() for name in self._path}

    def _merge(self, values: Arrays) -> nnx.Module:
        state = nnx.from_flat_state(
            {
                path: self._variables[path].replace(values[name])
                for name, path in self._path.items()
            }
        )
        return nnx.merge(self._graphdef, state)

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run a copy eagerly and record the arrays that each call of a module returns.

        `modules` maps source paths to attribute paths. Where the port raises, the
        result is the source path of the innermost module that does, and the error.
        """
        model = self._merge(self.values)
        model.eval()
        paths = {id(_reach(model, attr)): path for path, attr in modules.items()}
        watcher = Watcher(paths, record, np.asarray, call="__call__", library="flax")
        classes = {type(_reach(model, attr)) for attr in modules.values()}
        with watcher.patched(classes):
            try:
                with self._running(), self._dropout(train=False):
                    args, kwargs = call(self._arguments, given(inputs, self._wide))
                    model(*args, **kwargs)
            except PortFails as error:
                return watcher.failed or "", str(error)
        return None


def _reach(model: Any, attribute_path: str) -> Any:
    for part in attribute_path.split(".") if attribute_path else []:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model
