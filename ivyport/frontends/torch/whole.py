"""Lets torch.export see recurrent networks and distances whole, with their sizes free.

torch knows the shapes of their results by running its own definition of them in Python, step by
step, which makes the length of a sequence a constant and takes as long as it is. While a model is
captured, a definition that only makes results of the right shapes takes its place; where the model
differentiates in its forward, so that the parts of operations are recorded, it does not.
`cdist`, which computes the same in two ways, makes a condition of the number of rows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._C import DispatchKey
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental import proxy_tensor

aten = torch.ops.aten
_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)


def _shapes(
    x: torch.Tensor,
    hx: torch.Tensor | Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Results of the shapes and dtypes of a recurrent network's, with their gradients."""
    states = [hx] if isinstance(hx, torch.Tensor) else list(hx)
    size = states[0].shape[-1] * (2 if bidirectional else 1)
    # A sum has the gradient of all that flow into a result.
    flows = sum(t.sum() for t in (x, *states, *params))
    output = x.new_empty((*x.shape[:2], size)) + flows
    return output, *(s.new_empty(s.shape) + flows for s in states)


def _distances(
    x1: torch.Tensor, x2: torch.Tensor, p: float = 2.0, compute_mode: int | None = None
) -> torch.Tensor:
    flows = x1.sum() + x2.sum()
    lead = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    return x1.new_empty((*lead, x1.shape[-2], x2.shape[-2])) + flows


def _covariances(x: torch.Tensor, **_: Any) -> torch.Tensor:
    """torch's own definition warns by the number of observations, read from a tensor."""
    rows = x.shape[:1] if x.ndim == 2 else ()
    return x.new_empty((*rows, *rows)) + x.sum()


@contextlib.contextmanager
def operations_whole() -> Iterator[None]:
    """Replace torch's step-by-step definitions for as long as the context is open."""
    recurrent = (aten.lstm, aten.gru, aten.rnn_tanh, aten.rnn_relu)
    shapes: dict[Any, Callable[..., Any]] = {p.input: _shapes for p in recurrent}
    shapes[aten.cdist.default] = _distances
    shapes[aten.cov.default] = shapes[aten.corrcoef.default] = _covariances
    before = [(t, key, t.py_kernels.get(key)) for t in shapes for key in _KEYS]
    try:
        for target, key, kernel in before:
            _put(target, key, _whole(shapes[target], kernel or target.decompose))
        yield
    finally:
        for target, key, kernel in before:
            _put(target, key, kernel)


def _whole(shapes: Callable[..., Any], steps: Callable[..., Any]) -> Callable[..., Any]:
    """Shapes alone where an operation is recorded; all `steps` where its parts are."""

    @functools.wraps(steps)
    def kernel(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        recorded = proxy_tensor.get_proxy_mode() is None
        if recorded and isinstance(x, FakeTensor):
            return shapes(x, *args, **kwargs)
        return steps(x, *args, **kwargs)

    return kernel


def _put(target: Any, key: Any, kernel: Callable[..., Any] | None) -> None:
    if kernel is None:
        target.py_kernels.pop(key, None)
    else:
        target.py_kernels[key] = kernel
    target._dispatch_cache.clear()
