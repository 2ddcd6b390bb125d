"""Ports of small functions, compared with their source: values, dtypes and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

import ivyport
from tests.support import as_numpy, as_torch, assert_close


class Function(nn.Module):
    """A function as a module without parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Any, b: Any = None, c: Any = None, d: Any = None) -> Any:
        return self.function(*(x for x in (a, b, c, d) if x is not None))


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    """What results are multiplied by for a scalar: all different."""
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)


def check_to_torch(
    function: Callable[..., Any],
    *args: Any,
    gradient: bool = True,
    rtol: float = 1e-6,
    dims: Any = None,
) -> Any:
    """Port a JAX function to torch and compare; the port."""
    args = tuple(jnp.asarray(a) for a in args)
    port = ivyport.transpile(function, "torch", args, dims=dims, train=False)
    tensors = [as_torch(np.array(a)) for a in args]
    wanted, found = jax.tree.leaves(function(*args)), port(*tensors)
    found = jax.tree.leaves(found)
    assert len(wanted) == len(found)
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=rtol)
    floats = [i for i, a in enumerate(args) if jnp.issubdtype(a.dtype, jnp.floating)]
    if (
        gradient
        and floats
        and any(y.dtype.kind in "fV" for y in map(np.asarray, wanted))
    ):
        _compare_gradients(function, port, args, floats, rtol)
    return port


def _compare_gradients(
    function: Any, port: Any, args: Any, floats: list[int], rtol: float
) -> None:
    def total(*values: Any) -> Any:
        held = list(args)
        for i, value in zip(floats, values, strict=True):
            held[i] = value
        leaves = [
            y
            for y in jax.tree.leaves(function(*held))
            if jnp.issubdtype(y.dtype, jnp.floating)
        ]
        return sum((y * _weights(y.shape)).sum() for y in leaves)

    argnums = tuple(range(len(floats)))
    wanted = jax.grad(total, argnums)(*(args[i] for i in floats))
    tensors = [as_torch(np.array(a)) for a in args]
    for i in floats:
        tensors[i].requires_grad_()
    leaves = [y for y in jax.tree.leaves(port(*tensors)) if y.is_floating_point()]
    loss = sum((y * torch.as_tensor(_weights(tuple(y.shape)))).sum() for y in leaves)
    found = torch.autograd.grad(loss, [tensors[i] for i in floats])
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs, rtol=10 * rtol)


def check_to_jax(
    function: Callable[..., Any] | nn.Module,
    *args: torch.Tensor,
    gradient: bool = True,
    rtol: float = 1e-6,
    narrow: bool = True,
) -> Any:
    """Port a function of torch to JAX and compare, eagerly and under jit; the port."""
    model = function if isinstance(function, nn.Module) else Function(function)
    model.eval()
    port = ivyport.transpile(model, "jax", args, train=False)
    arrays = [jnp.asarray(as_numpy(a)) for a in args]
    wanted = jax.tree.leaves(model(*args))
    for run in (port, jax.jit(lambda *a: port(*a))):
        found = jax.tree.leaves(run(*arrays))
        assert len(found) == len(wanted)
        for ours, theirs in zip(found, wanted, strict=True):
            assert_close(ours, theirs, rtol=rtol, narrow=narrow)
    floats = [i for i, a in enumerate(args) if a.is_floating_point()]
    if gradient and floats and any(y.is_floating_point() for y in wanted):
        _compare_torch_gradients(model, port, args, arrays, floats, rtol, narrow)
    return port


def _compare_torch_gradients(
    model: Any, port: Any, args: Any, arrays: Any, floats: list[int], rtol: float,
    narrow: bool,
) -> None:  # fmt: skip
    tensors = [a.clone() for a in args]
    for i in floats:
        tensors[i].requires_grad_()
    leaves = [y for y in jax.tree.leaves(model(*tensors)) if y.is_floating_point()]
    loss = sum((y * torch.as_tensor(_weights(tuple(y.shape)))).sum() for y in leaves)
    wanted = torch.autograd.grad(loss, [tensors[i] for i in floats])

    def total(*values: Any) -> Any:
        held = list(arrays)
        for i, value in zip(floats, values, strict=True):
            held[i] = value
        found = [
            y
            for y in jax.tree.leaves(port(*held))
            if jnp.issubdtype(y.dtype, jnp.floating)
        ]
        return sum((y * _weights(y.shape)).sum() for y in found)

    argnums = tuple(range(len(floats)))
    for step in (jax.grad(total, argnums), jax.jit(jax.grad(total, argnums))):
        found = step(*(arrays[i] for i in floats))
        for ours, theirs in zip(found, wanted, strict=True):
            assert_close(ours, theirs, rtol=10 * rtol, narrow=narrow)
