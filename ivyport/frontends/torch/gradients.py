"""What a capture must see of a model's gradients: stops that leave no node, and hooks.

`torch.export` records `detach` and `no_grad`. It loses what autograd does behind its back, so
while a model is captured:

- ``x.data`` of a traced tensor is ``x.detach()``, which is what it means for gradients;
- `torch.inference_mode` is `torch.no_grad`;
- `torch.utils.checkpoint` of the reentrant kind runs its function: what it saves is memory;
- a `torch.autograd.Function` is one node, whose passes are traced apart (`functions`);
- gradient hooks are refused where they are registered.

Hooks that a model already carries are refused by `refuse_hooks`.

Sources: https://docs.pytorch.org/docs/stable/notes/autograd.html,
https://docs.pytorch.org/docs/stable/generated/torch.Tensor.register_hook.html.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch.autograd.function import _SingleLevelFunction
from torch.autograd.grad_mode import inference_mode
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.utils import _pytree
from torch.utils.checkpoint import CheckpointFunction

from ivyport.core.errors import TraceError
from ivyport.frontends.nested import qualified_name
from ivyport.frontends.torch.functions import called

_SKIPPED = (str(Path(torch.__file__).parent), str(Path(__file__).parent), "<")
_HOOKS = ("register_hook", "register_post_accumulate_grad_hook")
_WAY_OUT = (
    "it runs in torch's backward pass, which a port does not have. Remove it for the port; "
    "what it does to a gradient can be written as a torch.autograd.Function, which is ported"
)
_MODULE_HOOKS = {
    "_backward_hooks": "a backward hook",
    "_backward_pre_hooks": "a backward pre-hook",
}
_TENSOR_HOOKS = {
    "_backward_hooks": "a gradient hook",
    "_post_accumulate_grad_hooks": "a gradient hook",
}


def refuse_hooks(model: torch.nn.Module) -> None:
    """Refuse hooks on the backward pass of `model`, its modules and its parameters.

    Raises:
        TraceError: naming the modules and parameters that have such hooks.
    """
    found = []
    for path, module in model.named_modules():
        cls = qualified_name(type(module))
        found += [
            f"module {path or '(the model)'} ({cls}) has {kind}"
            for name, kind in _MODULE_HOOKS.items()
            if getattr(module, name, None)
        ]
    for path, parameter in model.named_parameters():
        kinds = {
            k for name, k in _TENSOR_HOOKS.items() if getattr(parameter, name, None)
        }
        found += [f"parameter {path} has {kind}" for kind in sorted(kinds)]
    if found:
        raise TraceError(f"{'; '.join(found)}: {_WAY_OUT}")


def is_traced(value: Any) -> bool:
    """Whether a tensor is one that the running capture follows."""
    mode = get_proxy_mode()
    if mode is None or not isinstance(value, torch.Tensor):
        return False
    return get_proxy_slot(value, mode.tracer, None) is not None


def source_line() -> str:
    """File and line of the model's code that is running, ' at FILE:LINE'; '' if none is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_SKIPPED):
            return f" at {frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@contextlib.contextmanager
def visible(where: Callable[[], str | None]) -> Iterator[None]:
    """Make gradients visible to a capture; `where` tells the module that is running.

    Raises, from within: TraceError, for a gradient hook and for a write to ``.data``.
    """

    def refuse(what: str, way_out: str = _WAY_OUT) -> NoReturn:
        place = where() or "the model"
        raise TraceError(f"{place} registers {what}{source_line()}: {way_out}")

    with contextlib.ExitStack() as stack:
        for name in _HOOKS:
            _patch(stack, torch.Tensor, name, _hook(name, refuse))
        _patch(stack, torch.Tensor, "data", _data(where))
        _patch(stack, _SingleLevelFunction, "apply", classmethod(_apply))
        _patch(stack, inference_mode, "__enter__", _enter)
        _patch(stack, inference_mode, "__exit__", _exit)
        yield


def _patch(stack: contextlib.ExitStack, owner: type, name: str, new: Any) -> None:
    """``owner.name`` is `new` until the stack is closed."""
    own = vars(owner).get(name)
    if name in vars(owner):
        stack.callback(setattr, owner, name, own)
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, new)


def _hook(name: str, refuse: Callable[[str], NoReturn]) -> Callable[..., Any]:
    original = getattr(torch.Tensor, name)

    def register(self: torch.Tensor, hook: Any) -> Any:
        if is_traced(self):
            refuse(f"a gradient hook (Tensor.{name})")
        return original(self, hook)

    return register


def _data(where: Callable[[], str | None]) -> property:
    """`Tensor.data`, seen by the tracer."""
    original: Any = torch.Tensor.data

    def get(self: torch.Tensor) -> torch.Tensor:
        return self.detach() if is_traced(self) else original.__get__(self)

    def put(self: torch.Tensor, new: torch.Tensor) -> None:
        if is_traced(self) or is_traced(new):
            place = where() or "the model"
            raise TraceError(
                f"{place} assigns to .data{source_line()}: a tensor that gets another one's "
                "memory behind autograd's back cannot be ported. Give the new value a name "
                "of its own: h = h + (new - h).detach() keeps the gradient of h"
            )
        original.__set__(self, new)

    return property(get, put)


def _apply(cls: Any, *args: Any) -> Any:
    """What `Function.apply` of every class ends in, also where a model keeps it bound."""
    if cls is CheckpointFunction and any(map(is_traced, args)):
        function, _, *rest = args
        return function(*rest)
    if any(map(is_traced, _pytree.tree_leaves(args))):
        return called(cls, args)
    return vars(torch._C._FunctionBase)["apply"].__get__(None, cls)(*args)


def _enter(self: Any) -> None:
    self._ivyport_no_grad = torch.no_grad() if self.mode else contextlib.nullcontext()
    self._ivyport_no_grad.__enter__()


def _exit(self: Any, *error: Any) -> None:
    self._ivyport_no_grad.__exit__(*error)
    del self._ivyport_no_grad
