"""What the rules write for a call's operations: one class stands for all only if it is the same.

A rule may write a number that it reads off the type of an operand (``x.reshape(2, 3, 16)``), and
choose its form by one. A class is emitted for its first instance, so such a number must be right
for the others. `Written` asks the rules themselves, with placeholders for operands and for the
numbers that the class holds as attributes, instead of knowing which rule looks at what.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.dims import Dim, DimLike, as_symbol, evaluate, symbol
from ivyport.core.errors import IvyportError
from ivyport.core.ir import Node, Operand, Scalar, Slice, Value
from ivyport.core.ops_custom import CUSTOM_VJP
from ivyport.modules.blocks import MARKS
from ivyport.modules.tree import CallNode, draws

# Where a number is: ("attr", method, item, name, index...), ("layer", path, name), ...
Where = tuple[Any, ...]


class Sizes:
    """The symbolic sizes of one call, named by the arguments that have them as axes.

    Two calls of a method have other symbols for what the method reads off the same argument.
    """

    def __init__(self, call: CallNode) -> None:
        self.places: dict[Dim, tuple[int, int]] = {}
        for position, value in enumerate(call.inputs):
            for axis, size in enumerate(value.type.shape):
                if isinstance(size, Dim):
                    self.places.setdefault(size, (position, axis))
        self._names: dict[Dim, DimLike] = {
            dim: symbol(f"size_{position}_{axis}")
            for dim, (position, axis) in self.places.items()
        }
        self._symbols = {
            s: named for dim, named in self._names.items() if (s := as_symbol(dim))
        }

    def named(self, size: DimLike) -> DimLike:
        """`size` in terms of the arguments."""
        if isinstance(size, int):
            return size
        if size not in self._names:
            self._names[size] = evaluate(size, self._symbols)
        return self._names[size]


class Written:
    """What the rules of a target write for the operations of one call."""

    def __init__(self, exprs: Exprs) -> None:
        """`exprs` are of no file: what they collect is thrown away."""
        self.exprs = exprs.within(spell_dim=_spell, spell_device=_device)

    def form(
        self,
        call: CallNode,
        index: int,
        holes: Collection[Where],
        *,
        split: bool = True,
    ) -> tuple[str, ...]:
        """The expressions of all operations of `call`, the method number `index` of its class.

        `holes` are the places of the numbers that the class has attributes for. An operation
        whose rule refuses these is given by its numbers if `split`: in classes of their own,
        calls with other numbers need no attributes.
        """
        sizes = Sizes(call)
        values: dict[Value, Value] = {}
        return tuple(
            self._node(_Shown(node, (index, position), sizes, values), holes, split)
            for position, node in enumerate(call.items)
            if isinstance(node, Node) and node.op not in MARKS and node.op != CUSTOM_VJP
        )

    def _node(self, shown: _Shown, holes: Collection[Where], split: bool) -> str:
        node = shown.node(holes)
        rate = node.attrs.get("rate" if node.op == "dropout" else "dropout", 0.0)
        random = node.op in ("dropout", "attention") and bool(rate)
        keyed = draws(node) and not random
        exprs = self.exprs.within(
            stream=pyast.call(_name("stream")) if keyed else None,
            dropout_module=_name("dropout") if random else None,
        )
        try:
            # A rule may write a variable twice, but not a longer expression.
            forms = [exprs.emit(node, shown.operands(exprs, long)) for long in (0, 1)]
        except IvyportError:
            numbers = [x for x in node.inputs if isinstance(x, Scalar)]
            return f"{node.op} {numbers} {node.attrs}" if split else node.op
        return "\n".join(ast.dump(expr) for expr in forms)


class _Shown:
    """One operation as its rule sees it in any instance: sizes by the arguments' names."""

    def __init__(
        self,
        node: Node,
        where: tuple[int, int],
        sizes: Sizes,
        values: dict[Value, Value],
    ) -> None:
        self.source = node
        self.where = where
        self.sizes = sizes
        self.values = values

    def node(self, holes: Collection[Where]) -> Node:
        """The operation, with expressions for the numbers at `holes`."""
        source = self.source
        inputs = tuple(self._operand(i, x, holes) for i, x in enumerate(source.inputs))
        attrs = {
            k: v
            if k in ("rate", "dropout")
            else self._filled(("attr", *self.where, k), v, holes)
            for k, v in source.attrs.items()
        }
        outputs = tuple(map(self._value, source.outputs))
        self.inputs = inputs
        return Node(source.op, inputs, attrs, outputs, source.scope, source.src)

    def operands(self, exprs: Exprs, long: int) -> list[Any]:
        """Expressions of the operands: variables, or calls if `long`."""
        made: list[Any] = []
        for i, x in enumerate(self.inputs):
            if isinstance(x, Value):
                variable = _name(f"operand_{i}")
                made.append(pyast.call(variable) if long else variable)
            else:
                made.append(exprs.const(x.value) if isinstance(x, Scalar) else None)
        return made

    def _operand(self, position: int, x: Operand, holes: Collection[Where]) -> Operand:
        if isinstance(x, Value):
            return self._value(x)
        if isinstance(x, Scalar):
            where = ("operand", *self.where, position)
            return Scalar(self._filled(where, x.value, holes))
        return None

    def _value(self, value: Value) -> Value:
        if value not in self.values:
            shape = tuple(map(self.sizes.named, value.type.shape))
            self.values[value] = made = Value(value.type.with_shape(shape), value.name)
            made.producer = value.producer  # some rules look for what a mask is made of
        return self.values[value]

    def _filled(self, where: Where, value: Any, holes: Collection[Where]) -> Any:
        if isinstance(value, Dim):
            return self.sizes.named(value)
        if where in holes:
            return pyast.hole(value, _name("_".join(map(str, (where[0], *where[3:])))))
        if isinstance(value, Slice):
            start, stop = (
                self._filled((*where, i), bound, holes)
                for i, bound in enumerate((value.start, value.stop))
            )
            return Slice(start, stop, value.step)
        if isinstance(value, tuple):
            return tuple(
                self._filled((*where, i), v, holes) for i, v in enumerate(value)
            )
        return value


def _name(name: str) -> ast.expr:
    return pyast.name(name)


def _device() -> ast.expr:
    return _name("device")


def _spell(dim: Dim) -> ast.expr | None:
    name = as_symbol(dim)
    return _name(name) if name else None
