"""Leaves a model exactly as it was found, and torch quiet, while it is traced."""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import types
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

_REGISTRIES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_forward_hooks",
    "_forward_pre_hooks",
)

_CONTAINERS = (dict, list, set, OrderedDict, defaultdict)
_OF_MODULES = frozenset(vars(torch.nn.Module()))  # torch's own, hooks among them

# Attributes of a Hugging Face config, with the value that a capture needs. A cache
# object cannot be an output; records keep the names of the outputs; the eager experts
# of a mixture loop over data, and the grouped matrix product is the same sum.
_CONFIG_SWITCHES: dict[str, Any] = {"use_cache": False, "return_dict": True}
_EXPERTS = "_experts_implementation"
_EXPERTS_TRACED = "grouped_mm"


def hf_configs(model: torch.nn.Module) -> list[Any]:
    """Distinct Hugging Face configs of the modules, nested ones included."""
    if "transformers" not in sys.modules:
        return []
    from transformers import PreTrainedConfig

    found: dict[int, Any] = {}
    queue = [vars(module).get("config") for module in model.modules()]
    while queue:
        config = queue.pop()
        if isinstance(config, PreTrainedConfig) and id(config) not in found:
            found[id(config)] = config
            queue += list(vars(config).values())
    return list(found.values())


def switch_configs(model: torch.nn.Module) -> dict[str, Any]:
    """Set what a capture needs in the model's configs; call inside `preserved`.

    Returns the switches that had another value in the model's own config.
    """
    configs = hf_configs(model)
    own = [vars(c) for c in configs if c is vars(model).get("config")]
    switched = {
        name: value
        for name, value in _CONFIG_SWITCHES.items()
        if any(state.get(name, value) != value for state in own)
    }
    for config in configs:
        state = vars(config)
        for name, value in _CONFIG_SWITCHES.items():
            if name in state:
                setattr(config, name, value)
        if state.get(f"{_EXPERTS}_internal") == "eager":
            setattr(config, _EXPERTS, _EXPERTS_TRACED)
    for module in model.modules():
        # Recomputing activations saves memory and does not change the function.
        if vars(module).get("gradient_checkpointing") is True:
            module.gradient_checkpointing = False
    return switched


@contextlib.contextmanager
def preserved(model: torch.nn.Module) -> Iterator[None]:
    """Restore modules, configs, and the global random generators afterwards.

    Attributes that a forward assigns while it is traced (caches full of fake tensors,
    counters) are put back too, and so is what it puts into lists, dicts and sets that are
    attributes, or lie in such a one. Plain tensors among them, which are neither parameters
    nor buffers, get the values back that a forward overwrites; parameters and buffers are
    for the caller to copy.
    """
    modules = [(module, _snapshot(module)) for module in model.modules()]
    contents = _contents(module for module, _ in modules)
    tensors = plain_tensors(model)
    flags = [(tensor, tensor.requires_grad, tensor.grad) for tensor in _leaves(model)]
    configs = [(config, dict(vars(config))) for config in hf_configs(model)]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    # The fused encoder layer is one op without a gradient; trace its parts instead.
    torch.backends.mha.set_fastpath_enabled(False)
    # The order of an einsum of three operands is searched for with sizes as numbers.
    searches = torch.backends.opt_einsum.enabled
    torch.backends.opt_einsum.enabled = False
    try:
        with unvalidated():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        torch.backends.opt_einsum.enabled = searches
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for config, state in configs:
            _put_back(vars(config), state)
        for module, (state, registries, kept) in modules:
            _put_back(vars(module), state)
            for container, content in kept:
                _refill(container, content)
            for name, content in registries.items():
                _put_back_registry(vars(module)[name], content)
        for container, before in contents:
            _put_back_content(container, before)
        put_back_values(tensors)
        for tensor, requires, grad in flags:
            if tensor.requires_grad != requires:
                tensor.requires_grad_(requires)
            if tensor.grad is not grad:
                tensor.grad = grad


class _Trusting:
    """torch, of which no element of a tensor is ever asked."""

    any = staticmethod(lambda _: False)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def unvalidated() -> Iterator[None]:
    """Leave out torch's checks of values, which are branches that no user wrote.

    Distributions check their arguments unless told otherwise, and `gaussian_nll_loss` its
    variances.
    """
    distribution = torch.distributions.Distribution
    checks, loss = distribution._validate_args, F.gaussian_nll_loss
    names = {**loss.__globals__, "torch": _Trusting()}
    trusting = types.FunctionType(loss.__code__, names, argdefs=loss.__defaults__)
    # A tracer's mode sends the call through this name of its own.
    names["gaussian_nll_loss"] = trusting
    distribution.set_default_validate_args(False)
    F.gaussian_nll_loss = trusting
    try:
        yield
    finally:
        F.gaussian_nll_loss = loss
        distribution.set_default_validate_args(checks)


def plain_tensors(
    model: torch.nn.Module,
) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
    """Tensors in attributes that are neither parameters nor buffers, also in containers.

    Each with a copy of its values, and the number of writes to it so far. Those that hold no
    values (meta tensors, fake ones) are left out.
    """
    found: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if name in _OF_MODULES:
                continue
            for item in (value, *_items(value)):
                for tensor in (item, *_items(item)):
                    if isinstance(tensor, torch.Tensor):
                        found[id(tensor)] = tensor
    held = [t for t in found.values() if _has_values(t)]
    return [(t, t.detach().clone(), t._version) for t in held]


def put_back_values(kept: Iterable[tuple[torch.Tensor, torch.Tensor, int]]) -> None:
    """Give the tensors their values back that were written to since they were copied."""
    with torch.no_grad():
        for tensor, value, version in kept:
            if tensor._version != version:
                tensor.detach().copy_(value)


def _has_values(tensor: torch.Tensor) -> bool:
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    return plain and not tensor.is_meta and not tensor.is_inference()


def _leaves(model: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers, whose gradients and flags a forward can set."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        t
        for t in tensors
        if t.is_leaf and type(t) in (torch.Tensor, torch.nn.Parameter)
    ]


def _contents(modules: Iterable[torch.nn.Module]) -> list[tuple[Any, Any]]:
    """Plain containers in attributes of modules, one level of nested ones too, and copies."""
    found: dict[int, Any] = {}
    for module in modules:
        for name, value in vars(module).items():
            if name in _OF_MODULES:
                continue
            for container in (value, *_items(value)):
                if type(container) in _CONTAINERS:
                    found[id(container)] = container
    return [(container, container.copy()) for container in found.values()]


def _items(value: Any) -> Iterable[Any]:
    if type(value) not in (*_CONTAINERS, tuple):
        return ()
    return value.values() if isinstance(value, dict) else value


def _put_back_content(current: Any, before: Any) -> None:
    """Compare by identity: tensors have no plain equality."""
    if [*map(id, current)] == [*map(id, before)] and (
        not isinstance(current, dict) or _same(current, before)
    ):
        return
    current.clear()
    (current.extend if isinstance(current, list) else current.update)(before)


def _snapshot(
    module: torch.nn.Module,
) -> tuple[dict[str, Any], dict[str, Any], list[tuple[Any, Any]]]:
    state = dict(vars(module))
    registries = {name: state[name].copy() for name in _REGISTRIES if name in state}
    kept = [
        (value, value.copy())
        for name, value in state.items()
        if type(value) in (list, dict, set, deque) and name not in _REGISTRIES
    ]
    return state, registries, kept


def _refill(container: Any, content: Any) -> None:
    """Give a container of Python its content back, where a forward changed it."""
    if type(container) is list:
        container[:] = content
        return
    container.clear()
    (container.extend if type(container) is deque else container.update)(content)


def _put_back(current: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in current if name not in before]:
        del current[name]
    for name, value in before.items():
        if name not in current or current[name] is not value:
            current[name] = value


def _put_back_registry(current: Any, before: Any) -> None:
    if current == before if isinstance(current, set) else _same(current, before):
        return
    current.clear()
    current.update(before)


def _same(current: dict[str, Any], before: dict[str, Any]) -> bool:
    return list(current) == list(before) and all(
        current[name] is value for name, value in before.items()
    )


class _WithoutGraphs:
    """A text stream that drops the generated code which torch.export prints when it
    fails.

    There is no switch for that: `torch.export._trace` prints a partial graph, hundreds
    of lines, straight to `sys.stderr`.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._dropped = False

    def write(self, text: str) -> int:
        if text.lstrip().startswith("def forward(self, arg0_1"):
            self._dropped = True
            return len(text)
        # `print` writes its line end separately.
        if self._dropped and text == "\n":
            self._dropped = False
            return 1
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's loggers and all warnings: they dump whole graphs."""
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] == "torch"]
    loggers = [logging.getLogger(name) for name in ["torch", *names]]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stderr(_WithoutGraphs(sys.stderr)),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
