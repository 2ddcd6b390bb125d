"""One emitted class: constructor and methods. `Target` says how a framework writes them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import partial
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.errors import GraphError
from ivyport.core.ir import Param, Value
from ivyport.modules.body import Body
from ivyport.modules.classes import ClassDef, Library
from ivyport.modules.config import ConfigFields, plausible, words
from ivyport.modules.formulas import Formula, Formulas
from ivyport.modules.framework import Target
from ivyport.modules.frozen import Frozen, first_index
from ivyport.modules.instances import Instance
from ivyport.modules.layout import Group, Key, Layout
from ivyport.modules.literals import Where
from ivyport.modules.places import places, spelled
from ivyport.modules.runs import Run
from ivyport.modules.signature import Signature
from ivyport.modules.tree import CallNode, under

SINGULAR = {"h": "block", "blocks": "block", "block": "block", "stages": "stage"}
SIZES = ("shape", "sizes", "index", "stop")  # attributes that hold lengths of axes
# Words of an attribute's name that make it plausible as a length or as a factor.
REPEATS = words("blocks layers repeats iterations steps rounds")
# Numbers too common for an attribute of that value to be their name.
PLAIN = {0, 1, 2, -1}


class ClassEmitter:
    """Emits one class; also the `Owner` that its method bodies ask."""

    def __init__(
        self,
        definition: ClassDef,
        library: Library,
        layouts: dict[Instance, Layout],
        exprs: Exprs,
        target: Target,
        config: ConfigFields,
        attrs: dict[str, dict[str, Any]],
        owners: dict[Value, tuple[Instance, str]],
        needs_config: set[str],
        frozen: list[Frozen],
        signature: Signature,
        formulas: Formulas,
    ) -> None:
        self.definition = definition
        self.library = library
        self.layouts = layouts
        self.layout = layouts[definition.first]
        self.exprs = exprs
        self.target = target
        self.config = config
        self.attrs = attrs
        self.owners = owners
        self.needs_config = needs_config
        self.frozen = frozen
        self.signature = signature
        self.formulas = formulas
        self.me = definition.first
        self.blocks = target.blocks
        self.uses_config = False
        self.hidden: set[str] = set()  # global names that are used as ``_name``
        self.numbers: dict[str, ast.expr] = {}  # attribute -> its value in __init__
        self.dropouts: dict[Any, tuple[str, ast.expr, tuple[int, ...]]] = {}
        self.init: list[ast.stmt] = []

    def run(self, results: Any, preamble: Any) -> ast.ClassDef:
        """The class; `results(body)` makes each method's returned expression.

        `preamble(body)` makes what the model's own call begins with.
        """
        methods: list[ast.stmt] = []
        for index, (method, call) in enumerate(self.definition.methods.items()):
            made = partial(results, call=call)
            if len(call.stack) == 1:
                body = Body(call, index, self, signature=self.signature)
                body.run(made, preamble)
            else:
                body = Body(call, index, self)
                body.run(made)
            self.hidden |= body.hidden
            name = self.target.call_method if method == "__call__" else method
            parameters = body.parameters or pyast.arguments(["self", *body.arguments])
            statements = body.statements or [ast.Pass()]
            methods.append(ast.FunctionDef(name, parameters, statements, [], lineno=0))
        constructor = self._constructor()
        base = self.exprs.name(self.target.module_base)
        return ast.ClassDef(
            self.definition.name, [base], [], [*constructor, *methods], []
        )

    # ---- what bodies ask

    def child(self, call: CallNode) -> ast.expr:
        """``self.attention.self`` for an inner call, with its method if it has several."""
        expr = self._module(call)
        return expr if call.method == "__call__" else pyast.attribute(expr, call.method)

    def _module(self, call: CallNode) -> ast.expr:
        if under(call.path, self.me.path):
            return self._reach(self.me, call.path, pyast.name("self"))
        for name, instance in self.me.shared.items():
            if instance.path == call.path:
                slot = self.layout.slots[f"shared {name}"]
                return slot.on(pyast.name("self"))
        raise GraphError(f"{self.me.path!r} cannot reach module {call.path!r}")

    def _reach(self, start: Instance, path: str, expr: ast.expr) -> ast.expr:
        """The attribute chain from `start` down to the instance at `path`."""
        while start.path != path:
            relative = start.relative(path)
            step = next(
                p
                for p in start.children
                if relative == p or relative.startswith(p + ".")
            )
            expr = self.layouts[start].slots[step].on(expr)
            start = start.children[step]
        return expr

    def param(self, value: Value) -> ast.expr | None:
        """``self.weight[...]``, or the parameter of a native layer in the source's layout."""
        if value not in self.owners:
            return None
        owner, relative = self.owners[value]
        if not under(owner.path, self.me.path):
            return None
        expr = self.target.read(self._attribute_of(owner, relative))
        if owner.layer is None:
            return expr
        return self.target.transposed(self.exprs, expr, owner.layer.params[relative])

    def _attribute_of(self, owner: Instance, relative: str) -> ast.expr:
        """The attribute that holds a parameter."""
        holder = self._reach(self.me, owner.path, pyast.name("self"))
        if owner.layer is None:
            return self.layouts[owner].slots[relative].on(holder)
        spec = owner.layer.params[relative]
        return pyast.attribute(holder, *spec.attr.split("."))

    def update(self, param: Param, new: ast.expr) -> ast.stmt:
        """The statement that gives a buffer its new value."""
        owner, relative = self.owners[param.value]
        holder = self._reach(self.me, owner.path, pyast.name("self"))
        return self.target.update(self.layouts[owner].slots[relative].on(holder), new)

    def training(self) -> ast.expr:
        """``self.training``, or what says it elsewhere."""
        self.numbers |= self.target.modes
        return self.target.training()

    def any_param(self) -> ast.expr | None:
        """The expression of some parameter in reach, None if there is none."""
        found = (self.param(value) for value in self.owners)
        return next((expr for expr in found if expr is not None), None)

    def number(
        self, where: Where, value: int | float, *, shared: bool = False
    ) -> int | float:
        """`value` as ``self.<name>`` where it varies or the source has a name for it."""
        name = self.definition.argument_of.get(where)
        if name is not None:
            self.numbers[name] = pyast.name(name)
            return pyast.hole(value, pyast.attribute(pyast.name("self"), name))
        name = None if shared else self._attribute(where, value)
        if name is None:
            return value if shared else self._half(where, value)
        if name not in self.numbers:
            self.layout.free(name)
            self.numbers[name] = self._constant(value, name, where)
        return pyast.hole(value, pyast.attribute(pyast.name("self"), name))

    def _half(self, where: Where, value: int | float) -> int | float:
        """``self.head_dim // 2``, where rotary embeddings cut a head in two."""
        if where[0] != "attr" or where[3] != "index" or not isinstance(value, int):
            return value
        name = self._attribute(where, 2 * value)
        if name is None or not {"head", "dim"} <= words(name):
            return value
        whole = self.number(where, 2 * value)
        return pyast.hole(value, self.exprs.binary("//", whole, 2))

    def _attribute(self, where: Where, value: int | float) -> str | None:
        """The attribute that holds `value` on every instance and is named like its use."""
        role = "shape" if where[0] == "attr" and where[3] in SIZES else "factor"
        if value in PLAIN or (role == "factor" and isinstance(value, int)):
            return None
        names = [
            k
            for k, v in self.attrs.get(self.me.path, {}).items()
            if type(v) is type(value) and v == value and k.isidentifier()
        ]
        names = [
            n
            for n in names
            if plausible(n, role)
            and (n in self.numbers or n not in self.layout.taken)
            and n not in self.definition.arguments
            and all(self.attrs.get(i.path, {}).get(n) == value
                    for i in self.definition.instances)
        ]  # fmt: skip
        return names[0] if names else None

    def _constant(self, value: int | float, name: str, where: Where) -> ast.expr:
        if self._proves(value):
            return self._size(value, self._below(f".{name}"))
        field = self.config.exact(value, name)
        quotient = None if field else self.config.head_size(value, name)
        if quotient is not None:
            self.uses_config = True
            width, heads = (pyast.name(f"config.{f}") for f in quotient)
            return self.exprs.binary("//", width, heads)
        if field is None:
            role = next((str(p) for p in reversed(where) if isinstance(p, str)), "")
            field = self.config.find(value, role, [name]) if role != "shape" else None
        if field is None:
            return self.exprs.const(value)
        self.uses_config = True
        return pyast.attribute(pyast.name("config"), field)

    def dropout(self, call: CallNode, position: int, rate: float) -> ast.expr:
        """The attribute of the dropout layer for an operation in the body; one a rate."""
        item = call.items[position]
        attention = not isinstance(item, CallNode) and item.op == "attention"
        key = "dropout" if attention else "rate"
        where = (
            "attr",
            list(self.definition.methods.values()).index(call),
            position,
            key,
        )
        axes = (
            () if attention or isinstance(item, CallNode) else item.attrs["broadcast"]
        )
        if (rate, axes) not in self.dropouts:
            place = [self.definition.cls, "attentionop" if attention else ""]
            expr = self._init_number(
                where, rate, "rate", place, self._rate_attributes()
            )
            name = self.layout.free("drop_path" if axes else "dropout")
            self.dropouts[rate, axes] = (name, expr, axes)
        return pyast.attribute(pyast.name("self"), self.dropouts[rate, axes][0])

    def stream(self) -> ast.expr | None:
        """``self.noise``, a stream of random keys; None where the framework has its own."""
        made = self.target.stream()
        if made is None:
            return None
        if "random stream" not in self.layout.names:
            self.layout.names["random stream"] = self.layout.free("noise")
        name = self.layout.names["random stream"]
        self.numbers[name] = made
        return pyast.attribute(pyast.name("self"), name)

    def _rate_attributes(self) -> list[str]:
        """Attributes that may hold a rate used by the class itself, attention's ones first."""
        prefix = f"{self.me.path}." if self.me.path else ""
        inside = [
            k
            for k in self.config.proven
            if k.startswith(prefix) and k[len(prefix) :].count(".") <= 1
        ]
        rates = [k for k in inside if "drop" in k[len(prefix) :].lower()]
        return sorted(rates, key=lambda k: "att" not in k[len(prefix) :].lower())

    def leaf_operands(self, call: CallNode) -> list[Value]:
        """Operands that an inner call passes: all its inputs."""
        return list(call.inputs)

    def rolls(self, run: Run) -> bool:
        """Whether a loop can call the modules: they are one module, or entries of a list."""
        relative = self.me.relative(run.calls[0].path)
        listed = relative.rpartition(".")[0] in self.layout.lists
        return run.repeated or (listed and relative in self.layout.slots)

    def container(self, run: Run) -> ast.expr:
        """``self.layer``, a slice of it, or ``range(n)`` for one module called n times."""
        count = len(run.calls)
        if run.repeated:
            return self.times(count)
        relative = self.me.relative(run.calls[0].path)
        slot = self.layout.slots[relative]
        whole = self.layout.lists[relative.rpartition(".")[0]]
        expr = slot.container.on(pyast.name("self"))
        start = int(slot.keys[-1])
        if start == 0 and count == len(whole):
            return expr
        lower = ast.Constant(start) if start else None
        upper = None if start + count == len(whole) else ast.Constant(start + count)
        return pyast.subscript(expr, ast.Slice(lower, upper, None))

    def times(self, count: int) -> ast.expr:
        """``range(self.num_repeats)``, under the source's own name if it has one."""
        role = f"repeats {count}"
        if role not in self.layout.names:
            named = [
                k
                for k, v in self.attrs.get(self.me.path, {}).items()
                if type(v) is int and v == count and words(k) & REPEATS
                and k.isidentifier() and k not in self.layout.taken
            ]  # fmt: skip
            name = self.layout.free(named[0] if named else "num_repeats")
            self.layout.names[role] = name
            self.numbers[name] = self._length(count, name)
        name = self.layout.names[role]
        return pyast.call(
            pyast.name("range"), [pyast.attribute(pyast.name("self"), name)]
        )

    def loop_variable(self, run: Run) -> str:
        """``layer`` for ``self.layers``; ``_`` for repeated calls."""
        if run.repeated:
            return "_"
        parts = self.me.relative(run.calls[0].path).split(".")
        names = [part for part in parts if not part.isdigit()]
        last = names[-1].rpartition("_")[2].lower() if names else ""
        singular = SINGULAR.get(last, last.removesuffix("s"))
        helper = singular in vars(self.exprs.runtime)  # a function, maybe called too
        return singular if singular.isidentifier() and not helper else "layer"

    # ---- the constructor

    def _constructor(self) -> list[ast.stmt]:
        late: list[ast.stmt] = []
        body: list[ast.stmt] = []
        self_ = pyast.name("self")
        for name in self.me.shared:
            slot = self.layout.slots[f"shared {name}"]
            body.append(pyast.assign(slot.on(self_), pyast.name(slot.attr)))
        done: set[str] = set()
        children: list[ast.stmt] = []
        for path, child in self.me.children.items():
            slot = self.layout.slots[path]
            if slot.attr in done:
                continue
            done.add(slot.attr)
            group = self.layout.groups.get(slot.attr)
            made = self._make(path, child) if group is None else self._make_group(group)
            statement = pyast.assign(pyast.attribute(self_, slot.attr), made)
            paths = [path] if group is None else list(group.paths())
            made_of = [self.me.children[p] for p in paths if p in self.me.children]
            shares = any(inner.shared for inner in made_of)
            (late if shares else children).append(statement)
        found = [self._parameter(p, x, done) for p, x in self.me.params.items()]
        own = [statement for statement in found if statement is not None]
        dropouts = [
            pyast.assign(pyast.attribute(self_, attr), self.target.dropout(rate, axes))
            for attr, rate, axes in self.dropouts.values()
        ]
        numbers = [
            pyast.assign(pyast.attribute(self_, name), value)
            for name, value in self.numbers.items()
        ]
        frozen = self._freeze()
        body = [*body, *numbers, *children, *late, *own, *dropouts, *frozen]
        arguments = [self.layout.slots[f"shared {n}"].attr for n in self.me.shared]
        arguments += list(self.definition.arguments)
        if self.uses_config:
            self.needs_config.add(self.definition.name)
        config = "config" if self.uses_config else None
        return [self.target.constructor(body, arguments, config)]

    def _make(self, path: str, child: Instance) -> ast.expr:
        if child.layer is not None:
            place = [path, child.cls]
            full = f"{self.me.path}.{path}" if self.me.path else path
            known = [f"{full}.{a}" for a in ("p", "eps", "variance_epsilon", "epsilon")]
            numbers = {
                name: self._init_structure(
                    ("layer", path, name), value, name, place, known
                )
                for name, value in child.layer.numbers.items()
            }
            return self.target.layer(child.layer, numbers)
        definition = self.library.of[child]
        args: list[ast.expr] = []
        if definition.name in self.needs_config:
            self.uses_config = True
            args.append(pyast.name("config"))
        for instance in child.shared.values():
            args.append(self._shared_expr(instance))
        kwargs = {
            name: self._init_number(("child", path, name), value, name, [path])
            for name, value in self.library.arguments(child).items()
        }
        return self.target.child(definition.name, args, kwargs)

    def _shared_expr(self, instance: Instance) -> ast.expr:
        if under(instance.path, self.me.path):
            return self._reach(self.me, instance.path, pyast.name("self"))
        for name, other in self.me.shared.items():
            if other is instance:
                return self.layout.slots[f"shared {name}"].on(pyast.name("self"))
        raise GraphError(f"{self.me.path!r} cannot hand on module {instance.path!r}")

    def _make_group(self, group: Group) -> ast.expr:
        """A container of modules or parameters, with the containers in it."""
        made: dict[Key, ast.expr] = {}
        for key, item in group.items.items():
            if isinstance(item, Group):
                made[key] = self._make_group(item)
            elif item is None:
                made[key] = self.target.gap()
            elif group.trained:
                made[key] = self._initial(item, self.me.params[item])
            else:
                made[key] = self._make(item, self.me.children[item])
        if group.is_list:
            first = next(group.paths())
            return self._make_list(list(made.values()), first, group.trained)
        keys: list[ast.expr | None] = [ast.Constant(key) for key in made]
        items = ast.Dict(keys, list(made.values()))
        return self.target.dict_of(items, group.trained)

    def _make_list(self, made: list[ast.expr], path: str, trained: bool) -> ast.expr:
        """Equal entries become a comprehension, runs of them a starred one."""
        groups: list[tuple[ast.expr, int]] = []
        for expr in made:
            if groups and ast.dump(groups[-1][0]) == ast.dump(expr):
                groups[-1] = (expr, groups[-1][1] + 1)
            else:
                groups.append((expr, 1))
        if len(groups) == 1 and len(made) > 1:
            length = self._length(len(made), f"{path.rpartition('.')[0]}[]")
            return self.target.list_of(pyast.repeated(made[0], length), trained)
        items: list[ast.expr] = []
        for expr, count in groups:
            if count > 2:
                repeated = pyast.repeated(expr, ast.Constant(count))
                items.append(ast.Starred(repeated, ast.Load()))
            else:
                items += [expr] * count
        return self.target.list_of(ast.List(items, ast.Load()), trained)

    def _proves(self, value: int | float) -> bool:
        """Whether the source was asked where its integers come from."""
        return type(value) is int and self.config.sizes is not None

    def _below(self, place: str) -> list[str]:
        """A place of the class in each instance."""
        instances = self.definition.instances
        return [f"{i.path}{place}".lstrip(".") for i in instances]

    def _size(self, value: int | float, found: Iterable[str | None]) -> ast.expr:
        """An integer as fields of the configuration, where that is proved."""
        formula = self.config.size(found)
        if formula is None:
            return self.exprs.const(value)
        self.uses_config = True
        return spelled(self.exprs, formula)

    def _length(self, count: int, place: str) -> ast.expr:
        if self._proves(count):
            return self._size(count, self._below(f".{place}"))
        field = self.config.find(
            count, "length", [place, self.definition.cls, self.me.path]
        )
        if field is None:
            return ast.Constant(count)
        self.uses_config = True
        return pyast.attribute(pyast.name("config"), field)

    def _init_number(
        self,
        where: Where,
        value: int | float,
        role: str,
        place: list[str],
        attributes: Iterable[str] = (),
    ) -> ast.expr:
        name = self.definition.argument_of.get(where)
        if name is not None:
            return pyast.name(name)
        if self._proves(value):
            found = (
                key
                for instance in self.definition.instances
                for key in places(instance, where, value, self.library)
            )
            return self._size(value, found)
        field = self.config.of(value, *attributes)
        field = field or self.config.find(value, role, place)
        if field is None:
            return self.exprs.const(value)
        self.uses_config = True
        return pyast.attribute(pyast.name("config"), field)

    def _init_structure(
        self,
        where: Where,
        value: Any,
        role: str,
        place: list[str],
        attributes: Iterable[str] = (),
    ) -> ast.expr:
        if isinstance(value, tuple):
            return pyast.tuple_of(
                self._init_structure((*where, i), v, role, place, attributes)
                for i, v in enumerate(value)
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._init_number(where, value, role, place, attributes)
        return self.exprs.const(value)

    def _parameter(self, path: str, param: Param, done: set[str]) -> ast.stmt | None:
        """The statement that makes a parameter, or the whole container that holds it."""
        slot = self.layout.slots.get(path)
        if slot is None or slot.attr in done:
            return None
        done.add(slot.attr)
        group = self.layout.groups.get(slot.attr)
        if group is not None:
            target = pyast.attribute(pyast.name("self"), slot.attr)
            return pyast.assign(target, self._make_group(group))
        if param.kind == "parameter":
            initial = self._initial(path, param)
            return pyast.assign(slot.on(pyast.name("self")), initial)
        shape = self._shape(path, param)
        return self.target.buffer(slot.attr, param, shape, self._formula(path))

    def _formula(self, path: str) -> Formula | None:
        """What every instance of the class puts into a buffer, None where that differs."""
        instances = self.definition.instances
        found = {self.formulas.of(i.params[path]) for i in instances}
        return found.pop() if len(found) == 1 else None

    def _initial(self, path: str, param: Param) -> ast.expr:
        frozen = Frozen(path, param=True) in self.frozen
        return self.target.parameter(param, self._shape(path, param), frozen=frozen)

    def _freeze(self) -> list[ast.stmt]:
        """What the source freezes; a run of modules in a list is a loop."""
        statements: list[ast.stmt] = []
        lists: dict[tuple[str, str], list[int]] = {}
        for item in self.frozen:
            if item.param:
                # A parameter of its own is made frozen.
                if item.path not in self.me.params:
                    statements.append(self._freeze_param(item.path))
                continue
            head, index, tail = first_index(item.path)
            if head in self.layout.lists and f"{head}.{index}" in self.me.children:
                lists.setdefault((head, tail), []).append(int(index))
                continue
            path = f"{self.me.path}.{item.path}".strip(".")
            target = pyast.name("self")
            if item.path:
                target = self._reach(self.me, path, target)
            statements.append(self.target.freeze(target))
        for (head, tail), indices in lists.items():
            statements += self._freeze_list(head, tail, indices)
        return statements

    def _freeze_param(self, path: str) -> ast.stmt:
        absolute = f"{self.me.path}.{path}".strip(".")
        owner, relative = next(
            (o, r)
            for o, r in self.owners.values()
            if f"{o.path}.{r}".strip(".") == absolute
        )
        return self.target.freeze_param(self._attribute_of(owner, relative))

    def _freeze_list(self, head: str, tail: str, indices: list[int]) -> list[ast.stmt]:
        """``for layer in self.layers[:6]: freeze(layer.attention)``."""
        count = len(self.layout.lists[head])
        first, last = indices[0], indices[-1] + 1
        whole = self.layout.slots[f"{head}.{first}"].container.on(pyast.name("self"))
        if indices != list(range(first, last)) or len(indices) < 3:
            paths = (".".join(p for p in (head, str(i), tail) if p) for i in indices)
            full = (f"{self.me.path}.{path}".strip(".") for path in paths)
            found = (self._reach(self.me, p, pyast.name("self")) for p in full)
            return [self.target.freeze(expr) for expr in found]
        if len(indices) < count:
            lower = ast.Constant(first) if first else None
            upper = ast.Constant(last) if last < count else None
            whole = pyast.subscript(whole, ast.Slice(lower, upper, None))
        elif not tail:
            return [self.target.freeze(whole)]
        child = self.me.children[f"{head}.{first}"]
        item = pyast.name("layer")
        if tail:
            item = self._reach(child, f"{child.path}.{tail}", item)
        name = ast.Name("layer", ast.Store())
        return [ast.For(name, whole, [self.target.freeze(item)], [], lineno=0)]

    def _shape(self, path: str, param: Param) -> ast.expr:
        return pyast.tuple_of(
            self._init_number(("param", path, f"size_{axis}"), size, "features", [path])
            for axis, size in enumerate(param.type.shape)
            if isinstance(size, int)
        )
