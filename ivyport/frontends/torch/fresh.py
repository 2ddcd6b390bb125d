"""What a fresh construction of the source puts into its parameters.

The model is built twice from its configuration, from different random numbers: what both have in
common is no draw.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from ivyport.frontends.torch.built import fresh
from ivyport.frontends.torch.provenance import marked

RANDOM, FIXED, SIDED = "random", "fixed", "sided"
SOME = 8  # so many draws around 0 have both signs


@dataclasses.dataclass
class Initial:
    """What parameters start as, by path.

    Attributes:
        found: a number: every element is that number. ``"random"``: it is drawn. ``"fixed"``: it is
            always the same, but no one number. ``"sided"``: it is drawn, but not around 0, as
            libraries draw. Large parameters of which nothing is known are left out. None for a
            model that is not built from one ``config`` argument, or cannot be.
        fields: the configuration field that sets the number, if one does.
        tables: the values of those that are ``"fixed"``.
    """

    found: dict[str, Any] | None = None
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    tables: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)


def initial_values(model: torch.nn.Module) -> Initial:
    """Build the model anew, twice, and once more with other floats in its configuration."""
    config = vars(model).get("config")
    if config is None or not callable(getattr(config, "to_dict", None)):
        return Initial()
    if not any(True for _ in model.parameters()):
        return Initial({})
    one, two = (_built(type(model), config, seed) for seed in (0, 1))
    if one is None or two is None:
        return Initial()
    changed, marks = marked(config)
    three = _built(type(model), changed, 1) if marks else None
    initial = Initial({})
    assert initial.found is not None
    for path, tensor in one.items():
        other = two.get(path)
        if other is None or not tensor.numel():
            continue
        number = _constant(tensor)
        if not torch.equal(tensor, other):
            initial.found[path] = SIDED if _sided(tensor, other) else RANDOM
        elif number is None:
            initial.found[path] = FIXED
            initial.tables[path] = tensor
        else:
            initial.found[path] = number
            twin = _constant(three[path]) if three and path in three else None
            field = None if twin is None else _field(twin, tensor.dtype, marks)
            if field is not None:
                initial.fields[path] = field
    return initial


def _sided(*draws: torch.Tensor) -> bool:
    """Whether all numbers of several draws have one sign."""
    if any(draw.is_complex() or draw.numel() < SOME for draw in draws):
        return False
    return all(bool((d > 0).all()) for d in draws) or all(
        bool((d < 0).all()) for d in draws
    )


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


def _built(
    cls: type[torch.nn.Module], config: Any, seed: int
) -> dict[str, torch.Tensor] | None:
    """The parameters of a fresh model, None if there is none.

    Large ones without values are left out; one that was set to one number stands for itself with
    one element.
    """
    made = fresh(cls, config, seed)
    if made is None:
        return None
    model, light = made
    found: dict[str, torch.Tensor] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        if not tensor.is_meta:
            found[name] = tensor.detach()
            continue
        number = light.numbers.get(tensor.untyped_storage()._cdata)
        if number is not None:
            found[name] = torch.full((1,), number, dtype=tensor.dtype)
    return found
