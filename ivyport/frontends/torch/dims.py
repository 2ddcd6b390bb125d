"""Which axes of the example inputs stay symbolic, and what became of them.

Every wanted axis is exported with `Dim.AUTO`: torch then refines its range, or makes it
constant, without failing. Axes of one name are declared equal in a hook of the root
(see `hooks.Recorder`), so that a batch size is one symbol however many inputs have it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import sympy
import torch
from torch import fx
from torch.export import Dim

from ivyport.core.checks import Line
from ivyport.core.errors import InputError
from ivyport.frontends.dims_given import demand_form
from ivyport.frontends.torch.guards import Assumed, GuardLog, assumptions
from ivyport.frontends.torch.hooks import Recorder

# torch bounds sizes that depend on data by the range of 64-bit integers.
_HUGE = 2**62

_LENGTH = re.compile(r"(?<!\brange\()\blen\((\w+)\)")

Axis = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The wanted symbolic axes by dimension name.

    `asked` are the names that the caller chose. `hoped` are names of axes that are
    tried without a promise (features or samples of a float matrix): no note is written
    when one of them turns out constant. `single` are dimensions that are 1 in the
    example, where torch takes any size for a constant: `doubled` tries them with 2.
    `fixed` are axes that were given up, with the source's line that is to blame.
    """

    groups: Mapping[str, tuple[Axis, ...]]
    asked: frozenset[str]
    hoped: frozenset[str]
    single: Mapping[str, tuple[Axis, ...]]
    notes: Mapping[str, str]
    fixed: Mapping[Axis, Line | None] = dataclasses.field(default_factory=dict)

    def doubled(self) -> Plan:
        """The plan with the single dimensions symbolic, for inputs where they are 2."""
        notes = {k: note for k, note in self.notes.items() if k not in self.single}
        groups = {**self.groups, **self.single}
        return dataclasses.replace(self, groups=groups, single={}, notes=notes)

    def axes(self) -> dict[Axis, str]:
        """The dimension name of each wanted axis."""
        return {axis: name for name, axes in self.groups.items() for axis in axes}

    def without(self, names: Iterable[str], line: Line | None = None) -> Plan:
        """The same plan with these dimensions constant, on account of `line`."""
        drop = set(names)
        kept = {name: axes for name, axes in self.groups.items() if name not in drop}
        given_up = {a: line for name in drop for a in self.groups.get(name, ())}
        return dataclasses.replace(self, groups=kept, fixed={**self.fixed, **given_up})

    def weaker(self) -> list[Plan]:
        """Plans to fall back to: without one dimension each, then without all."""
        names = list(self.groups)
        single = [self.without([name]) for name in reversed(names)]
        return [*single, self.without(names)] if len(names) > 1 else single


def plan_dims(
    leaves: Mapping[str, torch.Tensor],
    dims: Mapping[str, Mapping[int, str | None]] | None,
    *,
    time_first: bool = False,
) -> Plan:
    """The default policy for the inputs `leaves`, overridden by the caller's `dims`.

    With `time_first`, floats of three axes are (length, batch, features).
    Raises InputError for unknown inputs or axes, and for one name on axes of several
    sizes.
    """
    chosen = _checked(leaves, dims or {})
    wanted: dict[Axis, str] = {
        axis: name
        for axis, name in _policy(leaves, time_first).items()
        if axis not in chosen
    }
    asked = frozenset(name for name in chosen.values() if name is not None)
    wanted |= {axis: name for axis, name in chosen.items() if name is not None}
    notes: dict[str, str] = {}
    groups: dict[str, list[Axis]] = {}
    single: dict[str, list[Axis]] = {}
    for (leaf, axis), name in wanted.items():
        if leaves[leaf].shape[axis] < 2:
            size = leaves[leaf].shape[axis]
            first = 1 if time_first and _is_series(leaf, leaves[leaf]) else 0
            if size == 1 and (axis == first or name in asked):
                single.setdefault(name, []).append((leaf, axis))
            notes.setdefault(
                name,
                f"Dimension '{name}' (axis {axis} of '{leaf}') is {size} in the "
                f"example and stays {size}: an example of 2 or more keeps it free.",
            )
        else:
            groups.setdefault(name, []).append((leaf, axis))
    _check_equal(leaves, groups)
    hoped = frozenset(
        name
        for name, axes in groups.items()
        if name not in asked
        and all(_is_tried(leaf, leaves[leaf], a, time_first) for leaf, a in axes)
    )
    frozen = {name: tuple(axes) for name, axes in groups.items()}
    # An axis of 1 beside axes of more with its name is broadcast, and stays.
    alone = {name: tuple(axes) for name, axes in single.items() if name not in groups}
    return Plan(frozen, asked, hoped, alone, notes)


def _checked(
    leaves: Mapping[str, torch.Tensor], dims: Mapping[str, Mapping[int, str | None]]
) -> dict[Axis, str | None]:
    demand_form(dims)
    chosen: dict[Axis, str | None] = {}
    for leaf, axes in dims.items():
        if leaf not in leaves:
            raise InputError(
                f"dims names '{leaf}', which is not a tensor input; tensor inputs: "
                + ", ".join(leaves)
            )
        rank = leaves[leaf].dim()
        for axis, name in axes.items():
            if not -rank <= axis < rank:
                raise InputError(
                    f"dims gives axis {axis} of '{leaf}', whose shape is "
                    f"{tuple(leaves[leaf].shape)}"
                )
            chosen[leaf, axis % rank] = name
    return chosen


def _check_equal(
    leaves: Mapping[str, torch.Tensor], groups: Mapping[str, list[Axis]]
) -> None:
    for name, axes in groups.items():
        sizes = {f"{leaf}[{axis}]": leaves[leaf].shape[axis] for leaf, axis in axes}
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{where} is {size}" for where, size in sizes.items())
            raise InputError(
                f"dimension '{name}' has several sizes in the examples: {listed}; give "
                "examples of one size, or different names in dims"
            )


def time_first(model: torch.nn.Module) -> bool:
    """Whether the model's attention and recurrent layers all have the batch in second place."""
    found = [
        vars(m)["batch_first"] for m in model.modules() if "batch_first" in vars(m)
    ]
    return bool(found) and not any(found)


def _is_series(leaf: str, tensor: torch.Tensor) -> bool:
    """Whether an input is a sequence of vectors, perhaps in a batch."""
    floats = tensor.dim() == 3 and tensor.is_floating_point()
    return floats and not _has_sequence(leaf, tensor)


def _is_tried(leaf: str, tensor: torch.Tensor, axis: int, time_first: bool) -> bool:
    """Whether an axis is tried without a promise."""
    second = 0 if time_first and _is_series(leaf, tensor) else 1
    return axis == second and tensor.is_floating_point()


def _policy(leaves: Mapping[str, torch.Tensor], time_first: bool) -> dict[Axis, str]:
    """Names by default: 'batch', then 'seq', 'decoder_seq' or 'samples' of matrices.

    The second axis of three is 'length', which is tried without a promise.
    """
    wanted: dict[Axis, str] = {}
    names = _Names()
    for leaf, tensor in leaves.items():
        if tensor.dim():
            axis = 1 if time_first and _is_series(leaf, tensor) else 0
            size = tensor.shape[axis]
            wanted[leaf, axis] = names.pick("batch", size, f"{leaf}_batch")
    matrices = {k: t for k, t in leaves.items() if _has_sequence(k, t)}
    for leaf, tensor in matrices.items():
        if _is_signal(leaf, tensor):
            name = names.pick("samples", tensor.shape[1], f"{leaf}_samples")
            wanted[leaf, 1] = name
    samples = {leaves[k].shape[a] for (k, a) in wanted if a == 1}
    has_decoder = any(leaf.startswith("decoder_") for leaf in matrices)
    tokens = any(leaf.endswith("input_ids") for leaf in matrices)
    for leaf, tensor in matrices.items():
        if _is_signal(leaf, tensor):
            continue
        size = tensor.shape[1]
        decoder = leaf.startswith("decoder_") or (has_decoder and leaf == "labels")
        if decoder:
            wanted[leaf, 1] = names.pick("decoder_seq", size, f"{leaf}_seq")
        elif size in samples and not tokens:
            wanted[leaf, 1] = names.pick("samples", size, f"{leaf}_samples")
        else:
            wanted[leaf, 1] = names.pick("seq", size, f"{leaf}_seq")
    for leaf, tensor in leaves.items():
        # (batch, length, features), or (length, batch, features).
        if _is_series(leaf, tensor):
            axis = 0 if time_first else 1
            size = tensor.shape[axis]
            wanted[leaf, axis] = names.pick("length", size, f"{leaf}_length")
    return wanted


class _Names:
    """Gives the first size of a shared name that name, others one of their own."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    def pick(self, shared: str, size: int, own: str) -> str:
        if size < 2:
            return shared
        return shared if self._sizes.setdefault(shared, size) == size else own


def _has_sequence(name: str, tensor: torch.Tensor) -> bool:
    """Matrices, and embeddings given in place of token ids."""
    return tensor.dim() == 2 or (tensor.dim() == 3 and name.endswith("inputs_embeds"))


def _is_signal(name: str, tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and not name.endswith("inputs_embeds")


def shapes_of(name: str, value: Any, plan: Plan) -> Any:
    """`dynamic_shapes` for the argument `name`."""
    if isinstance(value, torch.Tensor):
        axes = {axis: Dim.AUTO for (leaf, axis) in plan.axes() if leaf == name}
        return axes or None
    return None


@dataclasses.dataclass(frozen=True)
class Dims:
    """What a finished program has: see `TorchTrace.dims` and `input_dims`."""

    symbols: dict[str, tuple[str, int, int | None]]
    inputs: dict[str, dict[int, str]]
    notes: tuple[str, ...]
    fixed: dict[Axis, Line | None]
    assumed: Assumed


def read_dims(
    program: torch.export.ExportedProgram,
    nodes: Mapping[str, fx.Node],
    plan: Plan,
    recorder: Recorder,
    log: GuardLog,
) -> Dims:
    """Symbols, bounds and symbolic axes of `program`, whose inputs are `nodes`.

    `recorder` and `log` watched the capture: they tell in which module and at which line
    a dimension became constant.
    """
    wanted = plan.axes()
    ranges = {str(k): v for k, v in program.range_constraints.items()}
    symbols: dict[str, tuple[str, int, int | None]] = {}
    inputs: dict[str, dict[int, str]] = {}
    constant: dict[str, tuple[str, int, int]] = {}
    for leaf, node in nodes.items():
        inputs[leaf] = {}
        for axis, size in enumerate(node.meta["val"].shape):
            name = wanted.get((leaf, axis))
            expr = sympy.Integer(size) if isinstance(size, int) else size.node.expr
            if expr.is_number:
                if name is not None:
                    constant.setdefault(name, (leaf, axis, int(expr)))
                continue
            inputs[leaf][axis] = str(expr)
            for symbol in sorted(expr.free_symbols, key=str):
                human = name or f"{leaf}_{axis}"
                symbols.setdefault(str(symbol), (human, *_bounds(ranges, symbol)))
    for symbol_name, bounds in ranges.items():
        # Sizes that depend on data, for instance of `nonzero`; a value read from a
        # tensor may be negative and is no size.
        if bounds.lower >= 0:
            symbols.setdefault(symbol_name, (symbol_name, *_limits(bounds)))
    notes = []
    fixed = dict(plan.fixed)
    for name, (leaf, axis, size) in constant.items():
        line = _fixing_line(name, recorder, log)
        fixed |= dict.fromkeys(plan.groups[name], line)
        if name not in plan.hoped:
            notes.append(
                f"Dimension '{name}' (axis {axis} of '{leaf}') is fixed at {size}"
                f"{_reason(name, recorder)}{f' at {line}' if line else ''}{_hint(line)}."
            )
    humans = {symbol: name for symbol, (name, _, _) in symbols.items()}
    assumed = assumptions(log, program, humans)
    return Dims(symbols, inputs, tuple(notes), fixed, assumed)


def _hint(line: Line | None) -> str:
    """What keeps a size free that `len` makes a number of."""
    found = _LENGTH.search(line.code) if line else None
    return f" (write {found[1]}.shape[0] for len({found[1]}))" if found else ""


def _reason(name: str, recorder: Recorder) -> str:
    """In which module the dimension became constant."""
    owner = recorder.fixed.get(name)
    return "" if owner is None else f" by module '{owner}'" if owner else " by the root"


def _fixing_line(name: str, recorder: Recorder, log: GuardLog) -> Line | None:
    """The source's line at which the dimension became constant, if it is known."""
    for expr, line in log.guards:
        if line is None or not isinstance(expr, sympy.Eq):
            continue
        if not expr.free_symbols & recorder.symbols[name]:
            continue
        if any(side.is_number for side in expr.args):
            return line
    return None


def _bounds(ranges: Mapping[str, Any], symbol: sympy.Symbol) -> tuple[int, int | None]:
    if str(symbol) not in ranges:
        return 1, None
    return _limits(ranges[str(symbol)])


def _limits(bounds: Any) -> tuple[int, int | None]:
    """Bounds as integers; None is unbounded.

    torch assumes 2 or more of every symbolic size ("0/1 specialisation"), so a lower
    bound of 2 says nothing about the model and is given as 1.
    """
    lower, upper = bounds.lower, bounds.upper
    high = int(upper) if upper.is_Integer and upper < _HUGE else None
    low = int(lower)
    return (1 if low == 2 else low), high
