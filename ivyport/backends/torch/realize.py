"""From emitted source to a live torch module: compile it, build it on meta, fill it in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ivyport.backends.compiling import (
    compile_source,
    demand_same,
    factory,
    load_source,
    on_save,
    opener,
)
from ivyport.core.dtype import to_numpy

Make = Callable[[], nn.Module]

__all__ = [
    "Make",
    "compile_source",
    "factory",
    "fill",
    "load_source",
    "names",
    "namespace",
    "on_save",
    "opener",
    "settle_names",
    "state",
]


def settle_names(targets: Iterable[str], make: Make) -> dict[str, str]:
    """The name under which a file holds the tensor of each attribute path.

    They differ where one tensor is reached by several paths: the first one counts.
    """
    names = _first_names(_abstract(make))
    return {target: names.get(target, target) for target in targets}


def names(make: Make, targets: Iterable[str] = ()) -> set[str]:
    """The names of the model's parameters and buffers, each tied one once.

    `targets`, those that operations read, are among them.
    """
    return set(_first_names(_abstract(make)).values())


def fill(make: Make, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """The model with copies of `arrays` as parameters and buffers, in eval mode.

    Nothing is initialised at random first. Tensors that are tied stay one tensor.

    Raises:
        WeightsError: names or shapes differ, all of them listed.
    """
    model = _abstract(make)
    held, names = model.state_dict(keep_vars=True), _first_names(model)
    arrays = {**_counters(names.values()), **arrays}
    demand_same(
        {first: tuple(held[first].shape) for first in names.values()},
        {name: tuple(array.shape) for name, array in arrays.items()},
    )
    filled = {name: _like(held[name], _tensor(array)) for name, array in arrays.items()}
    state = {name: filled[first] for name, first in names.items()}
    model.load_state_dict(state, strict=True, assign=True)
    _compute_buffers(model, make)
    return model.eval()


def train_modules(
    model: nn.Module, paths: Iterable[str], known: Collection[str]
) -> None:
    """Put single modules in train mode, with the dropouts of their own code.

    `known` are the paths of all modules that the source has.
    """
    for path in paths:
        module = model.get_submodule(path)
        module.training = True
        for name, child in module.named_children():
            if f"{path}.{name}".lstrip(".") not in known:
                child.training = True


def state(model: nn.Module) -> dict[str, np.ndarray]:
    """The model's parameters and buffers by name, each tied one once, as they are now."""
    held = model.state_dict()
    return {first: _array(held[first]) for first in _first_names(model).values()}


def _counters(names: Iterable[str]) -> dict[str, np.ndarray]:
    """The step counters of batch norms, which few sources have and nothing depends on."""
    counters = (n for n in names if n.rpartition(".")[2] == "num_batches_tracked")
    return {name: np.zeros((), np.int64) for name in counters}


def _abstract(make: Make) -> nn.Module:
    with torch.device("meta"):
        return make()


def _first_names(model: nn.Module) -> dict[str, str]:
    """The first name of the tensor behind each name of the model's state."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: first.setdefault(id(tensor), name) for name, tensor in state.items()}


def _tensor(array: np.ndarray) -> torch.Tensor:
    """A copy: training must not change the source's own arrays."""
    if array.dtype == to_numpy("bfloat16"):
        bits = np.array(array.view(np.int16), order="C")
        return torch.from_numpy(bits).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def _array(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(to_numpy("bfloat16"))
    return tensor.numpy()


def _like(held: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` as the kind of thing that it replaces; one object, so that ties last."""
    if isinstance(held, nn.Parameter):
        return nn.Parameter(tensor, requires_grad=held.requires_grad)
    return tensor


def _compute_buffers(model: nn.Module, make: Make) -> None:
    """Give values to the buffers that no file holds: the constructor computes them."""
    if not any(buffer.is_meta for buffer in model.buffers()):
        return
    computed = dict(make().named_buffers())
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.is_meta:
                setattr(module, name, computed[f"{path}.{name}" if path else name])


def namespace(model: nn.Module) -> dict[str, Any]:
    """The names of the file that the model's class is in."""
    return type(model).__init__.__globals__
