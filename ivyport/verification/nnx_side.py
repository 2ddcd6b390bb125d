"""The port: a Flax NNX module, compiled once a forward and never written to.

The module is split into arrays and merged again inside the compiled function, so that
modes, dropout rates and running statistics change on copies only.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ivyport.core.dtype import NARROW, to_numpy
from ivyport.verification.compare import Array, Flat, flatten, is_array

Arrays = dict[str, Any]


class PortFails(Exception):
    """The port raises where its source does not; the message says what and where."""


@dataclasses.dataclass
class Result:
    """One call: outputs, gradients by parameter name, buffers by name."""

    outputs: Flat
    gradients: Arrays
    buffers: Arrays


class NNXSide:
    """Runs copies of `model`; names are attribute paths (`encoder.layer.0.kernel`)."""

    def __init__(self, model: nnx.Module) -> None:
        graphdef, state = nnx.split(model)
        self._graphdef = graphdef
        self._variables = dict(nnx.to_flat_state(state))
        self._path = {".".join(map(str, path)): path for path in self._variables}
        by_name = {name: self._variables[path] for name, path in self._path.items()}
        self._parameters = [n for n, v in by_name.items() if isinstance(v, nnx.Param)]
        self._random = {n for n, v in by_name.items() if isinstance(v, nnx.RngState)}
        self.values: Arrays = {n: v.get_value() for n, v in by_name.items()}
        self.accepted = _argument_names(model)
        self._compiled: dict[bool, _Compiled] = {}
        self._wide = False

    def widened(self) -> NNXSide:
        """The same port in float64."""
        other = copy.copy(self)
        other._wide, other._compiled = True, {}
        with other._running():
            other.values = {n: _widen(v) for n, v in self.values.items()}
        return other

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Everything that makes or runs arrays of the port."""
        wide = jax.enable_x64(True) if self._wide else contextlib.nullcontext()
        with wide, _located():
            yield

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that have a gradient."""
        return [n for n in self._parameters if _is_float(self.values[n])]

    def forward(self, inputs: Mapping[str, Array]) -> Result:
        """Outputs in eval mode on inputs of any size."""

        def run(values: Arrays, given: Arrays) -> tuple[Arrays, Arrays]:
            arrays, buffers = self._apply(values, given, static, train=False)
            return arrays, buffers

        static = Flat()
        with self._running():
            arrays, _ = jax.jit(run)(self.values, self._given(inputs))
        return Result(_with(static, arrays), {}, {})

    def gradients(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Arrays | None = None,
        *,
        train: bool = False,
    ) -> Result:
        """Outputs and gradients of the sum of ``weights * output``, in one program.

        A weight whose output has another shape or is absent is left out. Another call
        with the same `train` runs the same program, with other `parameters`.
        """
        trained = {n: self.values[n] for n in self.trained}
        rest = {n: v for n, v in self.values.items() if n not in trained}
        with self._running():
            scaled = {n: _widen(w) if self._wide else w for n, w in weights.items()}
            arguments = (parameters or trained, rest, self._given(inputs), scaled)
            if train not in self._compiled:
                self._compiled[train] = self._compile(arguments, train)
            program = self._compiled[train]
            gradients, (arrays, buffers) = program.executable(*arguments)
        return Result(_with(program.static, arrays), gradients, buffers)

    def _compile(self, arguments: tuple[Arrays, ...], train: bool) -> _Compiled:
        def loss(
            trained: Arrays, rest: Arrays, given: Arrays, weights: Arrays
        ) -> tuple[Any, tuple[Arrays, Arrays]]:
            values = {**rest, **trained}
            arrays, buffers = self._apply(values, given, static, train=train)
            total = jnp.zeros(())
            for name, r in weights.items():
                if name in arrays and arrays[name].shape == r.shape:
                    part = arrays[name].astype(r.dtype) * r
                    total += jnp.where(r != 0, part, 0).sum()
            return total, (arrays, buffers)

        static = Flat()
        lowered = jax.jit(jax.grad(loss, has_aux=True)).lower(*arguments)
        return _Compiled(lowered.compile(), static)

    def stepped(self, gradients: Arrays, rate: float) -> Arrays:
        """Parameters after one SGD step; `gradients` are used up."""
        made = {}
        for name in list(gradients):
            # In numpy: JAX would compile every shape of an expression run once.
            gradient, value = np.asarray(gradients.pop(name)), self.values[name]
            step = (rate * gradient).astype(gradient.dtype)
            with self._running():
                made[name] = jnp.asarray(np.asarray(value) - step)
        return made

    def _apply(
        self, values: Arrays, given: Arrays, static: Flat, *, train: bool
    ) -> tuple[Arrays, Arrays]:
        """Output arrays by path and buffers after the call; `static` gets the rest."""
        model = self._merge(values)
        if train:
            model.train()
            model.set_attributes(nnx.Dropout, rate=0.0, raise_if_not_found=False)
        else:
            model.eval()
        flat = flatten(model(**given))
        static.leaves = {k: v for k, v in flat.leaves.items() if not is_array(v)}
        static.containers = flat.containers
        after = {
            ".".join(map(str, p)): v for p, v in nnx.to_flat_state(nnx.state(model))
        }
        kept = set(self._path) - set(self._parameters) - self._random
        return flat.arrays(), {n: after[n].get_value() for n in sorted(kept)}

    def _merge(self, values: Arrays) -> nnx.Module:
        state = nnx.from_flat_state(
            {
                path: self._variables[path].replace(values[name])
                for name, path in self._path.items()
            }
        )
        return nnx.merge(self._graphdef, state)

    def _given(self, inputs: Mapping[str, Array]) -> Arrays:
        """Inputs as JAX has them: 32 bits, unless it is told to keep 64."""
        wide = bool(jax.config.read("jax_enable_x64")) and not self._wide
        given = {n: array if wide else _narrow(array) for n, array in inputs.items()}
        if self._wide:
            given = {n: _widen(array) for n, array in given.items()}
        return {name: jnp.asarray(array) for name, array in given.items()}

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Callable[[str, int, list[Array]], None],
    ) -> tuple[str, str] | None:
        """Run a copy eagerly and record the arrays that each call of a module returns.

        `modules` maps source paths to attribute paths. Where the port raises, the
        result is the source path of the innermost module that does, and the error.
        """
        model = self._merge(self.values)
        model.eval()
        paths = {id(_reach(model, attr)): path for path, attr in modules.items()}
        watcher = _Watcher(paths, record)
        classes = {type(_reach(model, attr)) for attr in modules.values()}
        with watcher.patched(classes):
            try:
                with self._running():
                    model(**self._given(inputs))
            except PortFails as error:
                return watcher.failed or "", str(error)
        return None


@dataclasses.dataclass
class _Compiled:
    executable: Callable[..., Any]
    static: Flat


class _Watcher:
    """Wraps the methods of classes while a model runs."""

    def __init__(
        self,
        paths: Mapping[int, str],
        record: Callable[[str, int, list[Array]], None],
    ) -> None:
        self._paths = paths
        self._record = record
        self._counts: dict[str, int] = {}
        self._running: set[int] = set()
        self.failed: str | None = None

    @contextlib.contextmanager
    def patched(self, classes: set[type]) -> Iterator[None]:
        """Replace the public methods of `classes`, and put them back."""
        before: list[tuple[type, str, Any]] = []
        try:
            for cls in classes:
                for name, method in _methods(cls).items():
                    before.append((cls, name, vars(cls).get(name)))
                    setattr(cls, name, self._wrap(method))
            yield
        finally:
            for cls, name, own in before:
                delattr(cls, name) if own is None else setattr(cls, name, own)

    def _wrap(self, method: FunctionType) -> Callable[..., Any]:
        def wrapped(module: Any, *args: Any, **kwargs: Any) -> Any:
            path = self._paths.get(id(module))
            # A method that calls another of the same object is one call.
            if path is None or id(module) in self._running:
                return method(module, *args, **kwargs)
            self._running.add(id(module))
            done = False
            try:
                result = method(module, *args, **kwargs)
                done = True
            finally:
                self._running.discard(id(module))
                if not done and self.failed is None:
                    self.failed = path
            call = self._counts.get(path, 0)
            self._counts[path] = call + 1
            arrays = flatten(result).arrays().values()
            self._record(path, call, [np.asarray(a) for a in arrays])
            return result

        return wrapped


def _methods(cls: type) -> dict[str, FunctionType]:
    """`__call__`, and the other public methods of an emitted class."""
    found: dict[str, FunctionType] = {}
    for base in cls.__mro__:
        emitted = base.__module__.partition(".")[0] != "flax"
        for name, value in vars(base).items():
            wanted = name == "__call__" or (emitted and not name.startswith("_"))
            if wanted and isinstance(value, FunctionType):
                found.setdefault(name, value)
    return found


def _reach(model: Any, attribute_path: str) -> Any:
    for part in attribute_path.split(".") if attribute_path else []:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def _argument_names(model: nnx.Module) -> tuple[str, ...]:
    return tuple(inspect.signature(type(model).__call__).parameters)[1:]


def _is_float(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.floating))


def _widen(array: Any) -> Any:
    """Floats in float64; call where JAX has 64 bits."""
    return array.astype(np.float64) if _is_float(array) else array


def _narrow(array: Array) -> Array:
    name = NARROW.get(array.dtype.name)
    return array if name is None else array.astype(to_numpy(name))


def _with(static: Flat, arrays: Arrays) -> Flat:
    return Flat({**static.leaves, **arrays}, dict(static.containers))


@contextlib.contextmanager
def _located() -> Iterator[None]:
    """Turn whatever the port raises into `PortFails`, with the innermost own line."""
    try:
        yield
    # The port is generated code: any failure of it is a finding, reported as such.
    except Exception as error:
        library = ("/jax/", "/jaxlib/", "/flax/", "/ivyport/verification/")
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not any(part in f.filename for part in library)]
        where = f" at line {own[-1].lineno} ({own[-1].line})" if own else ""
        brief = str(error).strip().partition("\n")[0]
        raise PortFails(f"{type(error).__name__}{where}: {brief}") from error
