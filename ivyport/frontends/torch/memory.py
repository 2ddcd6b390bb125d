"""What a forward keeps between calls in plain attributes of Python: no port has them.

Counters, caches and earlier results that are no buffers are constants for torch.export, which
puts them back (https://docs.pytorch.org/docs/stable/export.html). Attributes that nothing reads,
and caches that are made once, change nothing and are left out without a word.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram

from ivyport.core.errors import TraceError
from ivyport.frontends.torch.session import preserved, put_back_values

_SCALARS = (int, float, str, bool, type(None), torch.SymInt, torch.SymFloat)
_CONTAINERS = (list, dict, set, deque)
_STANDARD = frozenset(vars(torch.nn.Module()))

#: The attributes of each module, by its path.
Attributes = dict[str, dict[str, Any]]


def attributes(modules: Mapping[torch.nn.Module, tuple[str, ...]]) -> Attributes:
    """The plain attributes of all modules; containers are copied, with the same items."""
    return {
        paths[0]: {
            name: copy(value) if type(value) in _CONTAINERS else value
            for name, value in vars(module).items()
            if name not in _STANDARD
            if isinstance(value, (*_SCALARS, *_CONTAINERS, tuple, torch.Tensor))
        }
        for module, paths in modules.items()
    }


def assigned(before: Attributes, after: Attributes) -> list[str]:
    """Full names of the attributes that are new, or hold something else than before."""
    return [
        f"{path}.{name}" if path else name
        for path, found in after.items()
        for name, value in found.items()
        if not _same(before.get(path, {}).get(name, _STANDARD), value)
    ]


def _same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    if type(old) is not type(new) or isinstance(new, torch.Tensor):
        return False
    if isinstance(new, weakref.ReferenceType):  # `==` compares what they refer to
        return old() is new()
    if type(new) in (list, tuple, deque, dict):
        if len(old) != len(new):
            return False
        pairs = zip(_items(old), _items(new), strict=True)
        return all(_same(a, b) for a, b in pairs)
    return bool(old == new)


def _items(container: Any) -> list[Any]:
    if isinstance(container, dict):
        return [*container, *container.values()]
    return list(container)


def refuse_memory(
    model: torch.nn.Module, names: Iterable[str], given: Mapping[str, Any]
) -> None:
    """Raise TraceError where a second call on the same inputs gives another result.

    `names` are attributes that the forward assigns, and `given` the model's arguments. The model
    runs twice, with the same buffers and random numbers, and is left as it was. On the meta
    device nothing is compared.
    """
    listed = ", ".join(f"'{name}'" for name in names)
    tensors = [*model.parameters(), *model.buffers()]
    if not listed or any(t.is_meta for t in tensors):
        return
    with preserved(model):
        first = _called(model, given)
        second = None if first is None else _called(model, given)
    if first is None:
        return  # whatever fails is said where the source is run
    if second is not None and _alike(first, second):
        return
    mode = "train" if model.training else "eval"
    raise TraceError(
        f"{type(model).__name__} remembers earlier calls ({mode} mode): a second call on the same "
        f"inputs does not give the same result, for its forward assigns {listed}, and a port has "
        "no such attributes. Register what is kept as a buffer (self.register_buffer; a counter "
        "is torch.tensor(0)) and write to it in forward, or take it as an argument and return it"
    )


def written(program: ExportedProgram) -> list[str]:
    """Names of the plain tensor attributes that the captured forward writes to in place."""
    names = dict(program.graph_signature.inputs_to_lifted_tensor_constants)
    found = {}
    for node in program.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        for argument, value in zip(
            node.target._schema.arguments, node.args, strict=False
        ):
            if argument.alias_info is not None and argument.alias_info.is_write:
                name = names.get(_viewed(value).name)
                if name is not None:
                    found[name] = True
    return list(found)


def _viewed(node: fx.Node) -> fx.Node:
    """What a view, or the result of a write, is a view of."""
    while isinstance(node.target, torch._ops.OpOverload):
        returned = [r for r in node.target._schema.returns if r.alias_info is not None]
        if not returned or not node.all_input_nodes:
            break
        node = node.all_input_nodes[0]
    return node


def _called(
    model: torch.nn.Module, given: Mapping[str, Any]
) -> list[torch.Tensor] | None:
    """The tensors of one call, or None where it fails; parameters and buffers are put back."""
    tensors = [*model.parameters(), *model.buffers()]
    kept = [(t, t.detach().clone(), t._version) for t in tensors]
    copies = {
        name: value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in given.items()
    }
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        try:
            return [t.clone() for t in _tensors(model(**copies))]
        # The source's own code, of which anything may come.
        except Exception:  # noqa: BLE001
            return None
        finally:
            put_back_values(kept)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, tuple | list):
        for value in output:
            yield from _tensors(value)
    elif hasattr(output, "__dataclass_fields__"):
        yield from _tensors(vars(output))


def _alike(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(_close, first, second))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.allclose(a, b, rtol=1e-5, atol=1e-7, equal_nan=True)
