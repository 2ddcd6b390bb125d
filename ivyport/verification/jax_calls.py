"""What both sides in JAX have in common: dtypes, float64, and a step of SGD."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ivyport.core.dtype import NARROW, to_numpy
from ivyport.verification.compare import Array, Flat
from ivyport.verification.sides import Lazy

Arrays = dict[str, Any]


@dataclasses.dataclass
class Compiled:
    """A compiled program, and what its outputs hold beside arrays."""

    executable: Callable[..., Any]
    static: Flat


def full_precision() -> AbstractContextManager[None]:
    """Matrix products in the dtype of their operands."""
    precision: AbstractContextManager[None] = jax.default_matmul_precision("highest")
    return precision


def float64(wide: bool) -> AbstractContextManager[None]:
    """64 bits where `wide`; the user's own setting otherwise."""
    if not wide:
        return contextlib.nullcontext()
    scope: AbstractContextManager[None] = jax.enable_x64(True)
    return scope


def is_float(value: Any) -> bool:
    """Whether an array is one of real floats."""
    return bool(jnp.issubdtype(value.dtype, jnp.floating))


def widen(array: Any) -> Any:
    """Floats in float64; call where JAX has 64 bits."""
    return array.astype(np.float64) if is_float(array) else array


def given(inputs: Mapping[str, Array], wide: bool) -> Arrays:
    """Inputs as JAX has them: 32 bits, unless the user told it to keep 64.

    Where `wide`, floats have 64 bits and nothing else does.
    """
    keep = bool(jax.config.read("jax_enable_x64")) and not wide
    arrays = {
        name: jnp.asarray(array if keep else _narrow(array))
        for name, array in inputs.items()
    }
    return {n: widen(array) for n, array in arrays.items()} if wide else arrays


def _narrow(array: Array) -> Array:
    name = NARROW.get(array.dtype.name)
    return array if name is None else array.astype(to_numpy(name))


def lazy(arrays: Mapping[str, Any]) -> Lazy:
    """Arrays by name that are read as numpy arrays."""
    return Lazy(arrays, np.asarray)


def scalar_of(arrays: Mapping[str, Any], weights: Mapping[str, Any]) -> Any:
    """The sum of ``weights * output``; a weight without such an output is left out."""
    total = jnp.zeros(())
    for name, r in weights.items():
        if name in arrays and arrays[name].shape == r.shape:
            part = arrays[name].astype(r.dtype) * r
            # Where the weight is 0 the output may be infinite.
            total += jnp.where(r != 0, part, 0).sum()
    return total


def stepped(
    gradients: Lazy, values: Mapping[str, Any], rate: float, wide: bool
) -> Arrays:
    """Parameters after one SGD step; `gradients` are used up."""
    made = {}
    for name, native in gradients.drain():
        # In numpy: JAX would compile every shape of an expression run once.
        gradient, value = np.asarray(native), values[name]
        step = (rate * gradient).astype(gradient.dtype)
        with float64(wide):
            made[name] = jnp.asarray(np.asarray(value) - step)
    return made


def with_arrays(static: Flat, arrays: Arrays) -> Flat:
    """Outputs put together again, as numpy arrays."""
    leaves = {name: np.asarray(array) for name, array in arrays.items()}
    return Flat({**static.leaves, **leaves}, dict(static.containers))
