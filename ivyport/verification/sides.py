"""What a source and a port must be able to do to be compared with each other.

The comparison itself knows no framework: a side is named values in, numpy arrays out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from ivyport.core import memory
from ivyport.verification import aside
from ivyport.verification.aside import Aside
from ivyport.verification.compare import Array, Flat

#: Gives the weights of the scalar whose gradient is taken, by output, from the outputs.
WeightsOf = Callable[[Flat], Mapping[str, Array]]
#: Called with a source's module path, which call of it, and the arrays it returns.
Record = Callable[[str, int, list[Array]], None]
#: What draws beside dropout: nothing, modules that do nothing else, or the model itself.
Noise = Literal["", "modules", "everywhere"]


#: How often a port is called that seems not to draw: at a low rate most calls drop nothing of a few
#: examples.
CALLS = 24
#: The helpers of emitted code that refuse other sizes than a port was made for.
SIZE_CHECKS = ("check_shapes", "check_sizes")


class PortFails(Exception):
    """The port raises where its source does not; the message says what and where."""


class PortRefuses(PortFails):
    """The port's own check of its sizes refuses the inputs."""


class NoGradients(ValueError):
    """The source has outputs but no gradients; the message says why."""


class NotFixed(Exception):
    """A random draw cannot be fixed; the message says which."""


class Lazy(Mapping[str, Array]):
    """A framework's own tensors by name, read as numpy arrays one at a time.

    So that at most one tensor of the model exists twice, where reading copies at all.
    """

    def __init__(self, native: Mapping[str, Any], read: Callable[[Any], Array]) -> None:
        self._native = dict(native)
        self._read = read
        self._names = dict.fromkeys(self._native)
        self._aside: dict[str, Aside] = {}

    def __getitem__(self, name: str) -> Array:
        if name in self._aside:
            return self._aside[name].read(name)
        return self._read(self._native[name])

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def is_large(self) -> bool:
        """Whether the tensors take so much memory that they are not held beside others."""
        held = sum(int(x.nbytes) for x in self._native.values())
        return bool(self._aside) or held > aside.LEAST

    def put_aside(self) -> None:
        """Move the tensors to a temporary file, where they are large and the disk has room."""
        if not self.is_large():
            return
        # A full disk: what is not in the file stays in memory.
        with contextlib.suppress(OSError):
            file = aside.Aside()
            for name in list(self._native):
                file.write(name, self[name])
                self._aside[name] = file
                del self._native[name]
        memory.trim()

    def drain(self) -> Iterator[tuple[str, Any]]:
        """Each name and tensor, a numpy array if it was put aside; none stay."""
        names, self._names = self._names, {}
        size = 0
        for name in names:
            file = self._aside.pop(name, None)
            tensor = self._native.pop(name) if file is None else file.read(name)
            size += int(tensor.nbytes)
            yield name, tensor
            if size > aside.LEAST // 4:
                memory.trim()
                size = 0


def _nothing() -> Lazy:
    return Lazy({}, lambda value: value)


@dataclasses.dataclass
class Result:
    """One call: its outputs, and what was asked for beside them.

    Attributes:
        outputs: arrays, None and Python constants by path.
        weights: of the scalar whose gradients these are, by output.
        gradients: by the side's own name of each parameter, each tied one once.
        buffers: what the call left in the side's buffers, by its own names.
        state: the same for the side itself, random streams included: the `state` of a
            next call, which begins where this one ended.
    """

    outputs: Flat
    weights: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    gradients: Lazy = dataclasses.field(default_factory=_nothing)
    buffers: Lazy = dataclasses.field(default_factory=_nothing)
    state: Any = None


@dataclasses.dataclass(frozen=True)
class Activation:
    """One result of one module: its path, class, which call of it, and the tensor."""

    path: str
    cls: str
    call: int
    array: Array


class SourceSide(Protocol):
    """Runs the source on its traced inputs and on others; nothing of it is changed."""

    #: Every name of a parameter, with the name under which `gradients` has its tensor.
    owner: Mapping[str, str]
    #: Whether the last call in eval mode would have dropped: dropout is always off here.
    drops: bool
    #: Whether train mode leaves out what draws, so that the rest of it can be compared.
    partly: bool

    def precise(self) -> AbstractContextManager[None]:
        """Full precision in float32, for as long as the source runs."""

    def arrays(self, kwargs: Mapping[str, Any] | None = None) -> dict[str, Array]:
        """The tensors of keyword arguments by the port's names; by default the traced.

        Dtypes are those that the source computes with.
        """

    def widened(self) -> SourceSide:
        """The same source and inputs in float64."""

    def fixed(self, quantile: float) -> SourceSide:
        """The same source and inputs, with every random draw at one quantile.

        Its dropout keeps everything, and scales as it does. Calls raise NotFixed where
        something draws that cannot be fixed.
        """

    def without(self, names: Collection[str]) -> SourceSide:
        """The same source and inputs, these left out: its own default takes their place."""

    def drew_outside(self) -> bool:
        """Whether the last call drew by Python's `random` or numpy's."""

    def ties(self, inputs: Mapping[str, Array]) -> list[str]:
        """Lines at which the source orders equal values, in an order of the framework's choice."""

    def noisy(self) -> Noise:
        """Where train mode draws random numbers beside dropout."""

    def abstract(self) -> str:
        """What has shapes and no values, in words; '' where everything can be computed."""

    def has_statistics(self) -> bool:
        """Whether a forward in train mode writes to buffers."""

    def trains(self) -> set[str]:
        """The names, as `owner` has them, of the parameters that the source trains."""

    def rates(self, *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call."""

    def unlike(self) -> str:
        """Why train mode cannot be run, in words; '' where it can."""

    def forward(
        self,
        inputs: Mapping[str, Array] | None = None,
        parameters: Any = None,
        *,
        train: bool = False,
        seed: int | None = None,
        state: Any = None,
    ) -> Result:
        """Outputs on other inputs, or with other parameters (made by `stepped`).

        `seed` starts the random numbers that the source draws; dropout is off.
        """

    def gradients(self, weights_of: WeightsOf, *, train: bool = False) -> Result:
        """Outputs on the traced inputs, and gradients of every parameter.

        The gradient is that of the sum of ``weights * output`` over the outputs that
        `weights_of` gives weights for. A parameter without a gradient has zeros. In
        train mode dropout is off.
        """

    def stepped(self, gradients: Lazy, rate: float) -> Any:
        """Parameters after one SGD step; `gradients` are used up."""

    def activations(self, inputs: Mapping[str, Array] | None) -> list[Activation]:
        """The first tensor of every result of every module, as the calls end."""

    def notes(self) -> list[str]:
        """What the report must say of the source after it ran."""


class PortSide(Protocol):
    """Runs copies of the port; the port itself is not changed."""

    #: Every name of a parameter, with the name under which `gradients` has its tensor.
    owner: Mapping[str, str]
    #: Whether the 32 bits of a 64-bit dtype are what this framework has for it.
    narrows: bool
    #: Whether dropout is switched off in eval mode too; it is in train mode.
    silent: bool
    #: Whether it computes eval mode alone: no gradients, no train mode.
    infers: bool

    def precise(self) -> AbstractContextManager[None]:
        """Full precision in float32, for as long as the port runs."""

    def dtypes(self) -> set[str]:
        """The names of the dtypes of its parameters and buffers."""

    def widened(self) -> PortSide:
        """The same port in float64."""

    def fixed(self, quantile: float) -> PortSide:
        """The same port with every random draw at one quantile, as `SourceSide.fixed`."""

    def trains(self) -> set[str]:
        """The names, as `owner` has them, of the parameters that the port trains."""

    def rates(self, inputs: Mapping[str, Array], *, train: bool) -> list[float]:
        """The rate of each dropout that draws in a call; raises PortFails."""

    def draws(
        self, inputs: Mapping[str, Array], *, train: bool, silent: bool = False
    ) -> bool:
        """Whether two calls, one after the other, differ; raises PortFails.

        Dropout does not count where it is `silent`.
        """

    def eagerly(self, inputs: Mapping[str, Array]) -> Result | None:
        """Outputs in eval mode of a call that is not compiled; None if none ever is."""

    def forward(
        self, inputs: Mapping[str, Array], *, train: bool = False, state: Any = None
    ) -> Result:
        """Outputs on inputs of any size, those with a default left out or not.

        Raises PortFails, and PortRefuses for sizes.
        """

    def gradients(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Any = None,
        *,
        train: bool = False,
        state: Any = None,
    ) -> Result:
        """Outputs and gradients of the sum of ``weights * output``; raises PortFails.

        A weight whose output has another shape or is absent is left out. Other
        `parameters` are made by `stepped`. In train mode dropout is off.
        """

    def outputs(
        self,
        inputs: Mapping[str, Array],
        weights: Mapping[str, Array],
        parameters: Any,
        *,
        train: bool = False,
    ) -> Flat:
        """The outputs of `gradients` after a call of that with the same `weights`."""

    def stepped(self, gradients: Lazy, rate: float) -> Any:
        """Parameters after one SGD step; `gradients` are used up."""

    def watch(
        self,
        inputs: Mapping[str, Array],
        modules: Mapping[str, str],
        record: Record,
    ) -> tuple[str, str] | None:
        """Run in eval mode and record the arrays that each call of a module returns.

        `modules` maps source paths to attribute paths. Where the port raises, the
        result is the source path of the innermost module that does, and the error.
        """


@contextlib.contextmanager
def located(*libraries: str) -> Iterator[None]:
    """Turn whatever a port raises into `PortFails`, with its innermost own line.

    Lines of files whose path has a folder of `libraries` are not the port's own.
    """
    try:
        yield
    except NotFixed:
        raise
    # The port is generated code: any failure of it is a finding, reported as such.
    except Exception as error:
        others = [f"/{name}/" for name in (*libraries, "ivyport/verification")]
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if not any(part in f.filename for part in others)]
        where = f" at line {own[-1].lineno} ({own[-1].line})" if own else ""
        brief = str(error).strip().partition("\n")[0]
        refused = bool(own) and own[-1].name in SIZE_CHECKS
        kind = PortRefuses if refused else PortFails
        raise kind(f"{type(error).__name__}{where}: {brief}") from error
