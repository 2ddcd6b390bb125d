"""Runs a torch module with every random draw fixed at one quantile of its distribution."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import NormalDist
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ivyport.verification.sides import NotFixed


class FixedDraws(TorchDispatchMode):
    """Draws give the `quantile`, a Bernoulli draw 1 where its probability is greater.

    Raises:
        NotFixed: when something else draws: a permutation, several samples of a multinomial.
    """

    def __init__(self, quantile: float) -> None:
        super().__init__()
        self._quantile = quantile
        self._normal = NormalDist().inv_cdf(quantile)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return made
        name = func.overloadpacket._qualified_op_name.partition("::")[2].rstrip("_")
        number = _NUMBERS.get(name)
        bound = _bound(func, args, kwargs or {})
        if bound.get("dropout_p") == 0:  # attention that may drop
            return made
        found = number(self, bound, made) if number else None
        if found is None:
            raise NotFixed(f"it draws random numbers by torch's {name}")
        return made.copy_(found.to(made.dtype))

    # ---- what each draw gives

    def uniform(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor:
        low, high = given.get("from", 0.0), given.get("to", 1.0)
        return torch.full_like(made, low + (high - low) * self._quantile)

    def normal(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor:
        mean, std = given.get("mean", 0.0), given.get("std", 1.0)
        return torch.zeros_like(made) + mean + self._normal * std

    def exponential(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor:
        number = -math.log1p(-self._quantile) / given.get("lambd", 1.0)
        return torch.full_like(made, number)

    def bernoulli(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor:
        p = given["p"] if "p" in given else given["self"]
        return torch.zeros_like(made) + (torch.as_tensor(p) > self._quantile)

    def randint(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor:
        low, high = given.get("low", 0), given["high"]
        return torch.full_like(made, low + int((high - low) * self._quantile))

    def multinomial(
        self, given: dict[str, Any], made: torch.Tensor
    ) -> torch.Tensor | None:
        """The most probable index, which comes first where all arrive as fast."""
        if given["num_samples"] != 1:
            return None
        best: torch.Tensor = given["self"].argmax(-1, keepdim=True)
        return best

    def rrelu(self, given: dict[str, Any], made: torch.Tensor) -> torch.Tensor | None:
        """Slopes in the middle of nothing: torch keeps them for the backward in `noise`."""
        if not given.get("training", False):
            return made
        low, high = given.get("lower", 1 / 8), given.get("upper", 1 / 3)
        slope = low + (high - low) * self._quantile
        x, noise = given["self"], given["noise"]
        with torch.no_grad():
            noise.copy_(torch.where(x > 0, 1.0, slope))
        return torch.where(x > 0, x, x * slope)


def drawing(quantile: float | None) -> AbstractContextManager[Any]:
    """Draws at the quantile, or as ever where it is None."""
    return nullcontext() if quantile is None else FixedDraws(quantile)


_Number = Callable[[FixedDraws, dict[str, Any], torch.Tensor], torch.Tensor | None]
_NUMBERS: dict[str, _Number] = {
    "rand": FixedDraws.uniform,
    "rand_like": FixedDraws.uniform,
    "uniform": FixedDraws.uniform,
    "randn": FixedDraws.normal,
    "randn_like": FixedDraws.normal,
    "normal": FixedDraws.normal,
    "normal_functional": FixedDraws.normal,
    "exponential": FixedDraws.exponential,
    "bernoulli": FixedDraws.bernoulli,
    "randint": FixedDraws.randint,
    "randint_like": FixedDraws.randint,
    "multinomial": FixedDraws.multinomial,
    "rrelu_with_noise": FixedDraws.rrelu,
}


def _bound(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by their names in the schema, defaults included."""
    found: dict[str, Any] = {}
    for argument, value in zip(func._schema.arguments, args, strict=False):
        found[argument.name] = value
    for argument in func._schema.arguments[len(args) :]:
        if argument.has_default_value():
            found[argument.name] = argument.default_value
    return {**found, **kwargs}
