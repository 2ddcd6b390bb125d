"""Loops and branches in the body of a method, between the marks of `core.control.opened`.

Two ways to write them: as statements of Python (PyTorch), and as local functions that a
combinator calls (JAX). Both keep to this: what was computed before the block and is read in it
keeps its variable until the block ends, for the block may run again.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ivyport.backends import pyast
from ivyport.core.ir import Node, Value
from ivyport.modules.tree import CallNode, closing

if TYPE_CHECKING:
    from ivyport.modules.body import Body

MARKS = ("control_begin", "control_next", "control_end")


@dataclasses.dataclass
class Block:
    """An open loop or choice.

    Attributes:
        begin, end: its marks; `position` is that of `begin` among the items.
        outer: the statements before it, while its own are collected.
        protected: values of outside that it reads.
        names: the variables of what a loop carries, or of the results of a choice.
        entries: the variables of a loop's entries of sequences.
        lists: the variables that collect a loop's results, None where nobody reads them.
        parts: finished parts: branches, or the test of a while loop.
        holder: what the variables held before; `inside` what they hold where a part begins.
        test: a while loop's test, or what a choice depends on.
    """

    begin: Node
    end: Node
    position: int
    outer: list[ast.stmt]
    protected: list[Value]
    holder: dict[str, Value]
    names: list[str] = dataclasses.field(default_factory=list)
    entries: list[str] = dataclasses.field(default_factory=list)
    lists: list[str | None] = dataclasses.field(default_factory=list)
    parts: list[list[ast.stmt]] = dataclasses.field(default_factory=list)
    test: ast.expr | None = None
    inside: dict[str, Value] = dataclasses.field(default_factory=dict)

    @property
    def style(self) -> str:
        """``scan``, ``while_loop``, ``cond`` (by number) or ``if`` (by a bool)."""
        return str(self.begin.attrs["style"])

    @property
    def carried(self) -> int:
        """How many values a loop carries."""
        return int(self.begin.attrs["carried"])

    @property
    def initial(self) -> list[Value]:
        """What a loop carries first."""
        return list(self.begin.values())[: self.carried]

    @property
    def sequences(self) -> list[Value]:
        """What a loop runs over."""
        return list(self.begin.values())[self.carried :]

    @property
    def state(self) -> list[Value]:
        """What a loop carries, in its body."""
        return list(self.begin.outputs[: self.carried])

    @property
    def items(self) -> list[Value]:
        """Entries of the sequences, in the body."""
        return list(self.begin.outputs[self.carried :])

    def given(self, mark: Node) -> list[Value]:
        """What a mark receives."""
        return list(mark.values())


class Blocks:
    """What both ways share; `body` is the method that is being emitted."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.open: list[Block] = []

    def mark(self, node: Node, position: int) -> None:
        """Emit one mark."""
        if node.op == "control_begin":
            self.open.append(self._opened(node, position))
            self.begin(self.open[-1])
            return
        block = self.open[-1]
        if node.op == "control_next":
            self.next(block, node)
            return
        self.open.pop()
        self.close(block)

    def begin(self, block: Block) -> None:
        """Start the block."""
        raise NotImplementedError

    def next(self, block: Block, mark: Node) -> None:
        """Go on with the next part."""
        raise NotImplementedError

    def close(self, block: Block) -> None:
        """End the block."""
        raise NotImplementedError

    # ---- parts of the above

    def _opened(self, node: Node, position: int) -> Block:
        body = self.body
        items = body.call.items
        last = closing(items, position)
        inside = items[position + 1 : last + 1]
        made = {v for item in inside for v in item.outputs} | set(node.outputs)
        read = {v: None for item in inside for v in self._read(item) if v not in made}
        end = items[last]
        assert isinstance(end, Node)
        return Block(node, end, position, body.statements, list(read), {})

    def _read(self, item: Node | CallNode) -> list[Value]:
        if isinstance(item, CallNode):
            return self.body.owner.leaf_operands(item)
        return list(item.values())

    def _settle(self, block: Block, kept: Sequence[Value] = ()) -> None:
        """Give names to what is pending, but for `kept`; protect what the block reads."""
        body = self.body
        for value, entry in list(body.entries.items()):
            once = value in kept and body.uses[value] == 1
            once = once and value not in block.protected
            plain = isinstance(entry.expr, ast.Constant)
            if not entry.bound and body.uses.get(value, 0) > 0 and not (once or plain):
                body.bind(value)
        for value in block.protected:
            body.uses[value] = body.uses.get(value, 0) + 1
        block.holder = dict(body.holder)

    def _release(self, block: Block) -> None:
        self.body.consume(block.protected)

    def _hold(self, values: Sequence[Value], by: int) -> None:
        for value in values:
            self.body.uses[value] = self.body.uses.get(value, 0) + by

    def _carried_hints(self, block: Block) -> None:
        """Names for what a loop carries: those of what it starts with and goes on with."""
        following = block.given(block.end)
        for value, first, new in zip(
            block.state, block.initial, following, strict=False
        ):
            for other in (new, first):
                for depth, name in other.names.items():
                    value.names.setdefault(depth, name)
        for value, sequence in zip(block.items, block.sequences, strict=True):
            entry = self.body.entries.get(sequence)
            own = [entry.expr.id] if entry and isinstance(entry.expr, ast.Name) else []
            hints = [*own, *self.body.hints(sequence), "x"]
            self.body.wanted[value] = [f"{hints[0]}_t"]

    def _prefer(self, block: Block) -> None:
        """What the body makes for the next iteration goes into the loop's own variables."""
        following = block.given(block.end)[: block.carried]
        for value, name in zip(following, block.names, strict=True):
            if value not in block.protected and following.count(value) == 1:
                self.body.preferred[value] = name

    def _name(self, value: Value, beside: ast.expr | None = None) -> str:
        """A variable for `value`; what `beside` reads keeps its variables."""
        return self.body.take_name(value, beside)

    def _exprs(self, values: Sequence[Value]) -> list[ast.expr]:
        made = [self.body.expr(v) for v in values]
        self.body.consume(list(values))
        return made

    def _length(self, block: Block) -> ast.expr:
        where = ("attr", self.body.index, block.position, "length")
        value = self.body.holes(where, block.begin.attrs["length"])
        return self.body.owner.exprs.const(value)


class Statements(Blocks):
    """``for``, ``while`` and ``if``, and lists that are stacked: PyTorch."""

    def begin(self, block: Block) -> None:
        body = self.body
        self._settle(block, list(block.begin.values()))
        if block.style in ("cond", "if"):
            self._begin_choice(block)
            return
        self._carried_hints(block)
        for value, first in zip(block.state, block.initial, strict=True):
            self._hold([value], 1)  # until all variables of the loop have names
            block.names.append(self._start(value, first))
        header: ast.expr | None = None
        if block.style == "scan":
            self._lists(block)
            header = self._header(block)
            block.entries = [self._name(v, header) for v in block.items]
        self._hold(block.state, -1)
        self._prefer(block)
        block.test = header
        body.statements = []

    def _start(self, value: Value, first: Value) -> str:
        """The variable of a carried value; that of the first one, if nobody else reads it."""
        body = self.body
        expr = body.expr(first)
        body.consume([first])
        own = isinstance(expr, ast.Name) and body.holder.get(expr.id) is first
        hints = [*value.names.values(), *body.wanted.get(value, [])]
        own = own and (not hints or ast.unparse(expr) in hints)
        if own and body.uses.get(first, 0) <= 0:
            assert isinstance(expr, ast.Name)
            body.rename(value, expr.id)
            body.free(expr.id)
            return expr.id
        name = self._name(value, expr)
        body.statements.append(pyast.assign(name, expr))
        return name

    def _lists(self, block: Block) -> None:
        body = self.body
        for value in block.end.outputs[block.carried :]:
            if body.uses.get(value, 0) <= 0:
                block.lists.append(None)
                continue
            block.lists.append(self._name(value))
            empty = ast.List([], ast.Load())
            body.statements.append(pyast.assign(str(block.lists[-1]), empty))

    def _header(self, block: Block) -> ast.expr:
        """What the loop iterates over: entries of tensors on their first axis."""
        sequences = self._exprs(block.sequences)
        if not sequences:
            return pyast.call(pyast.name("range"), [self._length(block)])
        if block.begin.attrs["reverse"]:
            sequences = [
                pyast.call(
                    pyast.name("reversed"), [pyast.call(pyast.attribute(s, "unbind"))]
                )
                for s in sequences
            ]
        if len(sequences) == 1:
            return sequences[0]
        return pyast.call(pyast.name("zip"), sequences)

    def _begin_choice(self, block: Block) -> None:
        body = self.body
        (test,) = self._exprs(list(block.begin.values()))
        if block.style == "cond" and not isinstance(test, ast.Name):
            name = body.new_name("branch")
            body.statements.append(pyast.assign(name, test))
            test = pyast.name(name)
        block.test = test
        block.names = [
            self._name(v) if body.uses.get(v, 0) > 0 else "_" for v in block.end.outputs
        ]
        body.statements = []

    def next(self, block: Block, mark: Node) -> None:
        if block.style != "while_loop":
            self._finish_branch(block, mark)
            return
        body = self.body
        (block.test,) = self._exprs(block.given(mark))
        if body.statements:
            stop = ast.If(ast.UnaryOp(ast.Not(), block.test), [ast.Break()], [])
            body.statements.append(stop)
            block.test = ast.Constant(True)

    def _finish_branch(self, block: Block, mark: Node) -> None:
        values = block.given(mark)
        pairs = list(zip(block.names, self._exprs(values), strict=True))
        self._assign([(n, e) for n, e in pairs if n != "_"])
        block.parts.append(self.body.statements or [ast.Pass()])
        self.body.statements = []

    def _assign(self, pairs: Sequence[tuple[str, ast.expr]]) -> None:
        """All at once: what is assigned may be read by the others."""
        changed = [
            (n, e) for n, e in pairs if not (isinstance(e, ast.Name) and e.id == n)
        ]
        if not changed:
            return
        names: list[ast.expr] = [pyast.name(n) for n, _ in changed]
        exprs = [e for _, e in changed]
        one = len(changed) == 1
        left, right = (
            (names[0], exprs[0])
            if one
            else (pyast.tuple_of(names), pyast.tuple_of(exprs))
        )
        self.body.statements.append(pyast.assign(left, right))

    def close(self, block: Block) -> None:
        if block.style in ("cond", "if"):
            self._finish_branch(block, block.end)
            self._choice(block)
        else:
            self._loop(block)
        self._release(block)

    def _choice(self, block: Block) -> None:
        body = self.body
        body.statements = block.outer
        chain = block.parts[-1]
        assert block.test is not None
        for number in reversed(range(len(block.parts) - 1)):
            test = block.test
            if block.style == "cond":
                last = len(block.parts) - 2
                operator = "<=" if number == 0 else "==" if number <= last else ">="
                test = body.owner.exprs.binary(operator, test, number)
            chain = [ast.If(test, block.parts[number], chain)]
        body.statements += chain
        for value, name in zip(block.end.outputs, block.names, strict=True):
            if name != "_":
                body.rename(value, name)

    def _loop(self, block: Block) -> None:
        body = self.body
        values = block.given(block.end)
        state, made = values[: block.carried], values[block.carried :]
        for value, name in zip(made, block.lists, strict=True):
            if name is not None:
                append = pyast.attribute(pyast.name(name), "append")
                call = pyast.call(append, [body.expr(value)])
                body.statements.append(ast.Expr(call))
        body.consume(made)
        self._assign(list(zip(block.names, self._exprs(state), strict=True)))
        inside, body.statements = body.statements or [ast.Pass()], block.outer
        assert block.test is not None
        if block.style == "while_loop":
            body.statements.append(ast.While(block.test, inside, []))
        else:
            targets = [pyast.name(n) for n in block.entries] or [pyast.name("_")]
            target = targets[0] if len(targets) == 1 else pyast.tuple_of(targets)
            body.statements.append(
                ast.For(pyast.stored(target), block.test, inside, [], lineno=0)
            )
        for value, name in zip(
            block.end.outputs[: block.carried], block.names, strict=True
        ):
            body.rename(value, name)
        results = block.end.outputs[block.carried :]
        for value, name in zip(results, block.lists, strict=True):
            if name is not None:
                self._stacked(block, value, name)

    def _stacked(self, block: Block, value: Value, name: str) -> None:
        """The list of results as one tensor."""
        items: ast.expr = pyast.name(name)
        if block.begin.attrs["reverse"]:
            step = ast.Slice(None, None, ast.UnaryOp(ast.USub(), ast.Constant(1)))
            items = pyast.subscript(items, step)
        stacked = self.body.owner.exprs.call("torch.stack", items)
        self.body.statements.append(pyast.assign(name, stacked))
        self.body.rename(value, name)


class Functions(Blocks):
    """`jax.lax.scan`, `while_loop`, `cond` and `switch`, which call local functions: JAX.

    https://docs.jax.dev/en/latest/jax.lax.html#control-flow-operators
    """

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._functions: dict[int, list[str]] = {}

    def begin(self, block: Block) -> None:
        body = self.body
        self._settle(block)
        words = {
            "scan": ["step"],
            "while_loop": ["goes_on", "step"],
            "if": ["if_true", "if_false"],
        }.get(block.style) or [f"case_{i}" for i in range(block.begin.attrs["count"])]
        self._functions[id(block)] = [body.new_name(w) for w in words]
        if block.style not in ("cond", "if"):
            self._carried_hints(block)
            for value in [*block.state, *block.items]:
                block.names.append(self._name(value))
                self._hold([value], 1)
            block.entries = block.names[block.carried :]
            block.names = block.names[: block.carried]
            self._hold([*block.state, *block.items], -1)
        block.inside = dict(body.holder)
        body.statements = []

    def next(self, block: Block, mark: Node) -> None:
        body = self.body
        body.statements.append(self._returned(block.given(mark)))
        block.parts.append(body.statements)
        body.statements = []
        body.holder = dict(block.inside)

    def close(self, block: Block) -> None:
        body = self.body
        values = block.given(block.end)
        if block.style == "scan":
            state = self._packed(self._exprs(values[: block.carried]))
            made = self._packed(self._exprs(values[block.carried :]))
            body.statements.append(ast.Return(pyast.tuple_of([state, made])))
        else:
            body.statements.append(self._returned(values))
        block.parts.append(body.statements)
        body.statements, body.holder = block.outer, block.holder
        for name, part in zip(self._functions.pop(id(block)), block.parts, strict=True):
            self._define(block, name, part)
            block.lists.append(name)
        call = self._call(block)
        self._release(block)
        body.consume(list(block.begin.values()))
        self._results(block, call)

    def _returned(self, values: Sequence[Value]) -> ast.stmt:
        return ast.Return(self._packed(self._exprs(values)))

    def _packed(self, exprs: Sequence[ast.expr]) -> ast.expr:
        if len(exprs) == 1:
            return exprs[0]
        return pyast.tuple_of(exprs) if exprs else ast.Constant(None)

    def _define(self, block: Block, name: str, part: list[ast.stmt]) -> None:
        arguments: list[str] = []
        unpacked: list[ast.stmt] = []
        groups = [("carry", block.names)] if block.style != "scan" else []
        if block.style == "scan":
            groups = [("carry", block.names), ("entries", block.entries)]
        if block.style in ("cond", "if"):
            groups = []
        for base, names in groups:
            if len(names) == 1:
                arguments.append(names[0])
                continue
            argument = self.body.new_name(base) if names else "_"
            arguments.append(argument if argument not in arguments else f"_{base}")
            if names:
                left = pyast.tuple_of(pyast.name(n) for n in names)
                unpacked.append(pyast.assign(left, pyast.name(argument)))
        self.body.statements.append(pyast.function(name, arguments, [*unpacked, *part]))

    def _call(self, block: Block) -> ast.expr:
        body, exprs = self.body, self.body.owner.exprs
        functions: list[Any] = [pyast.name(n) for n in block.lists]
        if block.style in ("cond", "if"):
            which = body.expr(block.begin.inputs[0])  # type: ignore[arg-type]
            if block.style == "if":
                return exprs.call("jax.lax.cond", which, *functions)
            return exprs.call("jax.lax.switch", which, functions)
        first = self._packed([body.expr(v) for v in block.initial])
        if block.style == "while_loop":
            return exprs.call("jax.lax.while_loop", *functions, first)
        options: dict[str, Any] = {}
        if not block.sequences:
            options["length"] = self._length(block)
        if block.begin.attrs["reverse"]:
            options["reverse"] = True
        xs = self._packed([body.expr(v) for v in block.sequences])
        return exprs.call("jax.lax.scan", *functions, first, xs, **options)

    def _results(self, block: Block, call: ast.expr) -> None:
        outputs = list(block.end.outputs)
        names = [
            pyast.name(self._name(v) if self.body.uses.get(v, 0) > 0 else "_")
            for v in outputs
        ]
        if block.style == "scan":
            state, made = names[: block.carried], names[block.carried :]
            left = pyast.tuple_of([self._target(state), self._target(made)])
        else:
            left = self._target(names)
        self.body.statements.append(pyast.assign(left, call))

    def _target(self, names: Sequence[ast.expr]) -> ast.expr:
        if len(names) == 1:
            return names[0]
        return pyast.tuple_of(names) if names else pyast.name("_")
