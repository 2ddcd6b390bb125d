"""Instances become classes: equal bodies share one, and what differs becomes an argument.

Each instance has a *key* (the structure of its bodies, children and layers) and *holes* (numbers
at fixed places). Instances with one key are one class if the target's rules write the same for
them (`literals`); a hole with one value in all of them is a constant of the class, the others
become constructor arguments.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

from ivyport.core.dims import Dim
from ivyport.core.ir import NewAxis, Node, Scalar, Slice, Value
from ivyport.modules.instances import Instance, all_instances, random_nodes
from ivyport.modules.literals import Sizes, Where, Written
from ivyport.modules.tree import CallNode, under

Number = int | float
Member = tuple[Instance, dict[Where, Number]]

# Attributes whose numbers belong to the structure.
SHAPE_FREE_ATTRS = ("axis", "axes", "broadcast", "carried", "count", "style")


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
    written: Written,
    places: dict[Value, str] | None = None,
    taken: Iterable[str] = (),
) -> Library:
    """Group instances into classes, leaves first, so that children are known to parents.

    `written` tells what the target's rules write: instances of one class have that in common.
    `places` says where each parameter is held: a body may use one that a layer below owns.
    `taken` are names that no class may have.
    """
    library = Library([], {}, {})
    names = dict.fromkeys(taken, 1)
    instances = [i for i in all_instances(top) if i.layer is None]
    for height in sorted({i.height for i in instances}):
        groups: dict[Any, list[Member]] = {}
        for instance in instances:
            if instance.height == height:
                describe = _Describe(instance, library, places or {}, written)
                key, holes, methods = describe.run()
                groups.setdefault((instance.cls, key), []).append((instance, holes))
                for call, method in methods.items():
                    library.method_of[call] = method
        for (cls, _), members in groups.items():
            for alike in _alike(members, library, written):
                definition = _define(cls, alike, library, attrs)
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


def _alike(
    members: list[Member], library: Library, written: Written
) -> Iterator[list[Member]]:
    """`members` of one key in groups for which the rules write the same.

    A number in which the members of a group agree is written as it is, so that smaller groups
    are asked again.
    """
    pending = [members]
    while pending:
        group = pending.pop(0)
        if len(group) == 1:
            yield group
            continue
        varying = {where for where in group[0][1] if _varies(where, group)}
        forms: dict[Any, list[Member]] = {}
        for member in group:
            form = _form(*member, varying, library, written)
            forms.setdefault(form, []).append(member)
        if len(forms) == 1:
            yield group
        else:
            pending[:0] = forms.values()


def _varies(where: Where, members: list[Member]) -> bool:
    first = members[0][1][where]
    return any(_differ(holes[where], first) for _, holes in members)


def _form(
    instance: Instance,
    holes: dict[Where, Number],
    varying: set[Where],
    library: Library,
    written: Written,
) -> Any:
    """What the rules write for each call: numbers that vary as attributes, then all of them."""
    methods = list(dict.fromkeys(library.method_of[call] for call in instance.calls))
    return frozenset(
        (method, written.form(call, methods.index(method), chosen, split=split))
        for call in instance.calls
        for method in (library.method_of[call],)
        for chosen, split in ((varying, True), (holes, False))
    )


def _define(
    cls: str,
    members: list[Member],
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
        if _varies(where, members):
            vector = tuple(h[where] for _, h in members)
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


class _Describe:
    """The key and holes of one instance."""

    def __init__(
        self,
        instance: Instance,
        library: Library,
        places: dict[Value, str],
        written: Written,
    ) -> None:
        self.instance = instance
        self.library = library
        self.places = places
        self.written = written
        self.holes: dict[Where, Number] = {}
        self.values: dict[Value, Any] = {}
        self.sizes: Sizes

    def run(self) -> tuple[Any, dict[Where, Number], dict[CallNode, str]]:
        """The structural key, the numbers at its holes, and each call's method name."""
        bodies: dict[Any, str] = {}
        methods: dict[CallNode, str] = {}
        structures: list[Any] = []
        for call in self.instance.calls:
            saved = dict(self.holes)
            structure = self._body(call, len(bodies))
            key = structure, self._exact(call, len(bodies), saved)
            if key in bodies:
                self.holes = saved
            else:
                bodies[key] = "__call__" if not bodies else f"call_{len(bodies) + 1}"
                structures.append(structure)
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
        return (tuple(structures), children, params, shared), self.holes, methods

    def _exact(self, call: CallNode, index: int, before: dict[Where, Number]) -> Any:
        """What else two calls of one module must have in common to be one method.

        The numbers of the body, for an attribute has one value, and what the rules write.
        """
        if len(self.instance.calls) == 1:
            return None
        own = {w: n for w, n in self.holes.items() if w not in before}
        numbers = tuple((w[0], *w[2:], repr(n)) for w, n in own.items())
        forms = (self.written.form(call, index, holes) for holes in ((), own))
        return numbers, *forms

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
        self.values, self.sizes = {}, Sizes(call)
        for position, value in enumerate(call.inputs):
            self.values[value] = ("input", position)
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
        for i, value in enumerate(item.outputs):
            self.values[value] = ("item", position, i)
        return item.op, operands, attrs

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

    def _size(self, size: Dim) -> Any:
        """A size by the argument that has it; else also by the results that have it."""
        if size in self.sizes.places:
            return "size", *self.sizes.places[size]
        found = (
            (place, axis)
            for value, place in self.values.items()
            for axis, other in enumerate(value.type.shape)
            if other == size
        )
        return size, self.sizes.named(size), tuple(found)

    def _structure(self, value: Any, where: Where) -> Any:
        """`value` with its numbers taken out into holes."""
        if isinstance(value, bool | str) or value is None or value == -1:
            return value
        if isinstance(value, Dim):
            return self._size(value)
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
