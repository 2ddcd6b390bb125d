"""Lowers a function, runs its graph through the JAX backend, compares with the function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from ivyport.core.ir import Graph
from ivyport.core.verify import verify
from ivyport.frontends.jax.lower import Lowered, lower_traced
from tests.graph_run import ops, run

RTOL = {"bfloat16": 2e-2, "float16": 2e-3, "float32": 2e-6}


def lower(function: Callable[..., Any], *args: Any) -> Lowered:
    """The verified graph of a function; arguments are named x0, x1, ..."""
    lowered = lower_traced(jax.make_jaxpr(function)(*args))
    verify(lowered.graph)
    return lowered


def compare(
    lowered: Lowered, function: Callable[..., Any], *args: Any, rtol: float = 0.0
) -> None:
    """Values, dtypes and shapes of the graph's outputs are the function's."""
    leaves = jax.tree.leaves(args)
    arrays = {f"x{i}": np.asarray(x) for i, x in enumerate(leaves)} | lowered.constants
    wanted = [np.asarray(x) for x in jax.tree.leaves(function(*args))]
    found = run(lowered.graph, arrays, jit=False)
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        tolerance = rtol or RTOL.get(str(theirs.dtype), 0.0)
        plain = np.float64 if theirs.dtype != bool else bool
        np.testing.assert_allclose(
            ours.astype(plain), theirs.astype(plain), tolerance, tolerance
        )


def check(
    function: Callable[..., Any],
    *args: Any,
    expect: Sequence[str] | None = None,
    rtol: float = 0.0,
) -> Graph:
    """Lower and compare; `expect` is the list of operations."""
    args = tuple(jax.tree.map(jnp.asarray, a) for a in args)
    lowered = lower(function, *args)
    if expect is not None:
        assert ops(lowered.graph) == list(expect)
    compare(lowered, function, *args, rtol=rtol)
    return lowered.graph


def check_symbolic(
    function: Callable[..., Any],
    shapes: str,
    *samples: Sequence[Any],
    expect: Sequence[str] | None = None,
    rtol: float = 0.0,
) -> Graph:
    """One graph for all sizes: `shapes` is ``"B, 3; B"``, each sample a list of arguments."""
    scope = export.SymbolicScope()
    specs = [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(shape.strip(), scope=scope), jnp.asarray(x).dtype
        )
        for shape, x in zip(shapes.split(";"), samples[0], strict=True)
    ]
    lowered = lower(function, *specs)
    if expect is not None:
        assert ops(lowered.graph) == list(expect)
    for args in samples:
        compare(lowered, function, *map(jnp.asarray, args), rtol=rtol)
    return lowered.graph


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def whole(high: int, *shape: int, seed: int = 0, low: int = 0) -> np.ndarray:
    """int32 numbers from `low` to below `high`."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.int32)
