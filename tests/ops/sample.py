"""What a sample of an operation is: inputs, how to build the node, a reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ivyport.core.dims import evaluate, symbol
from ivyport.core.dtype import is_float, to_numpy
from ivyport.core.ir import TensorType, Value

# Each symbol's sizes, and every backend must give the right result at both.
SIZES = ({"B": 2, "S": 4}, {"B": 5, "S": 7})

Make = Callable[[np.random.Generator, tuple[int, ...]], Any]
B, S = symbol("B"), symbol("S")


@dataclasses.dataclass(frozen=True)
class Input:
    """One tensor operand: its type, and its elements from a generator and a shape.

    `smooth` is false where gradients are not compared: kinks, NaN, running statistics.
    """

    type: TensorType
    make: Make
    smooth: bool = True

    def array(self, rng: np.random.Generator, sizes: dict[str, int]) -> np.ndarray:
        """The elements, where symbols have these sizes."""
        shape = tuple(evaluate(d, sizes) for d in self.type.shape)
        made = np.asarray(self.make(rng, shape)).astype(to_numpy(self.type.dtype))
        return np.broadcast_to(made, shape).copy()


@dataclasses.dataclass(frozen=True)
class Sample:
    """One row: `build(b, *values)` adds one node that computes `torch(*tensors)`.

    `rtol` bounds the error over the largest magnitude, `grad_rtol` that of gradients;
    0 is the default for the inputs' dtype. `mean` is that of the elements of a random
    result, whose reference is right in dtype and shape alone.
    """

    op: str
    inputs: tuple[Input, ...]
    build: Callable[..., Any]
    torch: Callable[..., Any]
    label: str = ""
    rtol: float = 0.0
    grad_rtol: float = 0.0
    differentiable: bool = True
    mean: float | None = None

    def __post_init__(self) -> None:
        coarse = any(x.type.dtype == "bfloat16" for x in self.inputs)
        for name, default in (("rtol", 1e-6), ("grad_rtol", 1e-5)):
            if getattr(self, name) == 0.0:
                object.__setattr__(self, name, 2e-2 if coarse else default)

    @property
    def name(self) -> str:
        """What the test is called."""
        return f"{self.op}-{self.label}" if self.label else self.op

    def values(self) -> list[Value]:
        """Operands of the node, unnamed."""
        return [Value(x.type) for x in self.inputs]

    def arrays(self, sizes: dict[str, int]) -> list[np.ndarray]:
        """Operands as numpy arrays; equal from call to call."""
        rng = np.random.default_rng(0)
        return [x.array(rng, sizes) for x in self.inputs]

    def floats(self) -> list[int]:
        """Positions of the inputs that have gradients."""
        if not self.differentiable:
            return []
        return [
            i for i, x in enumerate(self.inputs) if x.smooth and is_float(x.type.dtype)
        ]


def given(values: Any, dtype: str = "float32", *, smooth: bool = True) -> Input:
    """Exactly these elements."""
    array = np.asarray(values)
    return Input(TensorType(dtype, array.shape), lambda rng, shape: array, smooth)


def fixed(x: Input) -> Input:
    """The same operand, whose gradient is not compared."""
    return dataclasses.replace(x, smooth=False)


def f32(*shape: Any, low: float | None = None, high: float | None = None) -> Input:
    """float32 elements, normal or uniform between two bounds."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        if low is None or high is None:
            return rng.standard_normal(shape)
        return rng.uniform(low, high, shape)

    return Input(TensorType("float32", shape), make)


def half(*shape: Any) -> Input:
    """Normal bfloat16 elements."""
    return Input(TensorType("bfloat16", shape), f32(*shape).make)


def ints(high: int, *shape: Any, low: int = 0, dtype: str = "int64") -> Input:
    """Integers from `low` to below `high`."""
    return Input(
        TensorType(dtype, shape), lambda rng, shape: rng.integers(low, high, shape)
    )


def truth(*shape: Any) -> Input:
    """Booleans, about two thirds of them true."""
    return Input(
        TensorType("bool", shape), lambda rng, shape: rng.random(shape) < 2 / 3
    )


def masked(*shape: Any) -> Input:
    """Attention masks: random booleans with no row that is false everywhere."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        mask = rng.random(shape) < 2 / 3
        mask[..., 0] = True
        return mask

    return Input(TensorType("bool", shape), make)


def permuted(size: int, *shape: Any) -> Input:
    """int64 indices below `size` that do not repeat along the last axis."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        base = np.broadcast_to(np.arange(size), (*shape[:-1], size))
        return rng.permuted(base, axis=-1)[..., : shape[-1]]

    return Input(TensorType("int64", shape), make)


def spaced(*shape: Any) -> Input:
    """float32 elements that all differ, for order statistics."""

    def make(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        count = int(np.prod(shape))
        return rng.permutation(np.linspace(-2, 2, count)).reshape(shape)

    return Input(TensorType("float32", shape), make)
