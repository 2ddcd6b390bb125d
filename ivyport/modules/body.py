"""The body of one emitted method: expressions, inlining, names, rolled loops."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from ivyport.backends import pyast
from ivyport.core.dims import Dim, as_symbol
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Param, Scalar, Slice, Value
from ivyport.modules.blocks import MARKS
from ivyport.modules.checks import SYMBOL_NAMES
from ivyport.modules.owner import Owner
from ivyport.modules.renaming import restore_names, unshadow
from ivyport.modules.runs import Run, find_run
from ivyport.modules.signature import Signature
from ivyport.modules.tree import CallNode, draws
from ivyport.modules.variables import Variables, names_in

INLINE_LIMIT = 66  # characters of an expression that still reads well inside another
CHAIN_LIMIT = 100  # of what a method is called on: ``x.reshape(...).transpose(1, 2)``
CHAINED = ("permute_dims",)
SHORT = 24  # characters of an operand that stays inline even when others get names
ANY = pyast.stored(pyast.name("_"))
ROLES = {
    "linear": "projected",
    "attention": "attn_output",
    "softmax": "probs",
    "embedding": "embeds",
    "arange": "positions",
    "less_equal": "mask",
    "bitwise_and": "mask",
    "where": "masked",
    "logical_and": "mask",
    "permute_dims": "transposed",
    "full": "filled",
}


def _attended(node: Node) -> dict[Value, str]:
    """What attention calls its operands."""
    if node.op != "attention":
        return {}
    pairs = zip(node.inputs, ("query", "key", "value"), strict=False)
    return {x: name for x, name in pairs if isinstance(x, Value)}


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
        self.depth = len(call.stack) - 1
        self.statements: list[ast.stmt] = []
        self.arguments: list[str] = []
        self.variables = Variables(
            self._outside, self._hints, self._write, _written(call)
        )
        self.sizes: dict[Dim, str] = {}
        self.wanted: dict[
            Value, list[str]
        ] = {}  # what inner calls name their arguments
        self.preferred: dict[
            Value, str
        ] = {}  # the variable of a loop that goes on with it
        self.blocks = owner.blocks(self)
        self.outer: ast.For | None = None  # the last loop around an equal loop
        self.rounds: dict[ast.For, int] = {}  # how often each such loop goes round

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
            hints = [self.call.names.get(value, ""), *self._hints(value)]
            if value in keys:
                hints = [*value.names.values(), *keys[value], *hints]
            self.arguments.append(self.variables.argument(value, hints))
        symbols = {SYMBOL_NAMES.get(s, s) for s in self._symbols()}
        self.variables.refuse(symbols - set(self.arguments))
        called = self.owner.exprs.functions.values()
        self.variables.refuse(
            n.id for f in called for n in ast.walk(f) if isinstance(n, ast.Name)
        )
        self.owner.exprs.spell_dim = self._spell_dim
        self.owner.exprs.spell_device = self._spell_device
        late = self.call.first_late()
        self._items(0, late)
        self._store(late)
        for loop, count in self.rounds.items():
            loop.iter = self.owner.times(count)
        returned = results(self)
        if returned is not None:
            self.statements.append(ast.Return(returned))
        before, after = preamble(self)
        self.statements[:0] = [*before, *self._size_header(), *after]
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
                self._loop(run)
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
            names = item.names if isinstance(item, CallNode) else _attended(item)
            for value, name in names.items():
                self.wanted.setdefault(value, []).append(name)
        self.variables.count(self.call.outputs)
        for param, value in self.call.updates:
            self.variables.count([value])
            name = param.place.rpartition(".")[2]
            self.wanted.setdefault(value, []).append(name)

    def consume(self, values: Iterable[Value]) -> None:
        """Note that one use of each value is spent."""
        self.variables.consume(values)

    # ---- what blocks ask

    def bind(self, value: Value) -> None:
        """Assign a pending value to a variable now."""
        self.variables.bind(value)

    def hints(self, value: Value) -> list[str]:
        """Names that would suit a value."""
        return self._hints(value)

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
                self.variables.before_write(_written(item))
        if unused:
            self.statements.append(ast.Expr(expr))
            return
        self._define(item.outputs, expr, state)

    def _node(self, node: Node, position: int) -> ast.expr:
        where = (self.index, position)
        operands: list[Any] = []
        exprs = self.owner.exprs
        for i, x in enumerate(node.inputs):
            if isinstance(x, Value):
                operands.append(self.variables.entry(x).expr)
            elif isinstance(x, Scalar):
                value = self._number(("operand", *where, i), x.value)
                operands.append(exprs.const(value))
            else:
                operands.append(None)
        attrs = {
            k: v if k in ("rate", "dropout") else self._holes(("attr", *where, k), v)
            for k, v in node.attrs.items()
        }
        rate = node.attrs.get("rate" if node.op == "dropout" else "dropout", 0.0)
        random = node.op in ("dropout", "attention") and bool(rate)
        exprs.stream = self.owner.stream() if draws(node) and not random else None
        exprs.dropout_module = (
            self.owner.dropout(self.call, position, rate) if random else None
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
        if self.variables.uses[value] > 1 and not _trivial(expr):
            self.bind(value)

    def _hints(self, value: Value) -> list[str]:
        hints = [self.preferred[value]] if value in self.preferred else []
        hints += [value.names[d] for d in (self.depth, *sorted(value.names, reverse=True))
                 if d in value.names]  # fmt: skip
        hints += self.wanted.get(value, [])
        if value.producer is not None:
            hints += self._role(value)
        elif value.name:
            hints.append("_".join(value.name.split(".")[-2:]))
        return hints

    def _role(self, value: Value, steps: int = 4) -> list[str]:
        """A name by the operation, or that of the tensor it goes on working with."""
        producer = value.producer
        if producer is None or value in self.call.inputs:
            name = self.call.names.get(value)
            return [name] if name else []
        if producer.op in ROLES:
            return [ROLES[producer.op]]
        own = [value.names[d] for d in sorted(value.names, reverse=True)]
        first = next(producer.values(), None)
        if own or first is None or steps == 0:
            return own
        return self._role(first, steps - 1)

    # ---- loops

    def _loop(self, run: Run) -> None:
        """``for layer in self.layers: x = layer(x, mask)``."""
        first, last = run.calls[0], run.calls[-1]
        operands = self.owner.leaf_operands(first)
        for value in operands:
            entry = self.variables.entry(value)
            if not entry.bound and not _trivial(entry.expr):
                self.bind(value)
        self.variables.before_write(v for call in run.calls for v in _written(call))
        names: dict[int, str] = {}  # of the outputs that the next call gets
        with self.variables.pinned(names.values()):
            for position, output in run.carried.items():
                names[output] = self._carry(operands[position], last.outputs[output])
            variable = self._loop_variable(run)
            taken = {p: names[o] for p, o in run.carried.items()}
            args = [
                pyast.name(taken[p]) if p in taken else self.variables.entry(v).expr
                for p, v in enumerate(operands)
            ]
        target = pyast.name(variable) if variable != "_" else self.owner.child(first)
        if run.method != "__call__" and variable != "_":
            target = pyast.attribute(target, run.method)
        results = [pyast.name(names.get(i, "_")) for i in range(len(first.outputs))]
        left = results[0] if len(results) == 1 else pyast.tuple_of(results)
        step = pyast.assign(left, pyast.call(target, args))
        each = pyast.stored(pyast.name(variable))
        loop = ast.For(each, self.owner.container(run), [step], [], lineno=0)
        self._append_loop(loop)
        for call in run.calls:
            self.consume(self.owner.leaf_operands(call))
        for output, name in names.items():
            self.variables.take_over(last.outputs[output], name)

    def _loop_variable(self, run: Run) -> str:
        """A name that holds nothing still needed, ``_`` for repeated calls."""
        hint = self.owner.loop_variable(run)
        return "_" if hint == "_" else self.variables.local([hint, "layer", "module"])

    def _append_loop(self, loop: ast.For) -> None:
        """Add a loop; the same one once more is a loop around it."""
        last = self.statements[-1] if self.statements else None
        again = self.outer if last is self.outer else None
        inner = last if again is None else again.body[0]
        if inner is None or ast.dump(inner) != ast.dump(loop):
            self.statements.append(loop)
            return
        if again is None:
            self.outer = again = ast.For(ANY, ast.Tuple([]), [loop], [], lineno=0)
            self.statements[-1] = again
            self.rounds[again] = 1
        self.rounds[again] += 1

    def _carry(self, initial: Value, final: Value) -> str:
        """The loop variable that starts as `initial`; a copy if `initial` is needed later."""
        expr = self.variables.entry(initial).expr
        inside = 1
        if isinstance(expr, ast.Name) and self.variables.uses[initial] <= inside:
            self.variables.clear(expr.id)
            return expr.id
        (name,) = self.variables.take([final], expr)
        self.statements.append(pyast.assign(name, expr))
        return name

    # ---- sizes

    def _symbols(self) -> set[str]:
        return {
            s
            for v in self.call.inputs
            for d in v.type.shape
            if (s := as_symbol(d)) is not None
        }

    def spell_size(self, dim: Dim) -> ast.expr | None:
        """The variable of a size that some input has as an axis, None if none has it."""
        return self._spell_dim(dim)

    def _spell_dim(self, dim: Dim) -> ast.expr | None:
        """The variable of a size that some input has as an axis."""
        if dim in self.sizes:
            return pyast.name(self.sizes[dim])
        for value in self.call.inputs:
            if dim in value.type.shape:
                self.sizes[dim] = self._size_name(dim, value)
                return pyast.name(self.sizes[dim])
        for value in self.variables.entries:
            name = self.variables.held_by(value)
            if name is not None and dim in value.type.shape:
                self.blocks.keep(value)
                axis = value.type.shape.index(dim)
                shape = pyast.attribute(pyast.name(name), "shape")
                return pyast.subscript(shape, ast.Constant(axis))
        return None

    def _spell_device(self) -> ast.expr | None:
        """Where the tensors of this body live: with an argument, or a parameter."""
        names = [n for n in self.arguments if self.variables.is_tensor(n)]
        if names:
            return pyast.name(f"{names[0]}.device")
        held = self.owner.any_param()
        return None if held is None else pyast.attribute(held, "device")

    def _size_name(self, dim: Dim, value: Value) -> str:
        symbol = as_symbol(dim)
        if symbol:
            base = SYMBOL_NAMES.get(symbol, symbol)
        else:
            base = "N" if value.type.shape.index(dim) == 0 else "L"
        return self.variables.size(base)

    def _size_header(self) -> list[ast.stmt]:
        """``B, S, _ = hidden_states.shape`` for the sizes that the body uses."""
        wanted = dict(self.sizes)
        header: list[ast.stmt] = []
        for value, argument in zip(self.call.inputs, self.arguments, strict=True):
            axes = {
                axis: wanted.pop(dim)
                for axis, dim in enumerate(value.type.shape)
                if isinstance(dim, Dim) and dim in wanted
            }
            shape = pyast.attribute(pyast.name(argument), "shape")
            if len(axes) == 1:
                ((axis, name),) = axes.items()
                index = pyast.subscript(shape, ast.Constant(axis))
                header.append(pyast.assign(name, index))
            elif axes:
                names = [
                    pyast.name(axes.get(axis, "_")) for axis in range(value.type.rank)
                ]
                header.append(pyast.assign(pyast.tuple_of(names), shape))
        return header


def _written(call: CallNode) -> set[Value]:
    """The buffers that a call writes, itself or by calls inside."""
    return {p.value for inner in call.calls() for p, _ in inner.updates}


def _absent(statement: ast.stmt) -> bool:
    """Whether a statement says that something is not there: ``x = None``."""
    value = statement.value if isinstance(statement, ast.Assign) else statement
    return isinstance(value, ast.Constant) and value.value is None


def _trivial(expr: ast.expr) -> bool:
    """Names, attributes and constants may be repeated."""
    while isinstance(expr, ast.Attribute | ast.Subscript):
        if isinstance(expr, ast.Subscript) and not isinstance(expr.slice, ast.Constant):
            return False
        expr = expr.value
    return isinstance(expr, ast.Name | ast.Constant)
