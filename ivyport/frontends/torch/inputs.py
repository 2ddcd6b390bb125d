"""Example inputs of a torch model: bound to its `forward`, named, and handed to an export.

torch.export takes tensors by name best; structures of them go through a wrapper of the model's
forward that takes the tensors alone.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx

from ivyport.core.errors import InputError
from ivyport.frontends.nested import (
    Given,
    Opaque,
    as_call,
    given_arguments,
    leaf_names,
    refill,
)
from ivyport.frontends.torch import dims as dims_
from ivyport.frontends.torch.session import switch_configs
from ivyport.frontends.torch.statistics import spell_out
from ivyport.frontends.torch.structure import SCALARS, describe

_PLAIN = (torch.Tensor, *SCALARS)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Example inputs, bound to the names of `forward`.

    `given` are the arguments in the order of the signature; `leaves` the tensors in them by
    names of their own.
    """

    given: tuple[Given, ...]
    leaves: dict[str, torch.Tensor]

    @property
    def nested(self) -> bool:
        """Whether an argument is more than a tensor or a constant that export takes."""
        return any(
            one.kind != "positional"
            or one.nameless
            or not isinstance(one.value, _PLAIN)
            for one in self.given
        )

    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of the model."""
        return as_call(self.given)

    def exported(self) -> dict[str, Any]:
        """The keyword arguments that export is called with: see `_flatten_forward`."""
        if self.nested:
            return dict(self.leaves)
        return {one.name: one.value for one in self.given}

    def refilled(self, leaves: Mapping[str, torch.Tensor]) -> Inputs:
        """The same arguments with other tensors."""
        new = iter(leaves.values())
        given = tuple(
            dataclasses.replace(
                one, value=refill(one.value, torch.is_tensor, lambda _: next(new))
            )
            for one in self.given
        )
        return Inputs(given, dict(leaves))

    def describe(self) -> str:
        """Names, dtypes and shapes, for messages."""
        return ", ".join(
            f"{name}={str(t.dtype).removeprefix('torch.')}{list(t.shape)}"
            for name, t in self.leaves.items()
        )

    def doubled(self, plan: dims_.Plan) -> Inputs:
        """The inputs with the plan's single dimensions repeated, so that they are 2."""
        leaves = dict(self.leaves)
        for axes in plan.single.values():
            for leaf, axis in axes:
                leaves[leaf] = torch.cat([leaves[leaf], leaves[leaf]], dim=axis)
        return self.refilled(leaves)


def bind_inputs(
    model: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Inputs:
    """Bind example inputs to the signature of the model's `forward`.

    Raises InputError for unknown, missing or doubly given names, and when no tensor is
    among the inputs.
    """
    signature = _signature(model)
    try:
        given = given_arguments(signature, args, kwargs)
    except TypeError as error:
        raise InputError(_misfit(model, signature, args, kwargs, error)) from error
    leaves = dict(leaf_names(given, torch.is_tensor))
    if not leaves:
        raise InputError(
            f"no tensor among the example inputs of {type(model).__name__}.forward"
            f"{signature}: give at least one. {_received(given)}"
        )
    return Inputs(tuple(given), leaves).refilled(_distinct(leaves))


def _signature(model: torch.nn.Module) -> inspect.Signature:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the arguments of {type(model).__name__}.forward cannot be read ({error}): give it "
            "a signature, def forward(self, x)"
        ) from error


def _received(given: Sequence[Given]) -> str:
    """What was given instead of tensors, and how to make tensors of it."""
    listed = ", ".join(f"{g.name} is a {type(g.value).__name__}" for g in given)
    made = "torch.from_numpy(x), torch.as_tensor(x)"
    return f"Received: {listed or 'nothing'}. Make tensors of them: {made}"


def by_name(
    model: torch.nn.Module, named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call of the model with each argument by its name, also those that have to be positional."""
    parameters = _signature(model).parameters
    variadic = inspect.Parameter.VAR_POSITIONAL
    star = next((n for n, p in parameters.items() if p.kind is variadic), None)
    if star is None or star not in named:
        return (), dict(named)
    rest = dict(named)
    ahead = list(parameters)[: list(parameters).index(star)]
    args = [rest.pop(name) for name in ahead if name in rest]
    return (*args, *rest.pop(star)), rest


def _distinct(leaves: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors; one that is given twice is two."""
    seen: set[int] = set()
    found = {}
    for name, tensor in leaves.items():
        found[name] = tensor.detach().clone() if id(tensor) in seen else tensor
        seen.add(id(tensor))
    return found


def prepare(model: torch.nn.Module, inputs: Inputs) -> tuple[Given, ...]:
    """Make the model ready for its eval capture; call inside `preserved`.

    Returns its arguments: those that were given, and constants that the capture sets in the
    model's configuration, where its `forward` names them.
    """
    parameters = _signature(model).parameters
    known = {one.name for one in inputs.given}
    implied = tuple(
        Given(name, "keyword", value)
        for name, value in switch_configs(model).items()
        if name in parameters and name not in known
    )
    spell_out(model)
    if inputs.nested:
        _flatten_forward(model, inputs)
    model.eval()
    return (*inputs.given, *implied)


def _misfit(
    model: torch.nn.Module,
    signature: inspect.Signature,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    error: TypeError,
) -> str:
    given = [f"{len(args)} positional"] if args else []
    given += list(kwargs)
    valid = [
        f"{p.name} (required)" if _required(p) else p.name
        for p in signature.parameters.values()
    ]
    return (
        f"the inputs do not fit {type(model).__name__}.forward: {error}; "
        f"received: {', '.join(given) or 'nothing'}; valid names: {', '.join(valid)}"
    )


def _required(parameter: inspect.Parameter) -> bool:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and parameter.kind not in variadic


def structured(
    inputs: Inputs, nodes: Mapping[str, fx.Node]
) -> tuple[tuple[str, Any], ...]:
    """The model's own arguments with the node of each tensor."""
    names = iter(inputs.leaves)

    def node(_: Any) -> Any:
        return nodes.get(next(names), Opaque("torch.Tensor"))

    return tuple((one.name, describe(one.value, node)) for one in inputs.given)


def _flatten_forward(model: torch.nn.Module, inputs: Inputs) -> None:
    """Let the model's forward take the tensors `inputs.leaves` alone, each by its name.

    torch.export knows no dataclasses that are not registered with it, and mixes up the names
    of `**kwargs`. The wrapper is an attribute of the instance: call inside `preserved`.
    """
    original = model.forward
    named = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
        for name in inputs.leaves
    ]

    def forward(**leaves: torch.Tensor) -> Any:
        args, kwargs = inputs.refilled({k: leaves[k] for k in inputs.leaves}).call()
        return original(*args, **kwargs)

    vars(forward)["__signature__"] = inspect.Signature(named)
    model.forward = forward
