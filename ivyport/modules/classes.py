"""Instances become classes: equal bodies share one, and what differs becomes an argument.

Each instance has a *key* (the structure of its bodies, children and layers) and *holes* (numbers
at fixed places). Instances with one key are one class; a hole with one value in all of them is a
constant of the class, the others become constructor arguments.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from ivyport.core.dims import Dim
from ivyport.core.ir import NewAxis, Node, Scalar, Slice, Value
from ivyport.modules.instances import Instance, all_instances, random_nodes
from ivyport.modules.tree import CallNode, under

Where = tuple[
    Any, ...
]  # where a hole is: ("attr", call, item, name, index...), ("layer", path, name)
Number = int | float

# Operations whose emitted form does not depend on static sizes of their operands.
SHAPE_FREE_ATTRS = ("axis", "axes", "broadcast", "carried", "count", "style")
SHAPE_BOUND_OPS = {
    "adaptive_avg_pool",
    "avg_pool",
    "max_pool",
    "interpolate",
    "unfold",
    "conv_transpose",
    "weight_norm",
}


@dataclasses.dataclass(eq=False)
class ClassDef:
    """One emitted class.

    Attributes:
        name: unique class name.
        instances: every module object of this class; the first stands for all.
        methods: representative call of each distinct body, by method name.
        constants: value of each hole that never varies.
        arguments: constructor arguments: name and, for each instance, the value.
        argument_of: for each varying hole the argument that fills it.
    """

    name: str
    cls: str
    instances: list[Instance]
    methods: dict[str, CallNode]
    holes: dict[Where, Number]
    arguments: dict[str, list[Number]] = dataclasses.field(default_factory=dict)
    argument_of: dict[Where, str] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> Instance:
        """The instance that stands for all."""
        return self.instances[0]


@dataclasses.dataclass
class Library:
    """Every class of a model, children before parents, and how to find an instance's."""

    classes: list[ClassDef]
    of: dict[Instance, ClassDef]
    method_of: dict[CallNode, str]

    def arguments(self, instance: Instance) -> dict[str, Number]:
        """Constructor arguments of one instance."""
        definition = self.of[instance]
        position = definition.instances.index(instance)
        return {name: v[position] for name, v in definition.arguments.items()}


def classify(
    top: Instance,
    attrs: dict[str, dict[str, Any]],
    places: dict[Value, str] | None = None,
    taken: Iterable[str] = (),
) -> Library:
    """Group instances into classes, leaves first, so that children are known to parents.

    `places` says where each parameter is held: a body may use one that a layer below owns.
    `taken` are names that no class may have.
    """
    library = Library([], {}, {})
    names = dict.fromkeys(taken, 1)
    instances = [i for i in all_instances(top) if i.layer is None]
    for height in sorted({i.height for i in instances}):
        groups: dict[Any, list[tuple[Instance, dict[Where, Number]]]] = {}
        for instance in instances:
            if instance.height == height:
                key, holes, methods = _Describe(instance, library, places or {}).run()
                groups.setdefault((instance.cls, key), []).append((instance, holes))
                for call, method in methods.items():
                    library.method_of[call] = method
        for (cls, _), members in groups.items():
            definition = _define(cls, members, library, attrs)
            library.classes.append(definition)
    _order(top, library)
    for definition in library.classes:
        definition.name = _unique(definition.cls, names)
    return library


def _order(top: Instance, library: Library) -> None:
    """Classes as a person would list them: each after its parts, in the source's order."""
    order: dict[int, ClassDef] = {}

    def visit(instance: Instance) -> None:
        if instance.layer is None:
            for child in instance.children.values():
                visit(child)
            definition = library.of[instance]
            order.setdefault(id(definition), definition)

    visit(top)
    library.classes = list(order.values())


def _unique(cls: str, names: dict[str, int]) -> str:
    short = re.sub(r"\W", "_", cls.rpartition(".")[2]) or "Module"
    short = short if short.isidentifier() else f"Module_{short}"
    names[short] = names.get(short, 0) + 1
    return short if names[short] == 1 else f"{short}{names[short]}"


def _differ(a: Number, b: Number) -> bool:
    """Whether two numbers are not one number; not-a-number is."""
    return a != b and (a == a or b == b)


def _define(
    cls: str,
    members: list[tuple[Instance, dict[Where, Number]]],
    library: Library,
    attrs: dict[str, dict[str, Any]],
) -> ClassDef:
    instances = [i for i, _ in members]
    holes = members[0][1]
    definition = ClassDef("", cls, instances, {}, dict(holes))
    for call in instances[0].calls:
        definition.methods.setdefault(library.method_of[call], call)
    vectors: dict[tuple[Number, ...], list[Where]] = {}
    for where in holes:
        vector = tuple(h[where] for _, h in members)
        if any(_differ(v, vector[0]) for v in vector):
            vectors.setdefault(vector, []).append(where)
    taken: set[str] = {"self", "config", "rngs"}
    for vector, places in vectors.items():
        name = _argument_name(places, instances, vector, attrs, taken)
        taken.add(name)
        definition.arguments[name] = list(vector)
        for where in places:
            definition.argument_of[where] = name
    for instance in instances:
        library.of[instance] = definition
    return definition


def _argument_name(
    places: list[Where],
    instances: list[Instance],
    vector: tuple[Number, ...],
    attrs: dict[str, dict[str, Any]],
    taken: set[str],
) -> str:
    """The source's own attribute of that value on every instance, else the place's name."""
    common = set(attrs.get(instances[0].path, {}))
    for instance, value in zip(instances, vector, strict=True):
        own = attrs.get(instance.path, {})
        common &= {k for k, v in own.items() if type(v) is type(value) and v == value}
    candidates = sorted(k for k in common if k.isidentifier() and k not in taken)
    roles = [next(str(p) for p in reversed(w) if isinstance(p, str)) for w in places]
    roles += ["hidden_features"] if "out_features" in roles else []
    plain = next((r for r in roles if r not in taken), roles[0])
    base = candidates[0] if candidates else plain
    name, count = base, 2
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    return name


def _merges_axes(item: Node) -> bool:
    """Attention with more than four axes, whose leading ones are merged for it."""
    return item.op == "attention" and any(v.type.rank > 4 for v in item.values())


class _Describe:
    """The key and holes of one instance."""

    def __init__(
        self, instance: Instance, library: Library, places: dict[Value, str]
    ) -> None:
        self.instance = instance
        self.library = library
        self.places = places
        self.holes: dict[Where, Number] = {}
        self.values: dict[Value, Any] = {}
        self.dims: dict[Dim, Any] = {}

    def run(self) -> tuple[Any, dict[Where, Number], dict[CallNode, str]]:
        """The structural key, the numbers at its holes, and each call's method name."""
        bodies: dict[Any, str] = {}
        methods: dict[CallNode, str] = {}
        for call in self.instance.calls:
            saved = dict(self.holes)
            key = self._body(call, len(bodies))
            if key in bodies:
                self.holes = saved
            else:
                bodies[key] = "__call__" if not bodies else f"call_{len(bodies) + 1}"
            methods[call] = bodies[key]
        children = tuple(self._child(p, c) for p, c in self.instance.children.items())
        params = tuple(
            (path, p.kind, p.type.dtype, p.type.rank)
            for path, p in self.instance.params.items()
            if self._own(path)
        )
        for path, param in self.instance.params.items():
            if self._own(path):
                for axis, size in enumerate(param.type.shape):
                    if isinstance(size, int):
                        self.holes["param", path, f"size_{axis}"] = size
        shared = tuple(sorted(self.instance.shared))
        return (tuple(bodies), children, params, shared), self.holes, methods

    def _own(self, path: str) -> bool:
        return "." not in path or path.rpartition(".")[0] not in self.instance.children

    def _child(self, path: str, child: Instance) -> Any:
        if child.layer is None:
            for name, value in self.library.arguments(child).items():
                self.holes["child", path, name] = value
            return path, id(self.library.of[child])
        flat: list[Any] = []
        for name, value in child.layer.numbers.items():
            flat.append((name, self._structure(value, ("layer", path, name))))
        return path, child.layer.kind, tuple(flat), tuple(child.layer.flags.items())

    def _body(self, call: CallNode, index: int) -> Any:
        self.values, self.dims = {}, {}
        for position, value in enumerate(call.inputs):
            self.values[value] = ("input", position)
            for axis, size in enumerate(value.type.shape):
                if isinstance(size, Dim):
                    self.dims.setdefault(size, ("size", position, axis))
        for path, param in self.instance.params.items():
            self.values[param.value] = ("param", path)
        inputs = tuple(
            (call.names.get(v), v.type.dtype, v.type.rank) for v in call.inputs
        )
        items = tuple(self._item(item, index, i) for i, item in enumerate(call.items))
        results = tuple(self.values.get(v) for v in call.outputs)
        updates = tuple(
            (self.instance.relative(p.place), self.values.get(v), p in call.trained)
            for p, v in call.updates
        )
        late = call.first_late()
        return inputs, items, results, updates, late, tuple(random_nodes(call))

    def _item(self, item: Node | CallNode, call: int, position: int) -> Any:
        where = (call, position)
        if isinstance(item, CallNode):
            operands = tuple(self._value(v, item) for v in item.inputs)
            for i, value in enumerate(item.outputs):
                self.values[value] = ("item", position, i)
            inside = under(item.path, self.instance.path)
            target = self.instance.relative(item.path) if inside else self._shared(item)
            return target, self.library.method_of.get(item), operands
        operands = tuple(
            self._operand(x, ("operand", *where, i)) for i, x in enumerate(item.inputs)
        )
        attrs = tuple(
            (k, self._attr(k, v, ("attr", *where, k))) for k, v in item.attrs.items()
        )
        shapes: Any = ()
        if item.op in SHAPE_BOUND_OPS or _merges_axes(item):
            shapes = tuple(v.type.shape for v in item.values())
        for i, value in enumerate(item.outputs):
            self.values[value] = ("item", position, i)
        return item.op, operands, attrs, shapes

    def _shared(self, item: CallNode) -> Any:
        held = self.instance.shared.items()
        return "shared", next(n for n, i in held if i.path == item.path)

    def _value(self, value: Value, item: CallNode) -> Any:
        return self.values.get(value, ("foreign", item.names.get(value)))

    def _operand(self, operand: Any, where: Where) -> Any:
        if isinstance(operand, Value) and operand in self.values:
            return self.values[operand]
        if isinstance(operand, Value):
            return "held", self.instance.relative(self.places[operand])
        if isinstance(operand, Scalar):
            return "scalar", self._structure(operand.value, where)
        return None

    def _attr(self, name: str, value: Any, where: Where) -> Any:
        return value if name in SHAPE_FREE_ATTRS else self._structure(value, where)

    def _structure(self, value: Any, where: Where) -> Any:
        """`value` with its numbers taken out into holes."""
        if isinstance(value, bool | str) or value is None or value == -1:
            return value
        if isinstance(value, Dim):
            return self.dims.get(value, value)
        if isinstance(value, int | float):
            self.holes[where] = value
            return type(value).__name__
        if isinstance(value, Slice):
            bounds = (value.start, value.stop)
            parts = [self._structure(b, (*where, i)) for i, b in enumerate(bounds)]
            return "slice", *parts, value.step
        if isinstance(value, NewAxis):
            return "newaxis"
        if isinstance(value, tuple | list):
            return tuple(self._structure(v, (*where, i)) for i, v in enumerate(value))
        return repr(value)
