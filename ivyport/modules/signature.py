"""The arguments of the emitted model's own call, as the source takes them.

    def __call__(self, x, state, *, use_cache=False):
        x = as_array("x", x)
        h, c = matched("state", state, (..., ...))
        built_in("use_cache", use_cache, False)

These are functions of the backend's `_rt.py`: they refuse what is no array, what is not
structured as traced, and other constants.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.dims import Dim
from ivyport.core.dtype import is_float
from ivyport.core.ir import Argument, Dtype, Record, Value, leaves

ANY = ast.Constant(...)  # stands for an array in what `matched` compares with


@dataclasses.dataclass
class Signature:
    """How the model's own call takes its inputs.

    Attributes:
        arguments: in the source's order.
        exprs: makes expressions.
        record: the name of the emitted class of a record.
    """

    arguments: Sequence[Argument]
    exprs: Exprs
    record: Callable[[Record], str]

    def nested(self) -> list[str]:
        """Names of the arguments that are no single tensor."""
        return [a.name for a in self.arguments if not isinstance(a.structure, Value)]

    def hints(self) -> dict[Value, list[str]]:
        """Names for the variables of tensors inside of arguments: their keys."""
        found: dict[Value, list[str]] = {}

        def visit(item: Any, hint: str) -> None:
            if isinstance(item, Value):
                found[item] = [hint] if hint else []
            elif isinstance(item, Record):
                for name, inner in item.fields:
                    visit(inner, name)
            elif isinstance(item, Mapping):
                for key, inner in item.items():
                    visit(inner, key if isinstance(key, str) else "")
            elif isinstance(item, tuple | list):
                for inner in item:
                    visit(inner, "")

        for argument in self.arguments:
            if not isinstance(argument.structure, Value):
                visit(argument.structure, "")
        return found

    # ---- the parameters

    def parameters(self, variables: Mapping[str, str]) -> ast.arguments:
        """The method's parameters; `variables` are their names by those of the source."""
        positional = [ast.arg("self")]
        defaults: list[ast.expr] = []
        keyword: list[ast.arg] = []
        keyword_defaults: list[ast.expr | None] = []
        variadic = None
        for argument in self.arguments:
            arg = ast.arg(pyast.identifier(variables[argument.name]))
            default = self.literal(argument.structure) if argument.is_constant else None
            default = ast.Constant(None) if argument.default else default
            if argument.kind == "variadic":
                variadic = arg
            elif argument.kind == "keyword":
                keyword.append(arg)
                keyword_defaults.append(default)
            else:
                positional.append(arg)
                if default is not None or defaults:
                    defaults.append(default or ast.Constant(None))
        return ast.arguments(
            [], positional, variadic, keyword, keyword_defaults, None, defaults
        )

    # ---- the head of the body

    def head(
        self, variables: Mapping[str, str], values: Mapping[Value, str], read: set[str]
    ) -> list[ast.stmt]:
        """Statements that check the arguments and give the tensors in them their variables.

        `variables` are the parameters' by the source's names, `values` the tensors' own; those
        that are not in `read` are left out.
        """
        statements: list[ast.stmt] = []
        # What is made of the sizes of others comes after those.
        for argument in sorted(self.arguments, key=lambda a: bool(a.default)):
            given = pyast.name(variables[argument.name])
            item = argument.structure
            if isinstance(item, Value):
                if argument.default:
                    statements.append(self._default(argument, given, variables))
                if values[item] in read:
                    dtype = item.type.dtype
                    cast = self.exprs.language.double and is_float(dtype)
                    kind = self.exprs.dtype(dtype) if cast else pyast.OMIT
                    made = self.exprs.rt("as_array", argument.name, given, kind)
                    statements.append(pyast.assign(given, made))
                continue
            matched = self._matched(argument.name, given, item)
            statements += self._unpacked(matched, given, item, values, read)
        return statements

    def _default(
        self, argument: Argument, given: ast.expr, variables: Mapping[str, str]
    ) -> ast.stmt:
        """``if mask is None: mask = jnp.ones_like(ids)``."""
        wanted = argument.structure.type
        known = [
            (pyast.name(variables[a.name]), a.structure.type)
            for a in self.arguments
            if isinstance(a.structure, Value) and not a.default
        ]
        alike = [(n, t) for n, t in known if t.shape == wanted.shape]
        sizes = {
            size: pyast.subscript(pyast.attribute(n, "shape"), ast.Constant(axis))
            for n, type_ in reversed(known)
            for axis, size in enumerate(type_.shape)
            if isinstance(size, Dim)
        }
        like, type_ = (alike or known)[0]
        made = self.exprs.language.absent(
            self.exprs,
            argument.default,
            like,
            None
            if alike
            else [
                sizes[size] if isinstance(size, Dim) else ast.Constant(size)
                for size in wanted.shape
            ],
            None
            if alike and type_.dtype == wanted.dtype and argument.default != "positions"
            else wanted.dtype,
        )
        absent = ast.Compare(given, [ast.Is()], [ast.Constant(None)])
        return ast.If(absent, [pyast.assign(given, made)], [])

    def _matched(self, name: str, given: ast.expr, item: Any) -> ast.expr:
        plain = not isinstance(item, Value | Record | Mapping | tuple | list)
        function = "built_in" if plain else "matched"
        return self.exprs.rt(function, name, given, self.literal(item))

    def _unpacked(
        self,
        matched: ast.expr,
        given: ast.expr,
        item: Any,
        values: Mapping[Value, str],
        read: set[str],
    ) -> list[ast.stmt]:
        wanted = [v for v in leaves(item) if values[v] in read]
        if not wanted:
            return [ast.Expr(matched)]
        flat = isinstance(item, tuple | list)
        if flat and all(isinstance(v, Value) for v in item):
            names = [values[v] if v in wanted else "_" for v in item]
            target = pyast.tuple_of(pyast.name(n) for n in names)
            return [pyast.assign(target, matched)]
        found: list[ast.stmt] = [pyast.assign(given, matched)]

        def visit(inner: Any, at: ast.expr) -> None:
            if isinstance(inner, Value):
                if inner in wanted:
                    found.append(pyast.assign(values[inner], at))
            elif isinstance(inner, Record):
                for name, field in inner.fields:
                    visit(field, pyast.attribute(at, name))
            elif isinstance(inner, Mapping):
                for key, entry in inner.items():
                    visit(entry, pyast.subscript(at, ast.Constant(key)))
            elif isinstance(inner, tuple | list):
                for position, entry in enumerate(inner):
                    visit(entry, pyast.subscript(at, ast.Constant(position)))

        visit(item, given)
        return found

    def literal(self, item: Any) -> ast.expr:
        """A structure as code: ``{"h": ..., "step": 3}``; an ellipsis stands for an array."""
        if isinstance(item, Value):
            return ANY
        if isinstance(item, Dtype):
            return self.exprs.dtype(item.name)
        if isinstance(item, Record):
            given = [(k, v) for k, v in item.fields if k not in item.absent]
            fields = {k: self.literal(v) for k, v in given}
            return pyast.call(pyast.name(self.record(item)), [], **fields)
        if isinstance(item, Mapping):
            keys: list[ast.expr | None] = [self.literal(key) for key in item]
            return ast.Dict(keys, [self.literal(v) for v in item.values()])
        if isinstance(item, tuple):
            return pyast.tuple_of(self.literal(v) for v in item)
        if isinstance(item, list):
            return ast.List([self.literal(v) for v in item], ast.Load())
        if isinstance(item, complex):
            return ast.Constant(item)
        return self.exprs.const(item)
