"""The graph: typed values, nodes, parameters. Data only; arrays never live here.

A node applies one operation of `ivyport.core.ops` to values. Identity is sharing: a value used
twice is one object, a tied weight is one `Param`, a module called twice has two `Scope.call`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from ivyport.core.checks import Check, Line
from ivyport.core.dims import Dim, DimLike


@dataclasses.dataclass(frozen=True)
class TensorType:
    """Dtype name and shape of a tensor; sizes are integers or symbolic."""

    dtype: str
    shape: tuple[DimLike, ...]

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def with_shape(self, shape: tuple[DimLike, ...]) -> TensorType:
        """The same dtype with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: str) -> TensorType:
        """The same shape with another dtype."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True)
class Scope:
    """One call of one module: its path in the source, its class, and which call of it."""

    path: str
    cls: str
    call: int = 0


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a node was written: file, line, and the name that the line assigns, if any."""

    file: str
    line: int
    code: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A Python number (or a symbolic size) as an operand: it takes the other operand's dtype."""

    value: bool | int | float | Dim


@dataclasses.dataclass(frozen=True)
class Slice:
    """One axis of a `getitem`: ``start:stop:step``; None is the axis' own bound."""

    start: DimLike | None = None
    stop: DimLike | None = None
    step: int = 1


@dataclasses.dataclass(frozen=True)
class NewAxis:
    """A new axis of size 1 in a `getitem`."""


class Value:
    """A tensor in the graph; equality is identity.

    `names` are the variables that hold it in the source, by depth of the module stack: the same
    tensor is `attn_output` inside the attention (depth 4) and `hidden_states` in its caller.
    """

    __slots__ = ("name", "names", "producer", "type")

    def __init__(self, type: TensorType, name: str | None = None) -> None:
        self.type = type
        self.name = name
        self.names: dict[int, str] = {}
        self.producer: Node | None = None

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


Operand = Value | Scalar | None


@dataclasses.dataclass(eq=False)
class Node:
    """One operation: operands, attributes, results, and where in the source it was called."""

    op: str
    inputs: tuple[Operand, ...]
    attrs: dict[str, Any]
    outputs: tuple[Value, ...] = ()
    scope: tuple[Scope, ...] = ()
    src: Source | None = None

    @property
    def output(self) -> Value:
        """The only result; a defect if there are several."""
        (value,) = self.outputs
        return value

    def values(self) -> Iterator[Value]:
        """Operands that are tensors."""
        return (x for x in self.inputs if isinstance(x, Value))


@dataclasses.dataclass(eq=False)
class Param:
    """A tensor that the model owns.

    `kind` is ``parameter`` (trained), ``buffer`` (kept in checkpoints) or ``constant`` (made by
    the constructor). `aliases` are its other names in the source; `place` the one of them under
    which the port holds it.

    `folds` are the shape-only steps that lead from the source's tensor to `type`, in order:
    ``("permute_dims", axes)``, ``("reshape", old_shape, new_shape)``, ``("select", axis, i)``,
    ``("flip", axes)`` (see `core.passes.fold`). `source` is that tensor's name, where several
    parameters are parts of one tensor and `path` is only theirs; it is `path` otherwise.

    `trainable` is False for a parameter that the source freezes (``requires_grad_(False)``).
    """

    path: str
    type: TensorType
    kind: str
    value: Value
    aliases: tuple[str, ...] = ()
    place: str = ""
    folds: tuple[tuple[Any, ...], ...] = ()
    source: str = ""
    trainable: bool = True

    def __post_init__(self) -> None:
        self.place = self.place or self.path
        self.source = self.source or self.path

    @property
    def trained(self) -> bool:
        """Whether training changes it: a parameter that the source does not freeze."""
        return self.kind == "parameter" and self.trainable

    @property
    def owner(self) -> str:
        """Path of the module that holds it."""
        return self.place.rpartition(".")[0]


@dataclasses.dataclass(frozen=True)
class Record:
    """A named structure of outputs (a `ModelOutput`, dataclass or named tuple).

    Fields are in the order of the class. With `skips_none`, those that are None have no
    position, as in a `ModelOutput`: there the first field that is given is the item 0.
    """

    cls: str
    fields: tuple[tuple[str, Any], ...]
    skips_none: bool = False

    @property
    def absent(self) -> frozenset[str]:
        """Fields that are None and may be left out without moving another one.

        >>> sorted(Record("R", (("a", None), ("b", 1), ("c", None))).absent)
        ['c']
        """
        names = set()
        for name, value in reversed(self.fields):
            if value is None:
                names.add(name)
            elif not self.skips_none:
                break
        return frozenset(names)


@dataclasses.dataclass(frozen=True)
class Dtype:
    """A dtype that is a constant among the arguments."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of the source's own call.

    `kind` says how it may be given: ``positional`` (by position or name), ``keyword`` (by name
    alone), ``variadic`` (``*args``). `structure` is a nested structure of values (tensors) and
    constants in tuples, lists, dicts and records. One without a value is a constant that the
    trace has built in, and its own default. `default` is what stands for a tensor that the caller
    may leave out: ``ones``, ``zeros``, or ``positions`` (0, 1, ... along the last axis).
    """

    name: str
    kind: str
    structure: Any
    default: str = ""

    @property
    def is_constant(self) -> bool:
        """Whether no tensor is in it."""
        return not any(True for _ in leaves(self.structure))


@dataclasses.dataclass(frozen=True)
class ByMode:
    """Outputs of two structures: what the model returns in eval mode, and in train mode."""

    evaluated: Any
    trained: Any


@dataclasses.dataclass(eq=False)
class Call:
    """How a module was called: the value of each tensor argument, by the source's names.

    `stack` identifies the call, `args` maps names (`hidden_states`, `position_embeddings_0`) to
    values; values that the graph no longer holds are dropped by passes.
    """

    stack: tuple[Scope, ...]
    args: list[tuple[str, Value]]
    alias: str = ""


@dataclasses.dataclass(eq=False, repr=False)
class Graph:
    """A traced model.

    `inputs` are tensors; `arguments` say how the source takes them, and its constants beside
    them: together they hold every input once. A graph without them takes its inputs in order.
    `outputs` is a nested structure of values, None, constants, tuples, lists, dicts and records;
    `ByMode` where the model returns another structure in train mode.
    `updates` gives the new value of a parameter (a running statistic) by its path, where no
    operation updates it by itself; `trained` are those made in train mode alone.
    `dims` gives each symbol's ``(lower, upper)`` bounds, upper None when unbounded. `checks` are
    all conditions on sizes under which the graph is right, bounds above 1 included: a port checks
    them, and the constant sizes of its inputs, when it is called. `fixed` has the source's line
    that made a size constant, by input and axis, where it is known.
    `attrs` are plain scalars found on the source's modules, by path: they name constants.
    `fields` says which configuration field set a module's number (``path.attribute``). `sizes`
    says how integers follow from fields: ``path.weight[0]``, ``path.attribute`` or ``path[]`` (the
    length of a list) to ``("field",)`` or an operator with two of fields and numbers; None where
    nobody has looked. `initial` says what a fresh construction of the source puts into a parameter,
    by path: one number, ``"random"`` (drawn), ``"sided"`` (drawn, but not around 0) or ``"fixed"``
    (always the same); None where that cannot be known. `moved` has for each field what changes
    with it, by place: the number and the one of another value of the field. `built` are fields
    with which the source becomes another model than one of other sizes, and where that shows.
    `reads` are the fields that the methods of a class read, by its name; None where they may read
    any.
    """

    inputs: list[Value]
    params: dict[str, Param]
    nodes: list[Node]
    outputs: Any
    dims: dict[str, tuple[int, int | None]] = dataclasses.field(default_factory=dict)
    calls: list[Call] = dataclasses.field(default_factory=list)
    attrs: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes: dict[str, tuple[Any, ...]] | None = None
    initial: dict[str, Any] | None = None
    moved: dict[str, dict[str, tuple[Any, Any]]] = dataclasses.field(
        default_factory=dict
    )
    built: dict[str, str] = dataclasses.field(default_factory=dict)
    reads: dict[str, frozenset[str] | None] = dataclasses.field(default_factory=dict)
    name: str = "Model"
    updates: dict[str, Value] = dataclasses.field(default_factory=dict)
    trained: set[str] = dataclasses.field(default_factory=set)
    checks: list[Check] = dataclasses.field(default_factory=list)
    fixed: dict[tuple[str, int], Line] = dataclasses.field(default_factory=dict)
    arguments: list[Argument] = dataclasses.field(default_factory=list)

    def signature(self) -> list[Argument]:
        """`arguments`, or one for each input."""
        plain = [Argument(v.name or "input", "positional", v) for v in self.inputs]
        return self.arguments or plain

    def __repr__(self) -> str:
        # As an attribute of a node: graphs are equal only if they are one.
        return f"<graph {self.name} of {len(self.nodes)} nodes at {id(self):#x}>"

    def output_values(self) -> list[Value]:
        """Every tensor in the output structure, in order, and the updates."""
        return [*leaves(self.outputs), *self.updates.values()]

    def uses(self) -> dict[Value, list[Node]]:
        """Consumers of each value, in node order; outputs of the graph are not nodes."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.values():
                found.setdefault(value, []).append(node)
        return found


def walk(structure: Any) -> Iterator[Any]:
    """Everything in a nested structure that is no container, depth first.

    >>> list(walk({"a": (1, None), "b": Record("R", (("x", [2]),))}))
    [1, None, 2]
    """
    if isinstance(structure, Record):
        for _, item in structure.fields:
            yield from walk(item)
    elif isinstance(structure, ByMode):
        yield from walk(structure.evaluated)
        yield from walk(structure.trained)
    elif isinstance(structure, dict):
        for item in structure.values():
            yield from walk(item)
    elif isinstance(structure, list | tuple):
        for item in structure:
            yield from walk(item)
    else:
        yield structure


def leaves(structure: Any) -> Iterator[Value]:
    """Values in a nested structure, depth first.

    >>> v = Value(TensorType("float32", (2,)))
    >>> list(leaves({"a": (v, None), "b": 3})) == [v]
    True
    """
    return (item for item in walk(structure) if isinstance(item, Value))


def map_leaves(function: Callable[[Any], Any], structure: Any) -> Any:
    """The same structure with ``function(x)`` for everything that is no container."""
    if isinstance(structure, Record):
        fields = tuple((k, map_leaves(function, v)) for k, v in structure.fields)
        return dataclasses.replace(structure, fields=fields)
    if isinstance(structure, ByMode):
        return ByMode(
            map_leaves(function, structure.evaluated),
            map_leaves(function, structure.trained),
        )
    if isinstance(structure, dict):
        return {k: map_leaves(function, v) for k, v in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(map_leaves(function, v) for v in structure)
    return function(structure)


def map_structure(function: Callable[[Value], Any], structure: Any) -> Any:
    """The same structure with every value replaced by ``function(value)``."""
    return map_leaves(lambda x: function(x) if isinstance(x, Value) else x, structure)
