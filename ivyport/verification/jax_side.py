"""The source: a haiku function, a Flax module or a function of JAX arrays.

Whatever it is, `ivyport.frontends.jax.sources` runs it on named arrays and gives back
outputs and buffers, so that nothing of the source is ever written to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivyport.core.errors import InputError
from ivyport.frontends.jax.sources import TRAIN_ARGUMENTS, Source, open_source
from ivyport.frontends.jax.structure import is_array as is_jax
from ivyport.frontends.jax.trace import settle
from ivyport.frontends.nested import as_call
from ivyport.verification.compare import Array, Flat, flatten, is_array
from ivyport.verification.jax_activations import activations
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
    Activation,
    Lazy,
    NoGradients,
    Noise,
    Result,
    WeightsOf,
)

#: Opens the same source on other arguments.
Reopen = Callable[[Mapping[str, Any]], Source]


class JaxSide:
    """Runs `source` compiled; names are those of the source's own tensors.

    Args:
        source: opened on the traced inputs.
        reopen: opens it on other ones.
        wide: run it in float64.
        quantile: what every random draw gives; dropout keeps everything then.
    """

    def __init__(
        self,
        source: Source,
        reopen: Reopen,
        *,
        wide: bool = False,
        quantile: float | None = None,
    ) -> None:
        #: Of a source that draws nothing can be left out.
        self.partly = False
        self._source = source
        self._reopen = reopen
        self._wide = wide
        self._quantile = quantile
        with float64(wide):
            self._parameters = _held(source.parameters, wide)
            self._buffers = _held(source.buffers, wide)
        self.owner: Mapping[str, str] = {name: name for name in self._parameters}
        self._compiled: dict[Any, Compiled] = {}
        self._statistics: bool | None = None
        self._random: bool | None = None
        #: Of train mode, where the source may demand one though dropout is off.
        self._key = jax.random.key(0) if source.rng is None else source.rng
        self._notes: list[str] = []
        self.drops = False
        self._again: Callable[[Any, Any], JaxSide]  # opens it on other arguments
        #: Classes of outputs that are neither tensors nor constants.
        self.lost: set[str] = set()

    @classmethod
    def open(
        cls,
        source: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        params: Any,
        state: Any,
        rng: Any,
    ) -> JaxSide:
        """The side of whatever `open_source` takes."""

        def reopen(kwargs: Mapping[str, Any]) -> Source:
            return open_source(
                source, args, kwargs, params=params, state=state, rng=rng
            )

        opened = reopen(kwargs)
        settle(opened)
        side = cls(opened, reopen)
        side._again = lambda args, kwargs: cls.open(
            source, args, kwargs, params=params, state=state, rng=rng
        )
        return side

    @property
    def _keyed(self) -> bool:
        """Whether the source has a key in eval mode too."""
        return self._source.rng is not None or self._source.needs_key

    def _key_of(self, train: bool) -> Any:
        """The key of a call; None: the source's own, whose draws are constants of the call."""
        fixed_too = self._quantile is not None and self._keyed
        return self._key if train or fixed_too else None

    def without(self, names: Collection[str]) -> JaxSide:
        """The same source and inputs, with None for these arguments."""
        given = [
            dataclasses.replace(one, value=None) if one.name in names else one
            for one in self._source.given()
        ]
        return self._again(*as_call(given))

    def precise(self) -> AbstractContextManager[None]:
        """Matrix products in the dtype of their operands."""
        return full_precision()

    def widened(self) -> JaxSide:
        """The same source and inputs in float64."""
        return self._other(wide=True, quantile=self._quantile, random=self._random)

    def fixed(self, quantile: float) -> JaxSide:
        """The same source and inputs, with every random draw at one quantile."""
        return self._other(wide=self._wide, quantile=quantile, random=None)

    def _other(
        self, *, wide: bool, quantile: float | None, random: bool | None
    ) -> JaxSide:
        other = JaxSide(self._source, self._reopen, wide=wide, quantile=quantile)
        other._statistics, other._random = self._statistics, random
        return other

    def drew_outside(self) -> bool:
        """False: what is compiled draws by JAX alone."""
        return False

    def ties(self, inputs: Mapping[str, Array]) -> list[str]:
        """None: JAX promises which of equal values is first."""
        return []

    def noisy(self) -> Noise:
        """Where train mode draws random numbers beside dropout."""
        if not (self._source.has_train or self._keyed):
            return ""
        if self._random is None:
            self._random = self._is_random(self.forward(train=True).outputs)
        return "everywhere" if self._random else ""

    def arrays(self, kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The arrays inside of `kwargs`, by default the traced ones."""
        source = self._source if kwargs is None else self._reopen(kwargs)
        abstract = [n for n, x in source.inputs.items() if not _is_concrete(x)]
        if abstract:
            raise InputError(
                f"{', '.join(abstract)} of {source.name} have a shape and no values: "
                "verification needs arrays"
            )
        return {name: np.asarray(array) for name, array in source.inputs.items()}

    def abstract(self) -> str:
        """What has shapes and no values, in words; '' where everything can be computed."""
        source = self._source
        held = {**source.parameters, **source.buffers, **source.inputs}
        names = [n for n, x in held.items() if not _is_concrete(x)]
        some = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        return f"{len(names)} arrays have no values ({some})" if names else ""

    def has_statistics(self) -> bool:
        """Whether a call in train mode returns other buffers than it was given."""
        if self._statistics is None:
            self._statistics = bool(self._buffers) and self._updates()
        return self._statistics

    def _updates(self) -> bool:
        names = list(self._buffers)

        def after(arrays: Sequence[Any]) -> list[Any]:
            held = dict(zip(names, arrays, strict=True))
            inputs = given(self.arrays(), self._wide)
            values = self._parameters
            new = self._run(values, held, inputs, Flat(), train=True, rng=self._key)[1]
            return [new[name] for name in names]

        try:
            jaxpr = jax.make_jaxpr(after)(list(self._buffers.values())).jaxpr
        # Train mode is the source's own affair: a model may be for inference alone.
        except Exception as error:  # noqa: BLE001
            brief = str(error).strip().partition("\n")[0]
            self._notes.append(
                f"train mode is not compared: the source raises "
                f"{type(error).__name__}: {brief}"
            )
            return False
        pairs = zip(jaxpr.outvars, jaxpr.invars, strict=True)
        return any(out is not own for out, own in pairs)

    def forward(
        self,
        inputs: Mapping[str, Array] | None = None,
        parameters: Arrays | None = None,
        *,
        train: bool = False,
        seed: int | None = None,
        state: Arrays | None = None,
    ) -> Result:
        """Outputs on other inputs, or with other parameters."""
        key = self._key_of(train)
        if seed is not None and (train or self._keyed):
            key = jax.random.fold_in(self._key, seed)
        return self._forward(inputs, parameters, train, key, state)

    def _forward(
        self,
        inputs: Mapping[str, Array] | None,
        parameters: Arrays | None,
        train: bool,
        key: Any,
        state: Arrays | None = None,
    ) -> Result:
        def run(
            values: Arrays, buffers: Arrays, arrays: Arrays, rng: Any, static: Flat
        ) -> tuple[Arrays, Arrays]:
            return self._run(values, buffers, arrays, static, train=train, rng=rng)

        with float64(self._wide):
            named = given(self.arrays() if inputs is None else inputs, self._wide)
            values = {**self._parameters, **(parameters or {})}
            outputs, buffers = self._program("forward", train, run)(
                values, {**self._buffers, **(state or {})}, named, key
            )
        return Result(outputs, buffers=lazy(buffers if train else {}), state=buffers)

    def trains(self) -> set[str]:
        """Names of the parameters that the source trains: all that are floats."""
        return {name for name, value in self._parameters.items() if is_float(value)}

    def rates(self, *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call, as it is traced."""
        key = self._key if train else None

        def run(values: Arrays, buffers: Arrays, arrays: Arrays) -> Arrays:
            return self._run(values, buffers, arrays, Flat(), train=train, rng=key)[0]

        with float64(self._wide):
            named = given(self.arrays(), self._wide)
            return counted(run, self._parameters, self._buffers, named)

    def unlike(self) -> str:
        """Why train mode cannot be run, in words."""
        if not self._source.has_train:
            return ""
        try:
            self.forward(train=True)
        # Train mode is the source's own affair: a model may be for inference alone.
        except Exception as error:  # noqa: BLE001
            brief = str(error).strip().partition("\n")[0]
            return (
                "train mode is not compared: the source raises "
                f"{type(error).__name__}: {brief}"
            )
        return ""

    def gradients(self, weights_of: WeightsOf, *, train: bool = False) -> Result:
        """Outputs on the traced inputs, and gradients by the parameters' names.

        Raises:
            ValueError: in train mode the source draws random numbers beside dropout.
        """
        before = self.forward(train=train)
        if train and self._random is None:
            self._random = self._is_random(before.outputs)
        if train and self._random:
            raise ValueError("the source draws random numbers beside dropout")
        weights = weights_of(before.outputs)

        def loss(
            trained: Arrays,
            rest: Arrays,
            arrays: Arrays,
            scale: Arrays,
            key: Any,
            static: Flat,
        ) -> Any:
            held = {**rest, **trained}
            values = {name: held[name] for name in self._parameters}
            buffers = {name: held[name] for name in self._buffers}
            outputs, _ = self._run(
                values, buffers, arrays, static, train=train, rng=key
            )
            return scalar_of(outputs, scale)

        def run(*arguments: Any) -> tuple[Arrays, Arrays]:
            return {}, jax.grad(loss)(*arguments)

        with float64(self._wide):
            values = {**self._parameters, **self._buffers}
            trained = {n: v for n, v in self._parameters.items() if is_float(v)}
            rest = {n: v for n, v in values.items() if n not in trained}
            scale = {n: widen(w) if self._wide else w for n, w in weights.items()}
            inputs = given(self.arrays(), self._wide)
            key = self._key_of(train)
            program = self._program("gradients", train, run)
            with _reversible():
                _, gradients = program(trained, rest, inputs, scale, key)
        found = lazy(gradients)
        return Result(before.outputs, weights, found, before.buffers, before.state)

    def _is_random(self, outputs: Flat) -> bool:
        """Whether the outputs in train mode are others with another key."""
        found = {n: np.asarray(x) for n, x in outputs.arrays().items()}
        other = jax.random.fold_in(self._key, 1)
        again = self._forward(None, None, True, other).outputs.arrays()
        return not all(
            np.array_equal(x, np.asarray(again[name]), equal_nan=x.dtype.kind in "fc")
            for name, x in found.items()
        )

    def stepped(self, gradients: Lazy, rate: float) -> Arrays:
        """Parameters after one SGD step; `gradients` are used up."""
        return stepped(gradients, self._parameters, rate, self._wide)

    def activations(self, inputs: Mapping[str, Array] | None) -> list[Activation]:
        """What each module call returns, from the marked jaxpr run step by step."""
        named = given(self.arrays() if inputs is None else inputs, wide=False)
        found, unseen = activations(
            self._source, self._parameters, self._buffers, named
        )
        if unseen:
            self._notes.append(
                f"drift is not looked for inside of loops: {', '.join(unseen)}"
            )
        return found

    def notes(self) -> list[str]:
        """Outputs and modes that are not compared."""
        found = list(self._notes)
        mode = self._source.train_argument
        if mode is not None and self._source.arguments[mode] is TRAIN_ARGUMENTS[mode]:
            found.append(
                f"{mode}={TRAIN_ARGUMENTS[mode]} was given: the port is in eval mode until "
                "its .train() is called; both modes are compared"
            )
        if self.lost:
            names = ", ".join(sorted(self.lost))
            found.append(f"outputs that are no tensors are not ported: {names}")
        return found

    def _run(
        self,
        parameters: Arrays,
        buffers: Arrays,
        inputs: Arrays,
        static: Flat,
        *,
        train: bool,
        rng: Any,
    ) -> tuple[Arrays, Arrays]:
        """Output arrays by path and buffers after the call; `static` gets the rest."""
        with without_dropout(scaled=self._quantile is not None) as rates:
            raw, after = self._source.apply(
                parameters, buffers, inputs, train=train, rng=rng
            )
        if not train:
            self.drops = bool(rates)
        flat = flatten(raw, self._leaf)
        arrays = flat.arrays()
        static.leaves = {k: v for k, v in flat.leaves.items() if k not in arrays}
        static.containers = flat.containers
        return arrays, {name: jnp.asarray(after[name]) for name in buffers}

    def _leaf(self, value: Any) -> Any:
        if is_jax(value):
            return jnp.asarray(value)
        if is_array(value):
            # Objects that the trace does not know either are no outputs.
            self.lost.add(type(value).__name__)
            return None
        return value

    def _program(
        self, kind: str, train: bool, run: Callable[..., tuple[Arrays, Arrays]]
    ) -> Callable[..., tuple[Flat, Arrays]]:
        """`run` compiled once for each kind, mode and shapes of its arguments.

        Its last argument is the `Flat` that what is no array of the outputs goes to.
        """

        def call(*arguments: Arrays) -> tuple[Flat, Arrays]:
            shapes = jax.tree.map(lambda x: (x.shape, str(x.dtype)), arguments)
            key = (kind, train, str(shapes))
            if key not in self._compiled:
                static = Flat()

                def whole(*args: Arrays) -> tuple[Arrays, Arrays]:
                    return run(*args, static)

                steady = self._quantile
                jitted = jax.jit(whole if steady is None else fixed(whole, steady))
                compiled = jitted.lower(*arguments).compile()
                self._compiled[key] = Compiled(compiled, static)
            program = self._compiled[key]
            arrays, others = program.executable(*arguments)
            return with_arrays(program.static, arrays), others

        return call


def _held(arrays: Mapping[str, Any], wide: bool) -> Arrays:
    held = {name: jnp.asarray(array) for name, array in arrays.items()}
    return {name: widen(array) for name, array in held.items()} if wide else held


@contextmanager
def _reversible() -> Iterator[None]:
    """JAX differentiates loops whose length depends on data only forwards."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("Reverse-mode differentiation does not work"):
            raise
        raise NoGradients(str(error).partition(".")[0]) from error


def _is_concrete(value: Any) -> bool:
    return not isinstance(value, jax.ShapeDtypeStruct)
