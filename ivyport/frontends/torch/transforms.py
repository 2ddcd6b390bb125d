"""Derivatives and `vmap` inside of a forward, traced as the operations that they compute.

torch.export records a model above autograd and functorch, so that `linear` stays one operation;
what `torch.vmap`, `torch.func.grad`, `jvp`, `vjp`, `jacrev` or `torch.autograd.grad` do is then no
operation at all. While one of them runs (`vmap`, `grad`, `jvp`), or while the module runs that
calls one which needs what autograd has recorded before (`vjp`, `autograd.grad`), the same tracer
records *below* autograd and functorch: the operations of the derivative, each with its module.

Sources: https://docs.pytorch.org/docs/stable/func.api.html,
https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch._functorch import apis, eager_transforms
from torch.fx.experimental import proxy_tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

# Functions that are done when they return, by the module whose global they are.
_REGIONS = (
    (apis, "vmap_impl"),
    (eager_transforms, "vmap_impl"),
    (eager_transforms, "grad_impl"),
    (eager_transforms, "grad_and_value_impl"),
    (eager_transforms, "_jvp_with_argnums"),
)
_NO_BACKWARD = (
    "the forward calls backward(), which writes gradients into .grad instead of returning them: "
    "use torch.autograd.grad(loss, tensors) there, or port the module that computes the loss and "
    "differentiate the port (jax.grad, torch.autograd.grad)"
)


class NeedsAutograd(BaseException):
    """A forward asks autograd for what it has recorded; no `except Exception` may hold it up."""


def _above() -> proxy_tensor.ProxyTorchDispatchMode | None:
    """The mode that records above autograd, if it is that one which records now."""
    mode = proxy_tensor.get_proxy_mode()
    return mode if mode is not None and mode.pre_dispatch else None


@contextlib.contextmanager
def below_autograd() -> Iterator[None]:
    """Record with the tracer that is at work, but what autograd and functorch make of calls."""
    mode = _above()
    if mode is None:
        yield
        return
    inner = proxy_tensor.ProxyTorchDispatchMode(
        mode.tracer,
        mode.tracing_mode,
        pre_dispatch=False,
        _allow_fake_constant=mode._allow_fake_constant,
    )
    with (
        proxy_tensor.disable_proxy_modes_tracing(),
        proxy_tensor._temp_remove_pre_dispatch_torch_function_mode(),
        inner,
        proxy_tensor.decompose(decompositions()),
        _OutOfPlace(),
    ):
        yield


class _OutOfPlace(TorchFunctionMode):
    """`linear` of one vector adds its bias in place, whose derivative writes by strides."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.nn.functional.linear:
            x, weight, bias = _linear(*args, **(kwargs or {}))
            if x.dim() == 1 and weight.dim() == 2:
                product = weight @ x
                return product if bias is None else product + bias
        return func(*args, **(kwargs or {}))


def _linear(input: Any, weight: Any, bias: Any = None) -> tuple[Any, Any, Any]:
    return input, weight, bias


@functools.cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """torch's own definitions of operations that have no rule here."""
    from ivyport.frontends.torch import registry, rules

    known = registry.RULES.keys() | registry.RENAMED.keys() | rules.INPLACE.keys()
    table = {
        target: definition
        for target, definition in torch._decomp.decomposition_table.items()
        if isinstance(target, torch._ops.OpOverload) and target not in known
        if target._schema.name not in rules.NAMED
        # Those in terms of torch's own primitives have no rules either.
        if not definition.__module__.startswith("torch._refs")
    }
    aten = torch.ops.aten
    return table | {
        aten._efficientzerotensor.default: _zeros,
        aten._new_zeros_with_same_feature_meta.default: _zeros_like,
        aten.native_layer_norm.default: _layer_norm,
    }


def _zeros_like(
    batched: torch.Tensor, like: torch.Tensor, *, self_num_batch_dims: int = 0
) -> torch.Tensor:
    """A zero tangent of `like`, with the batch axes of another one."""
    return like.new_zeros((*batched.shape[:self_num_batch_dims], *like.shape))


def _layer_norm(
    x: torch.Tensor, shape: Any, weight: Any, bias: Any, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `layer_norm` is below autograd: with the statistics that its derivative takes."""
    axes = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(axes, keepdim=True)
    rstd = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + eps)
    out = (x - mean) * rstd
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias, mean, rstd


def _zeros(size: Any, *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    """A tangent that is zero, which functorch does not spell out."""
    return torch.zeros(size, dtype=dtype, device=device)


def _basis(
    tensors: Sequence[torch.Tensor], sizes: Sequence[int], chunk_size: int | None = None
) -> Iterator[tuple[torch.Tensor, ...]]:
    """The standard basis that `jacrev` and `jacfwd` run over, without writes into views."""
    whole = sum(sizes)
    rows = chunk_size or whole
    one = torch.eye(whole, dtype=tensors[0].dtype, device=tensors[0].device)
    for start in range(0, whole, rows):
        chunk = one[start : start + rows]
        parts = chunk.split(list(sizes), dim=1)
        yield tuple(
            part.to(t.dtype).reshape(chunk.shape[0], *t.shape)
            for part, t in zip(parts, tensors, strict=True)
        )


@contextlib.contextmanager
def transforms_traced() -> Iterator[None]:
    """Let derivatives and `vmap` be traced, wherever a model calls them from."""
    replaced: list[tuple[Any, str, Any]] = [
        (holder, name, _region(getattr(holder, name)))
        for holder, name in _REGIONS
        if hasattr(holder, name)
    ]
    vjp, engine = "_vjp_with_argnums", "_engine_run_backward"
    replaced += [
        (eager_transforms, vjp, _inside(getattr(eager_transforms, vjp))),
        (torch.autograd, engine, _gradient(getattr(torch.autograd, engine))),
        (eager_transforms, "_chunked_standard_basis_for_", _basis),
    ]
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in replaced]
    try:
        for holder, name, function in replaced:
            setattr(holder, name, function)
        yield
    finally:
        for holder, name, function in before:
            setattr(holder, name, function)


def _region(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def region(*args: Any, **kwargs: Any) -> Any:
        with below_autograd():
            return function(*args, **kwargs)

    return region


def _inside(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, in a module whose forward is traced below autograd from its beginning."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        if _above() is not None:
            raise NeedsAutograd
        return function(*args, **kwargs)

    return inside


def _gradient(engine: Callable[..., Any]) -> Callable[..., Any]:
    """What `torch.autograd.grad` and `backward` call.

    A gradient that was asked for without `create_graph` is a constant for the next derivative.
    """

    @functools.wraps(engine)
    def gradient(
        outputs: Any,
        gradients: Any,
        keep: bool,
        create: bool,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if proxy_tensor.get_proxy_mode() is None:
            return engine(outputs, gradients, keep, create, *args, **kwargs)
        if kwargs.get("accumulate_grad", args[2] if len(args) > 2 else False):
            raise Refused(_NO_BACKWARD)
        if _above() is not None:
            raise NeedsAutograd
        found = engine(outputs, gradients, keep, create, *args, **kwargs)
        if create:
            return found
        return _pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, found)

    return gradient


class Refused(RuntimeError):
    """Explained by `errors.trace_error`, which knows the module and the line."""


__all__ = ["NeedsAutograd", "Refused", "below_autograd", "transforms_traced"]
