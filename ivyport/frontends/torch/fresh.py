"""What a fresh construction of the source puts into its parameters.

The model is built twice from its configuration, from different random numbers: what both have in
common is no draw. Large tensors that torch makes without values stay on the meta device, so that
a model of any size costs little.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ivyport.frontends.torch.provenance import marked

MOST_VALUES = 1 << 14  # larger tensors that are made without values, or drawn, get none
EMPTY = {torch.empty, torch.rand, torch.randn, torch.randint, torch.normal}
RANDOM, FIXED = "random", "fixed"


def initial_values(
    model: torch.nn.Module,
) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """What a parameter starts as, by path, and the configuration field that sets it, if one does.

    A number: every element is that number. ``"random"``: it is drawn. ``"fixed"``: it is always
    the same, but no one number. Large parameters of which nothing is known are left out.

    None for a model that is not built from one ``config`` argument, or cannot be.
    """
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return None, {}
    if not any(_asks(model, module) for module in model.modules()):
        return {}, {}
    values, fields = copy.deepcopy(config), {}
    one = _built(type(model), values, 0)
    changed, marks = marked(config)
    two = _built(type(model), changed, 1) if marks else None
    if two is None:
        two, marks = _built(type(model), copy.deepcopy(config), 1), {}
    if one is None or two is None:
        return None, {}
    found: dict[str, Any] = {}
    for path, tensor in one.items():
        other = two.get(path)
        if tensor.is_meta or other is None or other.is_meta or not tensor.numel():
            continue
        number, twin = _constant(tensor), _constant(other)
        if number is not None and twin is not None:
            field = _field(twin, tensor.dtype, marks)
            if number == twin or field is not None:
                found[path] = number
                if field is not None:
                    fields[path] = field
                continue
        found[path] = FIXED if torch.equal(tensor, other) else RANDOM
    return found, fields


def _asks(model: torch.nn.Module, module: torch.nn.Module) -> bool:
    """Whether a module has parameters that a port may have to give values by itself."""
    own = list(module.parameters(recurse=False))
    library = type(module).__module__.startswith("torch.nn.")
    return any(not p.requires_grad for p in own) or (bool(own) and not library)


def _constant(tensor: torch.Tensor) -> float | None:
    """The shortest number that all elements are, None if they are not one."""
    first = tensor.reshape(-1)[0]
    if not tensor.is_floating_point() or not bool((tensor == first).all()):
        return None
    number = float(first)
    for digits in range(1, 18):
        short = float(f"{number:.{digits}g}")
        if torch.tensor(short, dtype=tensor.dtype) == first:
            return short
    return number


def _field(number: float, dtype: torch.dtype, marks: dict[float, str]) -> str | None:
    """The field whose mark a number is, rounded to the parameter's dtype."""
    close = {
        field
        for mark, field in marks.items()
        if math.isclose(number, float(torch.tensor(mark, dtype=dtype)), rel_tol=1e-7)
    }
    return close.pop() if len(close) == 1 else None


class _Light(TorchFunctionMode):
    """Large tensors without values of their own are made on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in EMPTY and kwargs.get("device") is None:
            kwargs["device"] = "meta"
            made = func(*args, **kwargs)
            if made.numel() > MOST_VALUES:
                return made
            kwargs["device"] = "cpu"
            made = func(*args, **kwargs)
            # Memory that nobody sets must not look like a choice.
            return made.fill_(torch.nan) if func is torch.empty else made
        return func(*args, **kwargs)


def _built(
    cls: type[torch.nn.Module], config: Any, seed: int
) -> dict[str, torch.Tensor] | None:
    """The parameters of a fresh model, None if there is none."""
    try:
        with torch.random.fork_rng([]), _Light(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            twin = cls(config)
    # A class that needs more than a configuration proves nothing.
    except Exception:  # noqa: BLE001
        return None
    return {n: p.detach() for n, p in twin.named_parameters(remove_duplicate=False)}
