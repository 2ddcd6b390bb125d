"""Gradients of a torch module and of its ports, by the source's own names."""

from __future__ import annotations

import linecache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

import ivyport
from ivyport import api

TARGETS = ("jax", "torch")
INPUT = "input"


def example(*shape: int) -> torch.Tensor:
    """A normal tensor, the same one each time."""
    return torch.from_numpy(np.random.default_rng(7).normal(size=shape)).float()


def weights_of(shape: Any) -> np.ndarray:
    """Weights of the scalar that is differentiated: no two alike."""
    count = int(np.prod(shape))
    return (np.linspace(-1, 2, count).reshape(shape) + 0.1).astype(np.float32)


def of_torch(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Gradients by name; a parameter that does not train is left out, one unreached is 0."""
    x = x.clone()
    if x.is_floating_point():
        x.requires_grad_()
    model.zero_grad()
    y = model(x)
    if y.requires_grad:
        (y * torch.from_numpy(weights_of(y.shape))).sum().backward()
    found = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if x.requires_grad:
        found[INPUT] = x
    return {
        n: np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy().copy()
        for n, p in found.items()
    }


def of_nnx(ported: nnx.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Gradients by the names of the source, of what `nnx.grad` differentiates by default."""
    mapped = api._known(ported).weights

    def loss(model: Any, x: Any) -> Any:
        y = model(x)
        return jnp.sum(y * weights_of(y.shape))

    given = jnp.asarray(x.numpy())
    gradients = nnx.grad(loss)(ported, given)
    by_name = {
        ".".join(map(str, path)): np.asarray(v.get_value())
        for path, v in nnx.to_flat_state(gradients)
    }
    rows = [row for row in mapped.rows if row.target in by_name]
    assert len({row.target for row in rows}) == len(by_name)
    found = {row.source: mapped.read_source(row.source, by_name) for row in rows}
    if x.is_floating_point():
        found[INPUT] = np.asarray(jax.grad(lambda x: loss(ported, x))(given))
    return found


def ports(model: nn.Module, x: torch.Tensor, **options: Any) -> dict[str, Any]:
    """The port to each target, with its gradients compared to the source's."""
    model.eval()
    found = {to: ivyport.transpile(model, to, (x,), **options) for to in TARGETS}
    expected = of_torch(model, x)
    for to, ported in found.items():
        actual = of_nnx(ported, x) if to == "jax" else of_torch(ported, x)
        demand(actual, expected)
    return found


def demand(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Equal names, and values within rounding; what no output depends on may be left out."""
    reached = {name for name, gradient in expected.items() if gradient.any()}
    assert reached <= set(actual) <= set(expected)
    expected = {name: expected[name] for name in actual}
    for name, gradient in expected.items():
        scale = max(float(np.abs(gradient).max(initial=0)), 1e-3)
        assert np.abs(actual[name] - gradient).max(initial=0) <= 1e-5 * scale, name
        # A gradient that is stopped is zero, not small.
        assert not actual[name][gradient == 0].any(), name


def text_of(ported: Any) -> str:
    """The emitted file."""
    method = "forward" if isinstance(ported, nn.Module) else "__call__"
    code = getattr(type(ported), method).__code__
    return "".join(linecache.getlines(code.co_filename))
