"""Which axes of the example inputs stay symbolic."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from ivyport.core.checks import Check, Line
from ivyport.core.errors import InputError
from ivyport.core.proofs import Reduced, reduced
from ivyport.frontends.dims_given import demand_form

Axis = tuple[str, int]
DimsGiven = Mapping[str, Mapping[int, str | None]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The dimension of each symbolic axis (input, axis); `asked` if the caller chose one.

    `constraints` are what JAX is told of the sizes, `checks` what it may then take for granted:
    the answers that the source got for the example's sizes, with its lines. `fixed` are axes that
    were given up.
    """

    axes: Mapping[Axis, str]
    asked: bool = False
    notes: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    fixed: Mapping[Axis, Line | None] = dataclasses.field(default_factory=dict)

    def without(self, names: Collection[str], note: str, line: Line | None) -> Plan:
        """The plan with these dimensions constant, and why."""
        kept = {axis: name for axis, name in self.axes.items() if name not in names}
        given_up = {axis: line for axis, name in self.axes.items() if name in names}
        return Plan(
            kept,
            self.asked,
            (*self.notes, note),
            fixed={**self.fixed, **given_up},
        )

    def constrained(self, constraint: str, check: Check) -> Plan:
        """The plan in which sizes answer as the example's did."""
        return dataclasses.replace(
            self,
            constraints=(*self.constraints, constraint),
            checks=(*self.checks, check),
        )

    def symbols(self) -> list[tuple[str, str, int]]:
        """(dimension, input, axis) of every symbolic axis."""
        return [(name, leaf, axis) for (leaf, axis), name in self.axes.items()]


def plan_dims(inputs: Mapping[str, Any], dims: DimsGiven | None) -> Plan:
    """The first axis of every input is ``batch`` unless `dims` says otherwise.

    `dims` is {input: {axis: name, or None for the example's size}}; axes of one name are equal.

    Raises:
        InputError: `dims` names an input or axis that is not there, or one name has several
            sizes in the examples.
    """
    chosen = _checked(inputs, dims or {})
    axes = {axis: name for axis, name in _policy(inputs).items() if axis not in chosen}
    axes |= {axis: name for axis, name in chosen.items() if name is not None}
    sizes: dict[str, dict[str, int]] = {}
    for (leaf, axis), name in axes.items():
        sizes.setdefault(name, {})[f"{leaf}[{axis}]"] = inputs[leaf].shape[axis]
    for name, found in sizes.items():
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{where} is {size}" for where, size in found.items())
            raise InputError(
                f"dimension '{name}' has several sizes in the examples: {listed}; give "
                "examples of one size, or different names in dims"
            )
    return Plan(axes, asked=any(chosen.values()))


def never_free(
    inputs: Mapping[str, Any], plan: Plan, dims: DimsGiven | None
) -> list[str]:
    """A note on axes that nobody asked to be constant, of ids and of inputs with three axes."""
    asked = _checked(inputs, dims or {})
    notes = []
    for leaf, x in inputs.items():
        ids = len(x.shape) == 2 and jnp.issubdtype(x.dtype, jnp.integer)
        axes = [
            f"{axis} is {size}"
            for axis, size in enumerate(x.shape)
            if not {(leaf, axis)}
            & (plan.axes.keys() | asked.keys() | plan.fixed.keys())
        ]
        if axes and (ids or len(x.shape) > 2):
            notes.append(
                f"Sizes of '{leaf}' that the port is made for: axis {', '.join(axes)}. "
                "Name an axis in dims to have it free."
            )
    return notes


def _checked(inputs: Mapping[str, Any], dims: DimsGiven) -> dict[Axis, str | None]:
    demand_form(dims)
    chosen: dict[Axis, str | None] = {}
    for leaf, axes in dims.items():
        if leaf not in inputs:
            raise InputError(
                f"dims names '{leaf}', which is no array among the inputs; those are: "
                + ", ".join(inputs)
            )
        rank = len(inputs[leaf].shape)
        for axis, name in axes.items():
            if not -rank <= axis < rank:
                raise InputError(
                    f"dims gives axis {axis} of '{leaf}', whose shape is "
                    f"{tuple(inputs[leaf].shape)}"
                )
            if name is not None and not name.isidentifier():
                raise InputError(
                    f"dims calls axis {axis} of '{leaf}' {name!r}: a name of letters, "
                    "digits and underscores is due, or None for the example's size"
                )
            chosen[leaf, axis % rank] = name
    return chosen


def _policy(inputs: Mapping[str, Any]) -> dict[Axis, str]:
    """``batch`` for first axes of one size; other sizes have names of their own.

    A first axis of 1 beside larger ones is one that broadcasts, no batch.
    """
    firsts = {leaf: x.shape[0] for leaf, x in inputs.items() if len(x.shape)}
    sizes = [size for size in firsts.values() if size > 1]
    common = sizes[0] if sizes else 1
    wanted: dict[Axis, str] = {}
    for leaf, size in firsts.items():
        if size == common:
            wanted[leaf, 0] = "batch"
        elif size > 1:
            wanted[leaf, 0] = f"{leaf}_batch"
    return wanted


def symbolic(inputs: Mapping[str, Any], plan: Plan) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the inputs with symbols for the planned axes."""
    names = list(dict.fromkeys(plan.axes.values()))
    told = plan.constraints
    shapes = export.symbolic_shape(", ".join(names), constraints=told) if names else ()
    symbols = dict(zip(names, shapes, strict=True))
    made = {}
    for leaf, x in inputs.items():
        shape = tuple(
            symbols[plan.axes[leaf, axis]] if (leaf, axis) in plan.axes else size
            for axis, size in enumerate(x.shape)
        )
        made[leaf] = jax.ShapeDtypeStruct(shape, x.dtype)
    return made


def sizes(inputs: Mapping[str, Any], plan: Plan) -> dict[str, int]:
    """The example's size of each symbol."""
    return {name: inputs[leaf].shape[axis] for (leaf, axis), name in plan.axes.items()}


def assumed(plan: Plan, more: Iterable[Check] = ()) -> Reduced:
    """Bounds and checks of the symbols: jax takes every size of 1 or more."""
    return reduced([*plan.checks, *more], dict.fromkeys(plan.axes.values()))
