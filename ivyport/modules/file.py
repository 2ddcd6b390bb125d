"""The emitted file: docstring, imports, configuration, outputs, helpers, classes, files."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import ByMode, Graph, Record, Value, leaves
from ivyport.core.starts import Starts
from ivyport.modules import folds
from ivyport.modules.body import Body
from ivyport.modules.checks import shapes_check, sizes_checks
from ivyport.modules.classes import ClassDef, Library, classify
from ivyport.modules.config import ConfigFields
from ivyport.modules.custom import define
from ivyport.modules.emit import ClassEmitter
from ivyport.modules.fixed import Fixed
from ivyport.modules.form import Form
from ivyport.modules.formulas import Formulas
from ivyport.modules.frozen import frozen_by_class
from ivyport.modules.instances import Instance, all_instances, collect
from ivyport.modules.layout import Layout
from ivyport.modules.leaves import dissolve_others
from ivyport.modules.literals import Written
from ivyport.modules.signature import Signature
from ivyport.modules.tree import CallNode, build
from ivyport.weights.mapping import Row

Config = dict[str, Any]


@dataclasses.dataclass
class Emitted:
    """Source text of a port and what goes with it.

    Attributes:
        source: the file.
        cls: name of the model's class.
        config: name of its configuration class, None if it takes none.
        rows: where each source tensor goes.
        modules: source module path to the port's attribute path, for comparing activations.
        classes: names of all its classes.
        fields: the fields of its configuration class.
    """

    source: str
    cls: str
    config: str | None
    rows: list[Row]
    modules: dict[str, str]
    classes: list[str]
    fields: tuple[str, ...] = ()


class FileEmitter:
    """Emits one graph as one file of a framework."""

    def __init__(
        self,
        graph: Graph,
        config: Config,
        docstring: str,
        form: Form,
        tensors: Mapping[str, Any],
        starts: Starts | None = None,
    ) -> None:
        self.form, self.language = form, form.language
        self.layers = form.layers()
        self.graph = graph
        self.docstring = docstring
        self.formulas = Formulas(graph, tensors, config, starts)
        self.fields = ConfigFields(config, graph.fields, graph.sizes)
        self.fixed = Fixed(graph, self.fields.fields)
        self.target = form.writer(Exprs(self.language))
        self.exprs = self.target.exprs
        self.runtime = self.exprs.runtime
        self.imports = {**self.language.imports, **form.imports}
        self.records: dict[str, tuple[str, ast.ClassDef]] = {}
        self.root = build(graph)
        dissolve_others(self.root, graph, form.leaf)
        self.top = collect(self.root, graph, form.leaf)
        places = {p.value: p.place for p in graph.params.values()}
        self.library: Library = classify(
            self.top, graph.attrs, self._written(), places, self._own_names()
        )
        naming = form.naming()
        self.layouts = {
            i: Layout(i, naming) for i in all_instances(self.top) if i.layer is None
        }
        self._group_calls()

    def _written(self) -> Written:
        """The rules, for asking: what they need for it is no part of the file."""
        return Written(self.form.writer(Exprs(self.language)).exprs)

    def _own_names(self) -> set[str]:
        """Names that the file may define beside the source's classes."""
        kinds = {i.layer.kind for i in all_instances(self.top) if i.layer is not None}
        kinds |= {
            "Buffer",
            "Frozen",
            "SharedDropout",
            "Unset",
            "UnsetParam",
            "demand_traced",
            "freeze",
            *self.form.loading,
            "llama3_frequencies",
            "name_unset",
            "sinusoids",
        } | self.target.classes  # made for single operations, too
        sources = pyast.helper_sources(self.layers, kinds)
        kinds_of = (ast.ClassDef, ast.FunctionDef)
        names = {n.name for n in sources if isinstance(n, kinds_of)}
        functions = {n for n, f in vars(self.runtime).items() if inspect.isfunction(f)}
        return names | functions | {"Any", "NamedTuple", "load_file", *self.imports}

    def _group_calls(self) -> None:
        """Tell each call its method and which other calls are alike."""
        instances = {i.path: i for i in all_instances(self.top)}
        for call in self.root.calls():
            instance = instances[call.path]
            if instance.layer is None:
                call.method = self.library.method_of[call]
                call.group = (id(self.library.of[instance]), call.method)

    def run(self) -> Emitted:
        """The file's text and its weight rows."""
        owners: dict[Value, tuple[Instance, str]] = {
            param.value: (instance, relative)
            for instance in all_instances(self.top)
            for relative, param in instance.params.items()
        }
        needs_config: set[str] = set()
        taken = {c.name for c in self.library.classes} | self._own_names()
        functions = define(self.graph, self.exprs, self.target, taken)
        frozen = frozen_by_class(self.top, self.library)
        hidden: set[str] = set()
        classes = []
        signature = Signature(self.graph.signature(), self.exprs, self._record)
        for definition in self.library.classes:
            emitter = ClassEmitter(
                definition, self.library, self.layouts, self.exprs, self.target,
                self.form.draws_biases, self.fields, self.graph.attrs, owners, needs_config,
                frozen.get(definition.name, []), signature, self.formulas,
                self.fixed,
            )  # fmt: skip
            classes.append(emitter.run(self._results, self._preamble))
            hidden |= emitter.hidden
        name = self.library.of[self.top].name
        config = self._config_name(name) if needs_config else None
        for cls in classes:
            _annotate_config(cls, config)
        paths = self._paths()
        rows = self._rows(paths)
        end: list[ast.stmt] = []
        if self.form.tail is not None:
            end = self.form.tail(rows, name, config, name in self.target.modal)
        else:
            classes[-1].body += self._loading(name, config)
            if config:
                _keep_config(classes[-1])
        aliases = [pyast.assign(f"_{n}", pyast.name(n)) for n in sorted(hidden)]
        body = self._assemble([*functions, *classes, *end], config, aliases)
        return Emitted(
            pyast.unparse(body), name, config, rows, paths,
            [c.name for c in classes], tuple(self._shown()) if config else (),
        )  # fmt: skip

    # ---- what the model's call begins with, and what methods return

    def _preamble(self, body: Body) -> tuple[list[ast.stmt], list[ast.stmt]]:
        """The check of shapes, and behind the names of sizes that of sizes."""
        sizes = sizes_checks(self.graph, body)
        return shapes_check(self.graph, body), sizes

    def _results(self, body: Body, call: CallNode) -> ast.expr | None:
        if call is self.root:
            outputs = self.graph.outputs
            values = list(leaves(outputs))
            body.bind_all(values)
            if isinstance(outputs, ByMode):
                trained = ast.Return(self._structure(outputs.trained, body))
                body.in_training([trained])
                outputs = outputs.evaluated
            expr = self._structure(outputs, body)
            body.consume(values)
            return expr
        values = call.outputs
        body.bind_all(values, limit=80)
        made = [body.expr(v) for v in values]
        body.consume(values)
        if not made:
            return None
        return made[0] if len(made) == 1 else pyast.tuple_of(made)

    def _structure(self, item: Any, body: Body) -> ast.expr:
        if isinstance(item, Value):
            return body.expr(item)
        if isinstance(item, Record):
            name = self._record(item)
            fields = {k: v for k, v in item.fields if k not in item.absent}
            made = {k: self._structure(v, body) for k, v in fields.items()}
            return pyast.call(pyast.name(name), [], **made)
        if isinstance(item, dict):
            keys: list[ast.expr | None] = [ast.Constant(k) for k in item]
            return ast.Dict(keys, [self._structure(v, body) for v in item.values()])
        if isinstance(item, tuple):
            return pyast.tuple_of(self._structure(v, body) for v in item)
        if isinstance(item, list):
            return ast.List([self._structure(v, body) for v in item], ast.Load())
        return body.exprs.const(item)

    def _record(self, record: Record) -> str:
        """A named tuple with the fields of the source's output class; absent ones are None."""
        short = re.sub(r"\W", "_", record.cls.rpartition(".")[2])
        present = tuple(k for k, v in record.fields if v is not None)
        key = f"{short}:{present}"
        if key in self.records:
            return self.records[key][0]
        taken = {name for name, _ in self.records.values()}
        taken |= {c.name for c in self.library.classes} | self._own_names()
        name, count = short, 2
        while name in taken:
            name, count = f"{short}{count}", count + 1
        fields: list[ast.stmt] = []
        absent = record.absent
        for field, value in sorted(record.fields, key=lambda f: f[0] in absent):
            target = ast.Name(pyast.identifier(field), ast.Store())
            none = ast.Constant(None)
            kind = none if value is None else self._field_type(value)
            default = none if field in absent else None
            fields.append(ast.AnnAssign(target, kind, default, 1))
        base = pyast.name("NamedTuple")
        self.records[key] = (name, ast.ClassDef(name, [base], [], fields, []))
        return name

    def _field_type(self, value: Any) -> ast.expr:
        if isinstance(value, Record):
            return pyast.name(self._record(value))
        if isinstance(value, Value):
            return self.exprs.name(self.language.array)
        return pyast.name(type(value).__name__)

    # ---- configuration and loading

    def _config_name(self, name: str) -> str:
        base = re.sub(r"(Model|For[A-Z]\w*|LMHeadModel|WithProjection)$", "", name)
        return f"{base or name}Config"

    def _shown(self) -> Config:
        """The fields that the file's configuration class has."""
        shown = {*self.fields.used, *self.fixed.read}
        return {k: v for k, v in self.fields.fields.items() if k in shown}

    def _config_class(self, name: str) -> ast.stmt:
        body: list[ast.stmt] = []
        shown = self._shown()
        for field, value in shown.items():
            target = ast.Name(field, ast.Store())
            annotation = pyast.name(type(value).__name__)
            body.append(ast.AnnAssign(target, annotation, self.exprs.const(value), 1))
        lines = {f: ast.Constant(v) for f, v in self.fixed.lines.items() if f in shown}
        if lines:
            self.target.classes.add("demand_traced")
            demand = pyast.call(pyast.name("demand_traced"), [pyast.name("self")])
            demand.keywords = [ast.keyword(f, lines[f]) for f in sorted(lines)]
            body.append(pyast.function("__post_init__", ["self"], [ast.Expr(demand)]))
        decorator = pyast.call(
            pyast.name("dataclasses.dataclass"), frozen=ast.Constant(True)
        )
        return ast.ClassDef(name, [], [], body, [decorator])

    def _loading(self, name: str, config: str | None) -> list[ast.stmt]:
        """The methods that load a saved folder and write one."""
        which = 0 if config else 1
        make = self.form.construct[which]
        tree = ast.parse(self.form.methods[which].format(make=make))
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id == "Config":
                node.id = str(config)
            if isinstance(node, ast.Constant) and node.value == "Model":
                node.value = name
        return tree.body

    # ---- the file

    def _assemble(
        self,
        classes: list[ast.stmt],
        config: str | None,
        aliases: list[ast.stmt],
    ) -> list[ast.stmt]:
        loading = set(self.form.loading) - set([] if config else ["config_values"])
        read = {n.id for s in classes for n in ast.walk(s) if isinstance(n, ast.Name)}
        loading -= {"with_frozen"} - read
        described = [self._config_class(config)] if config else []
        layers = pyast.helper_sources(self.layers, self.target.classes)
        # What reads and writes files comes last: a reader looks for the model.
        known = {ast.dump(node) for node in layers}
        files = [
            node
            for node in pyast.helper_sources(self.layers, loading)
            if ast.dump(node) not in known
        ]
        helpers = pyast.helper_sources(self.runtime, self.exprs.helpers)
        body: list[ast.stmt] = [*described]
        body += [made for _, made in self.records.values()]
        body += [*helpers, *layers, *aliases, *classes, *files]
        imports = self._imports(body)
        return [ast.Expr(ast.Constant(self.docstring)), *imports, *body]

    def _imports(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Imports of the names that the file uses; isort orders them."""
        names = {n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name)}
        lines = [f"import {m}" for m in STANDARD if m in names]
        if typing := sorted(names & {"Any", "NamedTuple"}):
            lines.append(f"from typing import {', '.join(typing)}")
        lines += [
            line
            for root, line in self.imports.items()
            if root in names and root not in STANDARD
        ]
        if "load_file" in names:
            lines.append(self.form.load_file)
        return [ast.parse(line).body[0] for line in lines]

    def _paths(self) -> dict[str, str]:
        """Attribute path of every instance: ``encoder.layer.0.attention.self``."""
        paths = {self.top.path: ""}

        def visit(instance: Instance) -> None:
            if instance.layer is not None:
                return
            for relative, child in instance.children.items():
                slot = self.layouts[instance].slots[relative].path
                prefix = paths[instance.path]
                paths[child.path] = f"{prefix}.{slot}" if prefix else slot
                visit(child)

        visit(self.top)
        return paths

    def _rows(self, paths: dict[str, str]) -> list[Row]:
        rows = []
        for instance in all_instances(self.top):
            prefix = paths[instance.path]
            for relative, param in instance.params.items():
                if instance.layer is not None:
                    spec = instance.layer.params[relative]
                    attr, transforms = spec.attr, spec.transforms
                else:
                    attr = self.layouts[instance].slots[relative].path
                    transforms = ()
                target = f"{prefix}.{attr}" if prefix else attr
                target = self.form.path(target, param, instance.layer is not None)
                chain = (*folds.transforms(param), *transforms)
                frozen = param.kind == "parameter" and not param.trainable
                kind: Any = "frozen" if frozen else param.kind  # `Row` checks it
                rows.append(Row(param.source, target, chain, kind, param.aliases))
        return rows


def _keep_config(cls: ast.ClassDef) -> None:
    """``self.config = config``, which `save_pretrained` writes."""
    found = [
        s for s in cls.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"
    ]
    if not found:  # the configuration is a field of the class
        return
    made = found[0]
    base = [s for s in made.body if isinstance(s, ast.Expr)]  # super().__init__()
    kept = pyast.assign("self.config", pyast.name("config"))
    made.body.insert(1 if made.body[:1] == base[:1] and base else 0, kept)


def _annotate_config(cls: ast.ClassDef, config: str | None) -> None:
    for node in ast.walk(cls):
        if isinstance(node, ast.arg) and node.arg == "config" and config:
            node.annotation = pyast.name(config)
        if isinstance(node, ast.AnnAssign) and config and _is_config(node.target):
            node.annotation = pyast.name(config)


def _is_config(expr: ast.expr) -> bool:
    return isinstance(expr, ast.Name) and expr.id == "config"


STANDARD = (
    "dataclasses", "functools", "hashlib", "itertools", "json", "math", "os", "pathlib",
    "platform", "re", "secrets", "time",
)  # fmt: skip


def emit(
    graph: Graph,
    form: Form,
    config: Config | None = None,
    docstring: str = "",
    *,
    tensors: Mapping[str, Any] | None = None,
    starts: Starts | None = None,
) -> Emitted:
    """Emit `graph` as a module of the form's library.

    Args:
        graph: after the passes of `ivyport.core.passes.pipeline.prepare`.
        form: how modules are written, such as `ivyport.modules.nnx.FORM`.
        config: fields of the source's configuration, to name numbers by.
        docstring: of the file.
        tensors: the source's buffers by `Param.source`, so that the constructor computes those
            that have a formula.
        starts: what fresh models of the source hold.

    Raises:
        GraphError: a defect of a pass or rule.
    """
    return FileEmitter(
        graph, config or {}, docstring, form, tensors or {}, starts
    ).run()


__all__ = ["ClassDef", "Emitted", "emit"]
