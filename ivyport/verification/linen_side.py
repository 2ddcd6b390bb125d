"""The port: a Flax linen module with its variables, compiled once a forward."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen, traverse_util

from ivyport.core.arguments import Described, call
from ivyport.modules.linen import numbered
from ivyport.verification.compare import Array, flatten
from ivyport.verification.jax_calls import Arrays, given
from ivyport.verification.jax_port import JaxPort
from ivyport.verification.sides import PortFails, Record

# What draws, by the names that `apply` takes keys for.
STREAMS = ("dropout", "noise", "params")
KEY = "random key"
# Methods of every module, which return no activations.
_SILENT = ("setup", "clone", "param", "variable")


class LinenSide(JaxPort):
    """Runs `module.apply` on copies of its variables; names are their paths."""

    def __init__(
        self,
        ported: tuple[linen.Module, Mapping[str, Any]],
        arguments: Described | None = None,
    ) -> None:
        self._module, variables = ported
        flat = traverse_util.flatten_dict(dict(variables), sep=".")
        names = inspect.unwrap(type(self._module).__call__).__globals__
        trained = [name for name in flat if name.startswith("params.")]
        values = {**flat, KEY: jax.random.key(0)}
        self._prepare(values, trained, {KEY}, names, arguments)

    def dtypes(self) -> set[str]:
        """Names of dtypes, such as 'float32'."""
        return {v.dtype.name for n, v in self.values.items() if n != KEY}

    def _called(
        self, values: Arrays, inputs: Arrays, train: bool
    ) -> tuple[Any, Arrays]:
        flat = {name: value for name, value in values.items() if name != KEY}
        variables = traverse_util.unflatten_dict(flat, sep=".")
        key, *keys = jax.random.split(values[KEY], 1 + len(STREAMS))
        module = self._module.clone(deterministic=not train)
        args, kwargs = call(self._arguments, inputs)
        result, changed = module.apply(
            variables,
            *args,
            rngs=dict(zip(STREAMS, keys, strict=True)),
            mutable=[name for name in variables if name != "frozen"],
            **kwargs,
        )
        after = traverse_util.flatten_dict(changed, sep=".")
        return result, {**values, **after, KEY: key}

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run eagerly and record the arrays that each call of a module returns."""
        paths = {
            tuple(numbered(attr).split(".")) if attr else (): path
            for path, attr in modules.items()
        }
        watched = Watched(paths, record)

        def seen(run: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name in _SILENT:
                return run(*args, **kwargs)
            return watched(context.module.path, run, args, kwargs)

        try:
            with (
                self._running(),
                self._dropout(train=False),
                linen.intercept_methods(seen),
            ):
                self._called(self.values, given(inputs, self._wide), False)
        except PortFails as error:
            return watched.failed or "", str(error)
        return None


class Watched:
    """Records what each method returns of the modules in `paths`, by their own names."""

    def __init__(self, paths: Mapping[Any, str], record: Record) -> None:
        self.failed: str | None = None
        self._paths = paths
        self._record = record
        self._counts: dict[str, int] = {}
        self._running: set[str] = set()

    def __call__(self, name: Any, run: Any, args: Any, kwargs: Any) -> Any:
        path = self._paths.get(name)
        # A method that calls another of the same object is one call.
        if path is None or path in self._running:
            return run(*args, **kwargs)
        self._running.add(path)
        done = False
        try:
            result = run(*args, **kwargs)
            done = True
        finally:
            self._running.discard(path)
            if not done and self.failed is None:
                self.failed = path
        count = self._counts.get(path, 0)
        self._counts[path] = count + 1
        arrays = flatten(result).arrays().values()
        self._record(path, count, [np.asarray(a) for a in arrays])
        return result
