"""The port: a Flax NNX module, compiled once a forward and never written to.

The module is split into arrays and merged again inside the compiled function, so that
modes, dropout rates and running statistics change on copies only.
"""

from __future__ import annotations

import abc
import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import jax

from ivyport.core.arguments import Described
from ivyport.verification import aside
from ivyport.verification.compare import Array, Flat, differ, flatten, is_array
from ivyport.verification.jax_calls import (
    Arrays,
    Compiled,
    float64,
    full_precision,
    given,
    is_float,
    lazy,
    scalar_of,
    stepped,
    widen,
    with_arrays,
)
from ivyport.verification.jax_dropout import counted, without_dropout
from ivyport.verification.jax_noise import fixed
from ivyport.verification.sides import (
    CALLS,
    Lazy,
    Result,
    located,
)


class JaxPort(abc.ABC):
    """Runs copies of a port in JAX, whatever its library of modules is."""

    #: JAX has 32 bits unless it is told otherwise.
    narrows = True
    silent = False
    infers = False

    _arguments: Described | None

    def _prepare(
        self,
        values: Arrays,
        parameters: list[str],
        random: set[str],
        emitted: dict[str, Any],
        arguments: Described | None,
    ) -> None:
        """Take the port's tensors by name, which of them train, and which are random keys.

        `emitted` are the names of its file, where its helpers are.
        """
        self._arguments = arguments
        self.values = values
        self._parameters, self._random, self._emitted = parameters, random, emitted
        self.owner: Mapping[str, str] = {name: name for name in parameters}
        self._compiled: dict[tuple[bool, frozenset[str]], Compiled] = {}
        self._programs: dict[Any, Compiled] = {}
        self._wide = False
        self._quantile: float | None = None

    @abc.abstractmethod
    def _called(
        self, values: Arrays, inputs: Arrays, train: bool
    ) -> tuple[Any, Arrays]:
        """The results of a call with these tensors, and the tensors after it."""

    def precise(self) -> AbstractContextManager[None]:
        """Matrix products in the dtype of their operands."""
        return full_precision()

    def dtypes(self) -> set[str]:
        """Names of dtypes, such as 'float32'."""
        return {value.dtype.name for value in self.values.values()}

    def widened(self) -> Self:
        """The same port in float64."""
        other = copy.copy(self)
        other._wide, other._compiled, other._programs = True, {}, {}
        with other._running():
            other.values = {n: widen(v) for n, v in self.values.items()}
        return other

    def fixed(self, quantile: float) -> Self:
        """The same port with every random draw at one quantile."""
        other = copy.copy(self)
        other._quantile, other._compiled, other._programs = quantile, {}, {}
        return other

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Everything that makes or runs arrays of the port."""
        with float64(self._wide), located("jax", "jaxlib", "flax"):
            yield

    @property
    def trained(self) -> list[str]:
        """Names of the parameters that have a gradient."""
        return [n for n in self._parameters if is_float(self.values[n])]

    def trains(self) -> set[str]:
        """Names of the parameters that the port trains."""
        return set(self.trained)

    def rates(self, inputs: Mapping[str, Array], *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call, as it is traced."""

        def run(values: Arrays, arrays: Arrays) -> Arrays:
            return self._run(values, arrays, Flat(), train)[0]

        with self._running(), self._silenced():
            return counted(run, self.values, given(inputs, self._wide))

    def draws(
        self, inputs: Mapping[str, Array], *, train: bool, silent: bool = False
    ) -> bool:
        """Whether calls, one after the other, differ, of dropout unless it is `silent`."""
        first = self._forward(inputs, train, None, silent=silent)
        after = first.state
        for _ in range(CALLS):
            # Buffers are as they were: what a call writes is no draw.
            state = {name: after[name] for name in self._random if name in after}
            other = self._forward(inputs, train, state, silent=silent)
            if differ(first.outputs, other.outputs):
                return True
            after = other.state
        return False

    def eagerly(self, inputs: Mapping[str, Array]) -> Result | None:
        """Outputs in eval mode of a call that is not compiled."""
        static = Flat()
        with self._running(), self._dropout(train=False):
            arrays, _ = self._run(
                self.values, given(inputs, self._wide), static, train=False
            )
        return Result(with_arrays(static, arrays))

    def forward(
        self,
        inputs: Mapping[str, Array],
        *,
        train: bool = False,
        state: Arrays | None = None,
    ) -> Result:
        """Outputs on inputs of any size, of a program that is compiled for them."""
        return self._forward(inputs, train, state, silent=train or self.silent)

    def _forward(
        self,
        inputs: Mapping[str, Array],
        train: bool,
        state: Arrays | None,
        *,
        silent: bool,
    ) -> Result:
        def run(values: Arrays, arrays: Arrays) -> tuple[Arrays, Arrays]:
            with self._silenced() if silent or self._quantile else nullcontext():
                return self._run(values, arrays, static, train)

        with self._running():
            named = given(inputs, self._wide)
            shapes = str({n: (x.shape, str(x.dtype)) for n, x in named.items()})
            values = {**self.values, **(state or {})}
            if (key := (train, silent, shapes)) not in self._programs:
                static = Flat()
                lowered = jax.jit(self._steady(run)).lower(values, named)
                self._programs[key] = Compiled(lowered.compile(), static)
            program = self._programs[key]
            arrays, after = program.executable(values, named)
        return self._result(program, arrays, after)

    def _result(
        self, program: Compiled, arrays: Arrays, after: Arrays, **found: Any
    ) -> Result:
        buffers = lazy({n: v for n, v in after.items() if n not in self._random})
        outputs = with_arrays(program.static, arrays)
        return Result(outputs, buffers=buffers, state=after, **found)

    def gradients(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Arrays | None = None,
        *,
        train: bool = False,
        state: Arrays | None = None,
    ) -> Result:
        """Outputs and gradients of the sum of ``weights * output``, in one program.

        A weight whose output has another shape or is absent is left out. Another call
        with the same `train` runs the same program, with other `parameters`.
        """
        trained = {n: self.values[n] for n in self.trained}
        rest = {n: v for n, v in self.values.items() if n not in trained}
        with self._running():
            scaled = {n: widen(w) if self._wide else w for n, w in weights.items()}
            arguments = (
                parameters or trained,
                {**rest, **(state or {})},
                given(inputs, self._wide),
                scaled,
            )
            # The modes may give other outputs, so that other ones have weights.
            key = (train, frozenset(weights))
            if key not in self._compiled:
                self._compiled[key] = self._compile(arguments, train)
            program = self._compiled[key]
            gradients, (arrays, after) = program.executable(*arguments)
        return self._result(
            program, arrays, after, weights=weights, gradients=lazy(gradients)
        )

    def _compile(self, arguments: tuple[Arrays, ...], train: bool) -> Compiled:
        def loss(
            trained: Arrays, rest: Arrays, inputs: Arrays, weights: Arrays
        ) -> tuple[Any, tuple[Arrays, Arrays]]:
            values = {**rest, **trained}

            def whole(values: Arrays, inputs: Arrays) -> tuple[Arrays, Arrays]:
                return self._apply(values, inputs, static, train=train)

            arrays, buffers = self._steady(whole)(values, inputs)
            return scalar_of(arrays, weights), (arrays, buffers)

        static = Flat()
        lowered = jax.jit(jax.grad(loss, has_aux=True)).lower(*arguments)
        return Compiled(lowered.compile(), static)

    def outputs(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Arrays,
        *,
        train: bool = False,
    ) -> Flat:
        """The outputs with other parameters, of the program that is compiled already.

        Where its gradients would be large the call is not compiled, and has none.
        """
        if sum(int(x.nbytes) for x in parameters.values()) < aside.LEAST:
            return self.gradients(inputs, weights, parameters, train=train).outputs
        static = Flat()

        def run(values: Arrays, arrays: Arrays) -> Arrays:
            return self._run(values, arrays, static, train)[0]

        with self._running(), self._dropout(train):
            values = {**self.values, **parameters}
            arrays = self._steady(run)(values, given(inputs, self._wide))
        return with_arrays(static, arrays)

    def stepped(self, gradients: Lazy, rate: float) -> Arrays:
        """Parameters after one SGD step; `gradients` are used up."""
        return stepped(gradients, self.values, rate, self._wide)

    def _apply(
        self, values: Arrays, inputs: Arrays, static: Flat, *, train: bool
    ) -> tuple[Arrays, Arrays]:
        """Output arrays by path and the state after the call; `static` gets the rest."""
        with self._dropout(train):
            return self._run(values, inputs, static, train)

    def _run(
        self, values: Arrays, inputs: Arrays, static: Flat, train: bool
    ) -> tuple[Arrays, Arrays]:
        result, after = self._called(values, inputs, train)
        flat = flatten(result)
        static.leaves = {k: v for k, v in flat.leaves.items() if not is_array(v)}
        static.containers = flat.containers
        kept = set(self.values) - set(self._parameters)
        return flat.arrays(), {name: after[name] for name in sorted(kept)}

    def _dropout(self, train: bool) -> AbstractContextManager[Any]:
        silenced = train or self.silent or self._quantile is not None
        return self._silenced() if silenced else nullcontext()

    def _silenced(self) -> AbstractContextManager[list[float]]:
        return without_dropout(self._emitted, scaled=self._quantile is not None)

    def _steady(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """`run` of arrays, with its draws fixed where they are to be."""
        return run if self._quantile is None else fixed(run, self._quantile)
