"""One emitted class: constructor and methods. `Writer` says how a library writes them."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.errors import GraphError
from ivyport.core.ir import Param, Value
from ivyport.modules.body import Body
from ivyport.modules.classes import ClassDef, Library
from ivyport.modules.config import ConfigFields, words
from ivyport.modules.fixed import Fixed
from ivyport.modules.form import Writer
from ivyport.modules.formulas import UNKNOWN, Formula, Formulas
from ivyport.modules.freezing import freezing, parts_below
from ivyport.modules.frozen import Frozen
from ivyport.modules.instances import Instance, ParamSpec
from ivyport.modules.layout import Group, Key, Layout
from ivyport.modules.numbers import Numbers
from ivyport.modules.runs import Run
from ivyport.modules.signature import Signature
from ivyport.modules.tree import CallNode, under

SINGULAR = {"h": "block", "blocks": "block", "block": "block", "stages": "stage"}
# Words of an attribute's name that make it plausible as a length or as a factor.
REPEATS = words("blocks layers repeats iterations steps rounds")


class ClassEmitter(Numbers):
    """Emits one class; also the `Owner` that its method bodies ask."""

    def __init__(
        self,
        definition: ClassDef,
        library: Library,
        layouts: dict[Instance, Layout],
        exprs: Exprs,
        target: Writer,
        draws_biases: bool,
        config: ConfigFields,
        attrs: dict[str, dict[str, Any]],
        owners: dict[Value, tuple[Instance, str]],
        needs_config: set[str],
        frozen: list[Frozen],
        signature: Signature,
        formulas: Formulas,
        fixed: Fixed,
    ) -> None:
        self.definition = definition
        self.library = library
        self.layouts = layouts
        self.layout = layouts[definition.first]
        self.exprs = exprs
        self.target = target
        self.draws_biases = draws_biases
        self.config = config
        self.attrs = attrs
        self.owners = owners
        self.needs_config = needs_config
        self.frozen = frozen
        self.signature = signature
        self.formulas = formulas
        self.fixed = fixed
        self.me = definition.first
        self.blocks = target.blocks
        self.uses_config = False
        self.hidden: set[str] = set()  # global names that are used as ``_name``
        self.numbers: dict[str, ast.expr] = {}  # attribute -> its value in __init__
        self.dropouts: dict[Any, tuple[str, ast.expr]] = {}
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
            self._note_index(call.path)
            return self.reach(self.me, call.path, pyast.name("self"))
        for name, instance in self.me.shared.items():
            if instance.path == call.path:
                slot = self.layout.slots[f"shared {name}"]
                return slot.on(pyast.name("self"))
        raise GraphError(f"{self.me.path!r} cannot reach module {call.path!r}")

    def _note_index(self, path: str) -> None:
        """A body that calls one item of a list is of that list's length."""
        parts = self.me.relative(path).split(".")
        for at, part in enumerate(parts):
            if part.isdigit():
                self.fixed.constant(self.below(f".{'.'.join(parts[:at])}[]"))

    def reach(self, start: Instance, path: str, expr: ast.expr) -> ast.expr:
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
        param = owner.params[relative]
        if owner.layer is None:
            return self.target.read(self.attribute_of(owner, relative), param)
        holder = self.reach(self.me, owner.path, pyast.name("self"))
        spec = owner.layer.params[relative]
        expr = self.target.weight(holder, spec, param)
        return self.target.transposed(self.exprs, expr, spec)

    def attribute_of(self, owner: Instance, relative: str) -> ast.expr:
        """The attribute that holds a parameter."""
        holder = self.reach(self.me, owner.path, pyast.name("self"))
        if owner.layer is None:
            return self.layouts[owner].slots[relative].on(holder)
        spec = owner.layer.params[relative]
        return pyast.attribute(holder, *spec.attr.split("."))

    def update(self, param: Param, new: ast.expr) -> ast.stmt:
        """The statement that gives a buffer its new value."""
        owner, relative = self.owners[param.value]
        holder = self.reach(self.me, owner.path, pyast.name("self"))
        held = self.layouts[owner].slots[relative].on(holder)
        return self.target.update(held, new, trains=param.kind == "parameter")

    def training(self) -> ast.expr:
        """``self.training``, or what says it elsewhere."""
        self.numbers |= self.target.modes
        return self.target.training()

    def any_param(self) -> ast.expr | None:
        """The expression of some parameter in reach, None if there is none."""
        found = (self.param(value) for value in self.owners)
        return next((expr for expr in found if expr is not None), None)

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
        attrs = {} if attention or isinstance(item, CallNode) else item.attrs
        drop = rate, attrs.get("broadcast", ()), bool(attrs.get("always"))
        if drop not in self.dropouts:
            place = [self.definition.cls, "attentionop" if attention else ""]
            expr = self.init_number(where, rate, "rate", place, self._rate_attributes())
            name = self.layout.free("drop_path" if drop[1] else "dropout")
            self.dropouts[drop] = name, self.target.dropout(expr, *drop[1:])
        return pyast.attribute(pyast.name("self"), self.dropouts[drop][0])

    def stream(self) -> ast.expr | None:
        """``self.noise()``, a fresh random key; None where the framework has its own."""
        made = self.target.stream()
        if made is None:
            return self.target.key()
        if "random stream" not in self.layout.names:
            self.layout.names["random stream"] = self.layout.free("noise")
        name = self.layout.names["random stream"]
        self.numbers[name] = made
        return pyast.call(pyast.attribute(pyast.name("self"), name))

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
        self._note_index(run.calls[0].path)
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
            self.numbers[name] = self.length(count, name)
            if isinstance(self.numbers[name], ast.Constant):
                self.fixed.body(self.definition, count, None)
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
            made = (
                self._make(path, child)
                if group is None
                else self._make_group(slot.attr, group)
            )
            statement = pyast.assign(pyast.attribute(self_, slot.attr), made)
            paths = [path] if group is None else list(group.paths())
            made_of = [self.me.children[p] for p in paths if p in self.me.children]
            shares = any(inner.shared for inner in made_of)
            (late if shares else children).append(statement)
        found = [self._parameter(p, x, done) for p, x in self.me.params.items()]
        own = [statement for statement in found if statement is not None]
        dropouts = [
            pyast.assign(pyast.attribute(self_, attr), made)
            for attr, made in self.dropouts.values()
        ]
        numbers = [
            pyast.assign(pyast.attribute(self_, name), value)
            for name, value in self.numbers.items()
        ]
        frozen: list[ast.stmt] = []
        if not self.target.at_birth:
            tables = self._tables()
            frozen = [*freezing(self, tables), *tables.values()]
        body = [*body, *numbers, *children, *late, *own, *dropouts, *frozen]
        if not self.me.path and "Unset" in self.target.classes:
            self.target.classes.add("name_unset")
            body.append(ast.Expr(pyast.call(pyast.name("name_unset"), [self_])))
        arguments = dict.fromkeys(
            (self.layout.slots[f"shared {n}"].attr for n in self.me.shared),
            self.target.module_base,
        )
        for name, values in self.definition.arguments.items():
            kinds = sorted({type(value).__name__ for value in values})
            arguments[name] = kinds[0]
        if self.uses_config:
            self.needs_config.add(self.definition.name)
        if not self.me.path:
            self.target.at_root()
        name = self.definition.name
        return self.target.constructor(name, body, arguments, self.uses_config)

    def _make(self, path: str, child: Instance) -> ast.expr:
        if child.layer is not None:
            place = [path, child.cls]
            full = f"{self.me.path}.{path}" if self.me.path else path
            known = [f"{full}.{a}" for a in ("p", "eps", "variance_epsilon", "epsilon")]
            numbers = {
                name: self.init_structure(
                    ("layer", path, name), value, name, place, known
                )
                for name, value in child.layer.numbers.items()
            }
            starts = self._starts(path, child) if self.target.at_birth else {}
            return self._frozen(path, self.target.layer(child.layer, numbers, starts))
        definition = self.library.of[child]
        args: list[ast.expr] = []
        if definition.name in self.needs_config:
            self.uses_config = True
            args.append(pyast.name("config"))
        for instance in child.shared.values():
            args.append(self._shared_expr(instance))
        kwargs = {
            name: self.init_number(("child", path, name), value, name, [path])
            for name, value in self.library.arguments(child).items()
        }
        made = self.target.child(definition.name, args, kwargs)
        return self._frozen(path, made)

    def _frozen(self, path: str, made: ast.expr) -> ast.expr:
        """The constructor call of a child, of which as much is frozen as the source freezes."""
        if not self.target.at_birth:
            return made
        inside = parts_below(self, path)
        return made if inside is None else self.target.frozen(made, inside)

    def _shared_expr(self, instance: Instance) -> ast.expr:
        if under(instance.path, self.me.path):
            return self.reach(self.me, instance.path, pyast.name("self"))
        for name, other in self.me.shared.items():
            if other is instance:
                return self.layout.slots[f"shared {name}"].on(pyast.name("self"))
        raise GraphError(f"{self.me.path!r} cannot hand on module {instance.path!r}")

    def _make_group(self, attr: str, group: Group) -> ast.expr:
        """A container of modules or parameters, with the containers in it."""
        made: dict[Key, ast.expr] = {}
        for key, item in group.items.items():
            if isinstance(item, Group):
                made[key] = self._make_group(attr, item)
            elif item is None:
                made[key] = self.target.gap()
            elif group.trained:
                made[key] = self._initial(attr, item, self.me.params[item])
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
            length = self.length(len(made), f"{path.rpartition('.')[0]}[]")
            return self.target.list_of(pyast.repeated(made[0], length), trained)
        self.fixed.constant(self.below(f".{path.rpartition('.')[0]}[]"))
        items: list[ast.expr] = []
        for expr, count in groups:
            if count > 2:
                repeated = pyast.repeated(expr, ast.Constant(count))
                items.append(ast.Starred(repeated, ast.Load()))
            else:
                items += [expr] * count
        return self.target.list_of(ast.List(items, ast.Load()), trained)

    def _parameter(self, path: str, param: Param, done: set[str]) -> ast.stmt | None:
        """The statement that makes a parameter, or the whole container that holds it."""
        slot = self.layout.slots.get(path)
        if slot is None or slot.attr in done:
            return None
        done.add(slot.attr)
        group = self.layout.groups.get(slot.attr)
        if group is not None:
            target = pyast.attribute(pyast.name("self"), slot.attr)
            return pyast.assign(target, self._make_group(slot.attr, group))
        if param.kind == "parameter":
            initial = self._initial(slot.attr, path, param)
            return pyast.assign(slot.on(pyast.name("self")), initial)
        shape = self._shape(path, param)
        return self.target.buffer(slot.attr, param, shape, self._formula(path))

    def _formula(self, path: str) -> Formula | None:
        """What every instance of the class puts into a buffer, None where that differs."""
        instances = self.definition.instances
        params = [i.params[path] for i in instances]
        found = {self.formulas.of(p) for p in params}
        formula = found.pop() if len(found) == 1 else None
        self._fix_others(params, formula)
        return formula

    def _fix_others(self, params: Iterable[Param], formula: Formula | None) -> None:
        """Fields with which the formula would not give the source's values are fixed."""
        if formula is not None and formula is not UNKNOWN:
            for param in params:
                for field in self.formulas.following(param, formula):
                    self.fixed.table(field, param.source)

    def _initial(self, attr: str, path: str, param: Param) -> ast.expr:
        whole = self.target.at_birth and Frozen("") in self.frozen
        frozen = whole or Frozen(path, param=True) in self.frozen
        start = self._start(i.params[path] for i in self.definition.instances)
        shape = self._shape(path, param)
        return self.target.parameter(attr, param, shape, frozen, start)

    def _start(self, params: Iterable[Param]) -> Formula | None:
        """What all of these parameters start as, by the configuration where that is proved."""
        params = list(params)
        found = {self.formulas.start(p) for p in params}
        start = found.pop() if len(found) == 1 else None
        if start is None or start.kind != "full" or start is UNKNOWN:
            self._fix_others(params, start)
            return start
        fields = {self.config.of(start.number, p.source) for p in params}
        field = fields.pop() if len(fields) == 1 else None
        if field is None:
            return start
        self.uses_config = True
        number = pyast.hole(start.number, pyast.name(f"config.{field}"))
        return dataclasses.replace(start, number=number)

    def _tables(self) -> dict[str, ast.stmt]:
        """Weights of layers that are no draw: ``self.positions.embedding = ...``."""
        made: dict[str, ast.stmt] = {}
        for path, child in self.me.children.items():
            made |= self._restarted(path, child, False)
            if self.draws_biases and f"{path}.weight" in made:
                # A layer that starts as nothing has none.
                made |= self._restarted(path, child, True)
        return made

    def _restarted(
        self, path: str, child: Instance, beside: bool
    ) -> dict[str, ast.stmt]:
        """The same for one layer."""
        made: dict[str, ast.stmt] = {}
        for name, spec, start in self._restarts(path, child, beside):
            slot = self.layout.slots[path].on(pyast.name("self"))
            target = pyast.attribute(slot, spec.attr)
            frozen = not any(p.trainable for p in self._held(path, name))
            table = frozen and not spec.transforms and start is not UNKNOWN
            made[f"{path}.{name}"] = (
                pyast.assign(target, self._table(path, child, name, start))
                if table
                else self.target.restart(target, start, frozen)
            )
        return made

    def _starts(self, path: str, child: Instance) -> dict[str, Any]:
        """What the weights of a layer start as, by their names in it, with their shapes."""
        found: dict[str, Any] = {}
        for _, spec, start in self._restarts(path, child, False):
            plain = start is UNKNOWN or start.kind in ("full", "eye")
            shape = None if plain else self._layer_shape(path, child)
            found[spec.attr] = start, shape
        return found

    def _restarts(
        self, path: str, child: Instance, beside: bool
    ) -> Iterator[tuple[str, ParamSpec, Formula]]:
        """The weights of a layer that are no draw, and what they start as."""
        for name, spec in child.layer.params.items() if child.layer else ():
            held = self._held(path, name)
            found = {self.formulas.layer_start(p, beside) for p in held}
            start = found.pop() if len(found) == 1 else None
            if start is None:
                continue
            self._note_index(f"{self.me.path}.{path}".strip("."))
            self._fix_others(held, start)
            yield name, spec, start

    def _held(self, path: str, name: str) -> list[Param]:
        """A weight of a layer in every instance of the class."""
        instances = self.definition.instances
        params = [i.children[path].params.get(name) for i in instances]
        return [p for p in params if p is not None]

    def _table(self, path: str, child: Instance, name: str, start: Formula) -> ast.expr:
        """A frozen weight of a layer, of the layer's first two numbers."""
        shape = self._layer_shape(path, child)
        return self.target.parameter(name, child.params[name], shape, True, start)

    def _layer_shape(self, path: str, child: Instance) -> ast.expr:
        assert child.layer is not None
        return pyast.tuple_of(
            self.init_structure(("layer", path, n), v, n, [path, child.cls])
            for n, v in list(child.layer.numbers.items())[:2]
        )

    def _shape(self, path: str, param: Param) -> ast.expr:
        return pyast.tuple_of(
            self.init_number(("param", path, f"size_{axis}"), size, "features", [path])
            for axis, size in enumerate(param.type.shape)
            if isinstance(size, int)
        )
