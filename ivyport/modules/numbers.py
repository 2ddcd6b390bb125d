"""How a class spells its numbers: by its attributes, by the configuration, or as they are."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Node, Scalar, Slice
from ivyport.modules.classes import SHAPE_FREE_ATTRS, ClassDef, Library
from ivyport.modules.config import ConfigFields, plausible, words
from ivyport.modules.fixed import OWN, Fixed
from ivyport.modules.instances import Instance
from ivyport.modules.layout import Layout
from ivyport.modules.literals import Where
from ivyport.modules.places import places, spelled

SIZES = ("shape", "sizes", "index", "stop")  # attributes that hold lengths of axes
# Numbers too common for an attribute of that value to be their name.
PLAIN = {0, 1, 2, -1}


def _plain(values: Iterable[Any]) -> Iterator[Any]:
    """Numbers that are no expression, in nested tuples and slices."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _plain(value)
        elif isinstance(value, Slice):
            yield from _plain([value.start, value.stop])
        elif type(value) in (int, float) and value not in OWN:
            yield value


def _constants(expr: ast.expr) -> Iterator[ast.Constant]:
    for node in ast.walk(expr):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node


class Numbers:
    """The part of `emit.ClassEmitter` that spells numbers."""

    definition: ClassDef
    library: Library
    layout: Layout
    exprs: Exprs
    config: ConfigFields
    attrs: dict[str, dict[str, Any]]
    me: Instance
    fixed: Fixed
    numbers: dict[str, ast.expr]  # attribute -> its value in the constructor
    uses_config: bool

    def number(
        self, where: Where, value: int | float, *, shared: bool = False
    ) -> int | float:
        """`value` as ``self.<name>`` where it varies or the source has a name for it."""
        return self._spelled(where, value, shared)

    def printed(self, node: Node, operands: Iterable[Any], expr: ast.expr) -> None:
        """Note the numbers that the expression of an operation is written with.

        `node` has the numbers that the class holds as expressions; what is inside of operands
        belongs to other operations.
        """
        axes = {*_plain([v for k, v in node.attrs.items() if k in SHAPE_FREE_ATTRS])}
        attrs = [v for k, v in node.attrs.items() if k not in SHAPE_FREE_ATTRS]
        scalars = [x.value for x in operands if isinstance(x, Scalar)]
        given = {*_plain([*attrs, *scalars])}
        if not given:
            return
        parts = [x for x in operands if isinstance(x, ast.AST)]
        inside = {id(n) for part in parts for n in ast.walk(part)}
        for value in {n for n in _constants(expr) if id(n) not in inside}:
            number: Any = value.value
            if number in given or -number in given or number not in axes:
                self.fixed.body(self.definition, number, node)

    def note(self, value: Any) -> None:
        """Note the numbers of a statement."""
        for number in _plain([value]):
            self.fixed.body(self.definition, number, None)

    def _spelled(self, where: Where, value: int | float, shared: bool) -> int | float:
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
        whole = self._spelled(where, 2 * value, False)
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
        below = self.below(f".{name}")
        if self.proves(value):
            return self.sized(value, below)
        if self.config.sizes is not None:
            field = self.config.of_all(value, below)
            if field is None:
                return self.sized(value, below)
            self.uses_config = True
            return pyast.attribute(pyast.name("config"), field)
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

    def bound(self, value: int, line: str) -> tuple[str, ast.expr] | None:
        """The field that a check's number at a line is, and the attribute that holds it."""
        field = self.fixed.limit(value, line)
        return None if field is None else (field, self._limit(field))

    def _limit(self, field: str) -> ast.expr:
        """``self.n_positions``, for a check of sizes."""
        role = f"limit {field}"
        if role not in self.layout.names:
            name = field if field in self.numbers else self.layout.free(field)
            self.layout.names[role] = name
            self.config.used[field] = self.config.fields[field]
            self.uses_config = True
            self.numbers[name] = pyast.name(f"config.{field}")
        return pyast.attribute(pyast.name("self"), self.layout.names[role])

    def _proved_below(self) -> set[str] | None:
        """Fields that are proved to set some float of this module; None if nobody looked."""
        if self.config.sizes is None:
            return None
        prefix = f"{self.me.path}." if self.me.path else ""
        return {f for p, f in self.config.proven.items() if p.startswith(prefix)}

    def proves(self, value: int | float) -> bool:
        """Whether the source was asked where its integers come from."""
        return type(value) is int and self.config.sizes is not None

    def below(self, place: str) -> list[str]:
        """A place of the class in each instance."""
        instances = self.definition.instances
        return [f"{i.path}{place}".lstrip(".") for i in instances]

    def sized(
        self, value: int | float, found: Iterable[str | None], paths: Iterable[str] = ()
    ) -> ast.expr:
        """An integer as fields of the configuration, where that is proved.

        `paths` are the modules that it belongs to.
        """
        found = list(found)
        formula = self.config.size(found)
        if formula is None:
            self.fixed.constant(found)
            self.fixed.attribute(value, paths if None in found else ())
            return self.exprs.const(value)
        self.uses_config = True
        return spelled(self.exprs, formula)

    def length(self, count: int, place: str) -> ast.expr:
        if self.proves(count):
            return self.sized(count, self.below(f".{place}"))
        field = self.config.find(
            count, "length", [place, self.definition.cls, self.me.path]
        )
        if field is None:
            return ast.Constant(count)
        self.uses_config = True
        return pyast.attribute(pyast.name("config"), field)

    def init_number(
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
        if self.proves(value):
            found = [
                key
                for instance in self.definition.instances
                for key in places(instance, where, value, self.library)
            ]
            unplaced = None in found and self.config.size(found) is None
            if where[0] == "child" and unplaced:
                child = self.library.of[self.me.children[where[1]]]
                self._note_argument(child, where[2], value)
            if where[0] == "param" and unplaced:
                for instance in self.definition.instances:
                    self.fixed.tensor(instance.params[where[1]])
            return self.sized(value, found, self.below(f".{where[1]}"))
        field = self.config.of(value, *attributes)
        if field is None:
            field = self.config.find(value, role, place, self._proved_below())
        if field is None:
            if self.config.sizes is not None and isinstance(where[1], str):
                self.fixed.attribute(value, self.below(f".{where[1]}"))
            return self.exprs.const(value)
        self.uses_config = True
        return pyast.attribute(pyast.name("config"), field)

    def _note_argument(
        self, child: ClassDef, argument: str, value: int | float
    ) -> None:
        """Note a number that a constructor hands to another one."""
        for kind, *inner in (w for w, n in child.argument_of.items() if n == argument):
            if kind == "child":
                for instance in child.instances:
                    below = self.library.of[instance.children[inner[0]]]
                    self._note_argument(below, inner[1], value)
            elif kind in ("layer", "param"):
                paths = [f"{i.path}.{inner[0]}" for i in child.instances]
                self.fixed.attribute(value, paths)
            else:
                self.fixed.body(child, value, None)

    def init_structure(
        self,
        where: Where,
        value: Any,
        role: str,
        place: list[str],
        attributes: Iterable[str] = (),
    ) -> ast.expr:
        if isinstance(value, tuple):
            return pyast.tuple_of(
                self.init_structure((*where, i), v, role, place, attributes)
                for i, v in enumerate(value)
            )
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.init_number(where, value, role, place, attributes)
        return self.exprs.const(value)
