"""What a worker runs: its job, a loaded engine, and how engines fail.

Apart from `worker`, which is run as a program: the classes of a program's own file are
not those that others import.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from ivyport.bench.case import (
    COMPILE_FAILED,
    FAILED,
    NOT_APPLICABLE,
    OUT_OF_MEMORY,
)
from ivyport.bench.prepare import Arrays, load_variants


class CompileError(Exception):
    """An engine's compiler refused the model, or compiled nothing of it."""


class NotApplicableError(Exception):
    """The engine has nothing to do with this model, such as layers to scan."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker runs.

    model: the folder that `prepare` made; inputs: the case's folder in it.
    tf32: whether float32 products may be computed in TensorFloat-32.
    rate: the learning rate of the checked steps, 0 in forward mode.
    """

    engine: str
    loader: str
    port: str | None
    path: tuple[str, ...]
    model: str
    inputs: str
    cls: str
    mode: str
    dtype: str
    device: str
    threads: int
    tf32: bool
    rate: float = 0.0

    @property
    def folder(self) -> Path:
        """Where the weights and ports are."""
        return Path(self.model)

    def variants(self) -> list[Arrays]:
        """The case's inputs; integers are int64 and floats float32."""
        return load_variants(Path(self.inputs) / "inputs.npz")

    def loss_weights(self) -> Arrays:
        """What a train step multiplies its outputs with; {} in forward mode."""
        if self.mode == "forward":
            return {}
        with np.load(Path(self.inputs) / "loss_weights.npz") as data:
            return dict(data)


class Session(ABC):
    """A loaded engine. Inputs and weights are on the device."""

    @abstractmethod
    def call(self, variant: int) -> Any:
        """One forward pass, or one train step, that has ended when this returns.

        Returns the output, or the step's loss.
        """

    @abstractmethod
    def read(self, output: Any) -> Arrays:
        """A forward pass's outputs in float32, by field."""

    @abstractmethod
    def outputs(self, variant: int) -> Arrays:
        """In train mode: the outputs with the current weights, outside a step."""

    @abstractmethod
    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps that follow."""

    @abstractmethod
    def peak_bytes(self) -> int | None:
        """The largest memory in use on a GPU since the load, None on a CPU."""

    @abstractmethod
    def check_compiled(self) -> None:
        """Raise CompileError if a compiler that was asked for compiled nothing."""

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """What a result should say of the engine: device, flags, graph breaks."""


_MEMORY_WORDS = (
    "resource_exhausted",
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "unable to allocate",
)


def has_memory_words(text: str) -> bool:
    """Whether an error's text says that memory ran out."""
    return any(words in text.lower() for words in _MEMORY_WORDS)


def status_of(error: BaseException) -> str:
    """What kind of row an exception makes."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or has_memory_words(text):
        return OUT_OF_MEMORY
    if isinstance(error, NotApplicableError):
        return NOT_APPLICABLE
    # torch's compilers raise classes of their own, all defined under these packages.
    compilers = ("torch._dynamo", "torch._inductor", "torch.fx")
    causes = [error, error.__cause__, error.__context__]
    modules = [type(e).__module__ for e in causes if e is not None]
    if isinstance(error, CompileError) or any(m.startswith(compilers) for m in modules):
        return COMPILE_FAILED
    return FAILED
