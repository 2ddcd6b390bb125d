"""Loops and branches in the body of a method, between the marks of `core.control.opened`.

Two ways to write them: as statements of Python (PyTorch), and as local functions that a
combinator calls (JAX). Both keep to this: what was computed before the block and is read in it
keeps its variable until the block ends, for the block may run again.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ivyport.core.dtype import is_int
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


def _unturned(value: Value) -> Value:
    """The tensor that a sequence is but for the order of axes and entries."""
    while value.producer is not None and value.producer.op in ("permute_dims", "flip"):
        source = value.producer.inputs[0]
        if not isinstance(source, Value):
            break
        value = source
    return value


class Blocks:
    """What both ways share; `body` is the method that is being emitted."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.variables = body.variables
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
        variables = self.variables
        for value, entry in list(variables.entries.items()):
            once = value in kept and variables.uses[value] == 1
            once = once and value not in block.protected
            plain = isinstance(entry.expr, ast.Constant)
            if not entry.bound and variables.needed(value) and not (once or plain):
                variables.bind(value)
        variables.count(block.protected)
        block.holder = dict(variables.holder)

    def keep(self, value: Value) -> None:
        """`value` is read here, for its shape: the open blocks around it keep its variable."""
        name = self.variables.held_by(value)
        for block in self.open:
            if (
                name
                and block.holder.get(name) is value
                and value not in block.protected
            ):
                block.protected.append(value)
                self.variables.count([value])

    def _release(self, block: Block) -> None:
        self.variables.consume(block.protected)

    def _hold(self, values: Sequence[Value], by: int) -> None:
        self.variables.count(values, by)

    def _carried_hints(self, block: Block) -> None:
        """Names for what a loop carries: those of what it starts with and goes on with."""
        following = block.given(block.end)
        for value, first, new in zip(
            block.state, block.initial, following, strict=False
        ):
            for other in (new, first):
                for depth, name in other.names.items():
                    value.names.setdefault(depth, name)
            counter = value.type.rank == 0 and is_int(value.type.dtype)
            named = bool(value.names or self.body.hints.wanted.get(value))
            if counter and not named:
                self.body.hints.wanted[value] = ["i"]
        for value, sequence in zip(block.items, block.sequences, strict=True):
            whole = _unturned(sequence)
            entry = self.variables.entries.get(whole)
            own = [entry.expr.id] if entry and isinstance(entry.expr, ast.Name) else []
            hints = [*own, *self.body.hints.of(whole), "x"]
            self.body.hints.wanted[value] = [f"{hints[0]}_t"]
        for value in block.end.outputs[block.carried :]:
            self.body.hints.wanted.setdefault(value, []).append("outputs")

    def _prefer(self, block: Block) -> None:
        """What the body makes for the next iteration goes into the loop's own variables."""
        following = block.given(block.end)[: block.carried]
        for value, name in zip(following, block.names, strict=True):
            if value not in block.protected and following.count(value) == 1:
                self.body.hints.preferred[value] = name

    def _name(self, value: Value, beside: ast.expr | None = None) -> str:
        """A variable for `value`; what `beside` reads keeps its variables."""
        (name,) = self.variables.take([value], beside)
        return name

    def _names(self, values: Sequence[Value], beside: ast.expr) -> list[str]:
        """Variables for values that are assigned together, ``_`` for what nobody reads."""
        needed = [v for v in values if self.variables.needed(v)]
        names = dict(zip(needed, self.variables.take(needed, beside), strict=True))
        return [names.get(v, "_") for v in values]

    def _exprs(self, values: Sequence[Value]) -> list[ast.expr]:
        made = [self.body.expr(v) for v in values]
        self.body.consume(list(values))
        return made

    def _length(self, block: Block) -> ast.expr:
        where = ("attr", self.body.index, block.position, "length")
        value = self.body.holes(where, block.begin.attrs["length"])
        return self.body.exprs.const(value)
