"""The body of one emitted method: expressions, inlining, names, rolled loops."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from ivyport.backends import pyast
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Param, Scalar, Slice, Value
from ivyport.modules.blocks import MARKS
from ivyport.modules.checks import SYMBOL_NAMES
from ivyport.modules.hints import Hints
from ivyport.modules.loops import Loops
from ivyport.modules.owner import Owner
from ivyport.modules.renaming import restore_names, unshadow
from ivyport.modules.runs import find_run
from ivyport.modules.signature import Signature
from ivyport.modules.sizes import Sizes
from ivyport.modules.tree import CallNode, draws, written
from ivyport.modules.variables import Variables, names_in

INLINE_LIMIT = 66  # characters of an expression that still reads well inside another
CHAIN_LIMIT = 100  # of what a method is called on: ``x.reshape(...).transpose(1, 2)``
CHAINED = ("permute_dims",)
SHORT = 24  # characters of an operand that stays inline even when others get names


def _nothing(_: Body) -> tuple[list[ast.stmt], list[ast.stmt]]:
    return [], []


class Body:
    """Emits one method; `statements` holds its code, `arguments` its parameters.

    The model's own call has a `signature`: its parameters have the names that the source's
    callers use, whatever these are; `hidden` are then the global names that such a parameter
    hides, used here as ``_name``.
    """

    def __init__(
        self,
        call: CallNode,
        index: int,
        owner: Owner,
        *,
        signature: Signature | None = None,
    ) -> None:
        self.call = call
        self.signature = signature
        self.hidden: set[str] = set()
        self.nested: dict[str, str] = {}  # parameters that are no single tensor
        self.parameters: ast.arguments | None = None
        self.index = index
        self.owner = owner
        self.statements: list[ast.stmt] = []
        self.arguments: list[str] = []
        self.hints = Hints(call)
        self.variables = Variables(
            self._outside, self.hints.of, self._write, written(call)
        )
        self.sizes = Sizes(call, self.variables, self._keep)
        self.exprs = owner.exprs.within(
            spell_dim=self.sizes.spelled, spell_device=self._spell_device
        )
        self.blocks = owner.blocks(self)
        self.loops = Loops(self)

    def run(
        self,
        results: Callable[[Body], ast.expr | None],
        preamble: Callable[[Body], tuple[list[ast.stmt], list[ast.stmt]]] = _nothing,
    ) -> None:
        """Emit everything; `results` makes the returned expression at the end.

        `preamble` makes what comes first, before and after ``B, S = ids.shape``.
        """
        self._count_uses()
        keys: dict[Value, list[str]] = {}
        if self.signature is not None:
            keys = self.signature.hints()
            self.nested = {
                name: self.variables.reserve(name) for name in self.signature.nested()
            }
        for value in self.call.inputs:
            hints = [self.call.names.get(value, ""), *self.hints.of(value)]
            if value in keys:
                hints = [*value.names.values(), *keys[value], *hints]
            self.arguments.append(self.variables.argument(value, hints))
        symbols = {SYMBOL_NAMES.get(s, s) for s in self.sizes.symbols()}
        self.variables.refuse(symbols - set(self.arguments))
        called = self.exprs.functions.values()
        self.variables.refuse(
            n.id for f in called for n in ast.walk(f) if isinstance(n, ast.Name)
        )
        late = self.call.first_late()
        self._items(0, late)
        self._store(late)
        self.loops.finish()
        returned = results(self)
        if returned is not None:
            self.statements.append(ast.Return(returned))
        before, after = preamble(self)
        self.statements[:0] = [*before, *self.sizes.header(self.arguments), *after]
        if self.signature is None:
            self.arguments = unshadow(self.statements, self.arguments)
        else:
            self._sign(self.signature)

    def _sign(self, signature: Signature) -> None:
        """Put the head of the model's own call first; its parameters have exact names."""
        plain = {
            a.name: a.structure
            for a in signature.arguments
            if isinstance(a.structure, Value)
        }
        values = dict(zip(self.call.inputs, self.arguments, strict=True))
        variables = {name: values[v] for name, v in plain.items()} | self.nested
        read = {
            n.id
            for s in self.statements
            for n in ast.walk(s)
            if isinstance(n, ast.Name)
        }
        self.statements[:0] = signature.head(variables, values, read)
        exact = list(variables)
        names = unshadow(self.statements, list(variables.values()))
        names, self.hidden = restore_names(self.statements, names, exact)
        self.parameters = signature.parameters(dict(zip(exact, names, strict=True)))

    def _items(self, position: int, end: int) -> None:
        """Emit the items from `position` up to `end`."""
        items = self.call.items[:end]
        while position < end:
            run = find_run(items, position, self.variables.uses, self.call.outputs)
            if run is not None and self.owner.rolls(run):
                self.loops.add(run)
                position += len(run.calls)
                continue
            item = items[position]
            if isinstance(item, Node) and item.op in MARKS:
                self.blocks.mark(item, position)
            else:
                self._item(item, position)
            position += 1

    def _store(self, late: int) -> None:
        """Write the buffers that the call changes, after everything that reads them.

        What train mode does beside, the items from `late` on, and what it alone writes stand
        under an ``if``.
        """
        call = self.call
        always = [(p, v) for p, v in call.updates if p not in call.trained]
        trained = [(p, v) for p, v in call.updates if p in call.trained]
        if not (call.updates or call.late):
            return
        self._settle([*call.outputs, *(v for _, v in always)])
        outer, self.statements = self.statements, []
        self._items(late, len(call.items))
        self._update(trained)
        self.statements, inside = outer, self.statements
        self.in_training(inside)
        self._update(always)

    def in_training(self, statements: list[ast.stmt]) -> None:
        """Add statements of train mode alone, to an ``if`` that is there already if it can be."""
        if not statements:
            return
        added = ast.If(self.owner.training(), statements, [])
        last = self.statements[-1] if self.statements else None
        if isinstance(last, ast.If) and ast.dump(last.test) == ast.dump(added.test):
            last.body += statements
            if all(map(_absent, last.orelse)) and isinstance(
                statements[-1], ast.Return
            ):
                last.orelse = []
        else:
            self.statements.append(added)

    def _update(self, updates: list[tuple[Param, Value]]) -> None:
        new = [value for _, value in updates]
        self._settle(new)
        self.variables.before_write(p.value for p, _ in updates)
        for param, value in updates:
            self.statements.append(self.owner.update(param, self.expr(value)))
        self.consume(new)

    def _settle(self, values: list[Value]) -> None:
        """Give names to values: what they read is about to be written."""
        for value in values:
            entry = self.variables.entry(value)
            if not entry.bound or entry.state:
                self.bind(value)

    # ---- values

    def expr(self, value: Value) -> ast.expr:
        """The expression of a value, for a last use."""
        return self.variables.entry(value).expr

    def bind_all(self, values: list[Value], limit: int = INLINE_LIMIT) -> None:
        """Give names to pending values if their expressions together exceed `limit`."""
        pending = {v: e for v in values if not (e := self.variables.entry(v)).bound}
        widths = {v: len(ast.unparse(e.expr)) for v, e in pending.items()}
        if sum(widths.values()) <= limit:
            return
        for value, width in widths.items():
            long = width > SHORT or len(pending) == 1
            if long and not self.variables.entry(value).bound:
                self.bind(value)

    def _outside(self, value: Value) -> ast.expr:
        """The expression of a value that the body does not make: a parameter."""
        expr = self.owner.param(value)
        if expr is None:
            raise GraphError(f"{value} is not visible in {self.call.path!r}")
        return expr

    def _write(self, statement: ast.stmt) -> None:
        self.statements.append(statement)

    def _count_uses(self) -> None:
        for item in self.call.items:
            operands = (
                self.owner.leaf_operands(item)
                if isinstance(item, CallNode)
                else [x for x in item.inputs if isinstance(x, Value)]
            )
            self.variables.count(operands)
            self.hints.read_by(item)
        self.variables.count(self.call.outputs)
        for param, value in self.call.updates:
            self.variables.count([value])
            self.hints.want(value, param.place.rpartition(".")[2])

    def consume(self, values: Iterable[Value]) -> None:
        """Note that one use of each value is spent."""
        self.variables.consume(values)

    # ---- what blocks ask

    def bind(self, value: Value) -> None:
        """Assign a pending value to a variable now."""
        self.variables.bind(value)

    def holes(self, where: tuple[Any, ...], value: Any) -> Any:
        """`value` with the numbers that the class holds as attributes."""
        made = self._holes(where, value)
        self.owner.note(made)
        return made

    # ---- statements

    def _item(self, item: Node | CallNode, position: int) -> None:
        if isinstance(item, CallNode):
            operands = self.owner.leaf_operands(item)
        else:
            operands = [x for x in item.inputs if isinstance(x, Value)]
        unused = not any(self.variables.needed(v) for v in item.outputs)
        if unused and not (isinstance(item, CallNode) and item.writes()):
            self.consume(operands)
            return
        chained = isinstance(item, Node) and item.op in CHAINED
        self.bind_all(operands, CHAIN_LIMIT if chained else INLINE_LIMIT)
        if isinstance(item, CallNode):
            args = [self.variables.entry(v).expr for v in operands]
            expr: ast.expr = pyast.call(self.owner.child(item), args)
        else:
            expr = self._node(item, position)
        state = self.variables.state(operands)
        if isinstance(item, CallNode):
            state |= {p.value for p in item.params}
        self.consume(operands)
        if isinstance(item, CallNode) and item.writes():
            with self.variables.pinned(names_in(expr)):
                self.variables.before_write(written(item))
        if unused:
            self.statements.append(ast.Expr(expr))
            return
        self._define(item.outputs, expr, state)

    def _node(self, node: Node, position: int) -> ast.expr:
        where = (self.index, position)
        operands: list[Any] = []
        here = self.exprs.within(emitting=node)
        for i, x in enumerate(node.inputs):
            if isinstance(x, Value):
                operands.append(self.variables.entry(x).expr)
            elif isinstance(x, Scalar):
                value = self._number(("operand", *where, i), x.value)
                operands.append(here.const(value))
            else:
                operands.append(None)
        attrs = {
            k: v if k in ("rate", "dropout") else self._holes(("attr", *where, k), v)
            for k, v in node.attrs.items()
        }
        rate = node.attrs.get("rate" if node.op == "dropout" else "dropout", 0.0)
        random = node.op in ("dropout", "attention") and bool(rate)
        keyed = draws(node) and not random
        exprs = self.exprs.within(
            stream=self.owner.stream() if keyed else None,
            dropout_module=self.owner.dropout(self.call, position, rate)
            if random
            else None,
        )
        shown = Node(node.op, node.inputs, attrs, node.outputs, node.scope, node.src)
        expr = exprs.emit(shown, operands)
        pairs = zip(node.inputs, operands, strict=True)
        parts = [made if isinstance(x, Value) else x for x, made in pairs]
        self.owner.printed(shown, parts, expr)
        return expr

    def _number(
        self, where: tuple[Any, ...], value: Any, *, shared: bool = False
    ) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self.owner.number(where, value, shared=shared)
        return value

    def _holes(self, where: tuple[Any, ...], value: Any) -> Any:
        if isinstance(value, Slice):
            bounds = [
                self._holes((*where, i), b)
                for i, b in enumerate((value.start, value.stop))
            ]
            return Slice(bounds[0], bounds[1], value.step)
        if isinstance(value, tuple):
            # Of two equal lengths of a shape one is not what the attribute is about.
            twice = {v for v in value if value.count(v) > 1} if "shape" in where else ()
            return tuple(
                self._number((*where, i), v, shared=v in twice)
                if isinstance(v, int)
                else self._holes((*where, i), v)
                for i, v in enumerate(value)
            )
        return self._number(where, value)

    def _define(
        self, outputs: Sequence[Value], expr: ast.expr, state: Collection[Value]
    ) -> None:
        if len(outputs) > 1:
            self.variables.assign(outputs, expr)
            return
        (value,) = outputs
        self.variables.pend(value, expr, state)
        if self.variables.uses[value] > 1 and not pyast.is_trivial(expr):
            self.bind(value)

    # ---- what its expressions ask

    def _keep(self, value: Value) -> None:
        self.blocks.keep(value)

    def _spell_device(self) -> ast.expr | None:
        """Where the tensors of this body live: with an argument, or a parameter."""
        names = [n for n in self.arguments if self.variables.is_tensor(n)]
        if names:
            return pyast.name(f"{names[0]}.device")
        held = self.owner.any_param()
        return None if held is None else pyast.attribute(held, "device")


def _absent(statement: ast.stmt) -> bool:
    """Whether a statement says that something is not there: ``x = None``."""
    value = statement.value if isinstance(statement, ast.Assign) else statement
    return isinstance(value, ast.Constant) and value.value is None
