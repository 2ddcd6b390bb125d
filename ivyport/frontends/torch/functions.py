"""`torch.autograd.Function` of a model's own: forward and backward, each a graph of its own.

While a model is captured, a call of such a function is one node (`CALL`) whose last argument is
the number of its `Record`. Both passes are traced when that node is lowered, on the fake tensors
of the capture: the backward computes again what `ctx` kept.

https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-autograd
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx
from torch.autograd.function import _SingleLevelFunction
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree

from ivyport.core.errors import GraphError
from ivyport.frontends.torch.transforms import (
    NeedsAutograd,
    below_autograd,
    decompositions,
)

_library = torch.library.Library("ivyport", "DEF")
_library.define("custom_function(Tensor[] operands, int number) -> Tensor[]")
CALL = torch.ops.ivyport.custom_function.default
_RECORDS: list[Record] = []


class Context:
    """What `ctx` is to the code of a function, without autograd behind it."""

    def __init__(self, needs: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs
        self.saved_tensors: tuple[Any, ...] = ()
        self._without: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Nothing: there is no forward mode."""

    def set_materialize_grads(self, value: bool) -> None:
        """Nothing: gradients are always tensors."""

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self._without = tensors

    def mark_dirty(self, *tensors: Any) -> None:
        raise GraphError("its forward writes to an argument in place (ctx.mark_dirty)")


@dataclasses.dataclass(frozen=True)
class Record:
    """One call: the function's class and its arguments, tensors among them replaced."""

    cls: Any
    leaves: tuple[Any, ...]
    spec: Any
    places: tuple[int, ...]  # of the tensors among the leaves

    @property
    def name(self) -> str:
        """The class's name."""
        return str(self.cls.__name__)

    @property
    def argument_names(self) -> list[str]:
        """What the function's forward calls its tensors."""
        names = [
            n for n in inspect.signature(self.cls.forward).parameters if n != "ctx"
        ]
        skipped = 0 if self._has_setup() else 1
        given = list(inspect.signature(self.cls.forward).parameters)[skipped:]
        names = given if len(given) >= len(self.leaves) else names
        return [names[i] if i < len(names) else f"x_{i}" for i in self.places]

    def _has_setup(self) -> bool:
        return bool(self.cls.setup_context is not _SingleLevelFunction.setup_context)

    def _arguments(self, tensors: Sequence[Any]) -> list[Any]:
        leaves = list(self.leaves)
        for place, tensor in zip(self.places, tensors, strict=True):
            leaves[place] = tensor
        found: list[Any] = _pytree.tree_unflatten(leaves, self.spec)
        return found

    def run(self, tensors: Sequence[Any]) -> tuple[Context, Any]:
        """The forward on other tensors; what it kept, and its result."""
        arguments = self._arguments(tensors)
        needs = tuple(
            isinstance(a, torch.Tensor) and a.is_floating_point() for a in arguments
        )
        context = Context(needs)
        if not self._has_setup():
            return context, self.cls.forward(context, *arguments)
        result = self.cls.forward(*arguments)
        self.cls.setup_context(context, tuple(arguments), result)
        return context, result

    def forward(self, tensors: Sequence[Any]) -> list[Any]:
        """The results, a flat list of tensors."""
        result = self.run(tensors)[1]
        results = [result] if isinstance(result, torch.Tensor) else list(result)
        if not all(isinstance(r, torch.Tensor) for r in results):
            raise GraphError("it returns something that is no tensor")
        # A result that is an argument is a tensor of its own to autograd.
        return [r.view_as(r) if any(r is t for t in tensors) else r for r in results]

    def backward(self, tensors: Sequence[Any], gradients: Sequence[Any]) -> list[Any]:
        """The gradient of each tensor argument, None for those without."""
        context, _ = self.run(tensors)
        found = self.cls.backward(context, *gradients)
        found = list(found) if isinstance(found, tuple | list) else [found]
        arguments = self._arguments(tensors)
        found += [None] * (len(arguments) - len(found))
        made: list[Any] = []
        for tensor in tensors:
            at = next((i for i, a in enumerate(arguments) if a is tensor), None)
            gradient = None if at is None else found[at]
            carries = tensor.is_floating_point() or tensor.is_complex()
            made.append(gradient if carries else None)
        return made


@torch.library.register_fake("ivyport::custom_function", lib=_library)
def _results(operands: list[torch.Tensor], number: int) -> list[torch.Tensor]:
    # The tracer must not see the modes that the function's own code enters.
    with torch._C.DisableTorchFunction(), torch.no_grad():
        results = _RECORDS[number].forward(operands)
        return [torch.empty_like(r) for r in results]


def called(cls: Any, args: tuple[Any, ...]) -> Any:
    """A call of a function while it is captured: one node."""
    leaves, spec = _pytree.tree_flatten(list(args))
    places = tuple(i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor))
    tensors = [leaves[i] for i in places]
    kept = tuple(None if i in places else x for i, x in enumerate(leaves))
    record = Record(cls, kept, spec, places)
    _RECORDS.append(record)
    results = CALL(tensors, len(_RECORDS) - 1)
    shaped = isinstance(_single(record, tensors), torch.Tensor)
    return results[0] if shaped else tuple(results)


def _single(record: Record, tensors: list[Any]) -> Any:
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    with (
        torch._C.DisableTorchFunction(),
        disable_proxy_modes_tracing(),
        torch.no_grad(),
    ):
        return record.run(tensors)[1]


def record_of(number: int) -> Record:
    """The call that a node stands for."""
    return _RECORDS[number]


def passes(record: Record, tensors: Sequence[Any]) -> tuple[Any, Any]:
    """Both passes as fx graphs: of the tensors, and of those and the results' gradients.

    Raises:
        GraphError: the code of the function cannot be traced.
    """
    try:
        forward = _traced(lambda *xs: record.forward(xs), tensors)
        shapes = [n.meta["val"] for n in _outputs(forward)]
        gradients = [torch.empty_like(v) for v in shapes]
        count = len(tensors)
        backward = _traced(
            lambda *xs: record.backward(xs[:count], xs[count:]), [*tensors, *gradients]
        )
    except GraphError as error:
        raise GraphError(f"autograd.Function {record.name}: {error}") from None
    # Code of the user's runs here: whatever it raises says that it cannot be captured.
    except Exception as error:  # noqa: BLE001
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GraphError(
            f"the backward of autograd.Function {record.name} cannot be captured: {text}"
        ) from None
    return forward, backward


def _traced(function: Callable[..., Any], tensors: Sequence[Any]) -> fx.GraphModule:
    detached = [t.detach() for t in tensors]

    def below(*tensors: Any) -> Any:
        with below_autograd():
            return function(*tensors)

    with torch.no_grad():
        try:
            made = make_fx(function, decompositions(), pre_dispatch=True)(*detached)
        # A pass that differentiates: the operations of that derivative are recorded, too.
        except NeedsAutograd:
            made = make_fx(below, decompositions(), pre_dispatch=True)(*detached)
    for node in list(made.graph.nodes):
        # Neither pass is differentiated again.
        if node.target is torch._C._set_grad_enabled:
            made.graph.erase_node(node)
    made.graph.eliminate_dead_code()
    for node in made.graph.nodes:
        if node.op == "get_attr":
            raise GraphError(
                "it uses a tensor that is none of its arguments: hand it to apply()"
            )
    return made


def _outputs(module: fx.GraphModule) -> list[fx.Node]:
    output = next(n for n in module.graph.nodes if n.op == "output")
    return list(output.args[0])
