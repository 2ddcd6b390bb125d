"""Loops and branches as statements of Python, for PyTorch and NumPy (`ivyport.modules.blocks`)."""

from __future__ import annotations

import ast

from ivyport.backends import pyast
from ivyport.core.ir import Node, Value
from ivyport.modules.blocks import Block
from ivyport.modules.blocks_choice import Choices


class Statements(Choices):
    """``for``, ``while`` and ``if``, and lists that are stacked."""

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
            block.entries = self.variables.take(block.items, header)
        self._hold(block.state, -1)
        self._prefer(block)
        block.test = header
        body.statements = []

    def _start(self, value: Value, first: Value) -> str:
        """The variable of a carried value; that of the first one, if nobody else reads it."""
        body = self.body
        expr = body.expr(first)
        body.consume([first])
        own = isinstance(expr, ast.Name) and self.variables.holder.get(expr.id) is first
        hints = [*value.names.values(), *body.hints.wanted.get(value, [])]
        own = own and (not hints or ast.unparse(expr) in hints)
        if own and not self.variables.needed(first):
            assert isinstance(expr, ast.Name)
            self.variables.take_over(value, expr.id)
            return expr.id
        name = self._name(value, expr)
        if not (isinstance(expr, ast.Name) and expr.id == name):
            body.statements.append(pyast.assign(name, expr))
        return name

    def _lists(self, block: Block) -> None:
        body = self.body
        for value in block.end.outputs[block.carried :]:
            if not self.variables.needed(value):
                block.lists.append(None)
                continue
            block.lists.append(self._name(value))
            self.variables.promise(str(block.lists[-1]))  # a list until it is stacked
            empty = ast.List([], ast.Load())
            body.statements.append(pyast.assign(str(block.lists[-1]), empty))

    def _header(self, block: Block) -> ast.expr:
        """What the loop iterates over: entries of tensors on their first axis."""
        sequences = self._exprs(block.sequences)
        if not sequences:
            return pyast.call(pyast.name("range"), [self._length(block)])
        if block.begin.attrs["reverse"]:
            entries = self.body.exprs.language.entries
            sequences = [
                pyast.call(
                    pyast.name("reversed"),
                    [pyast.call(pyast.attribute(s, entries)) if entries else s],
                )
                for s in sequences
            ]
        if len(sequences) == 1:
            return sequences[0]
        return pyast.call(pyast.name("zip"), sequences)

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

    def close(self, block: Block) -> None:
        if block.style in ("cond", "if"):
            self._finish_branch(block, block.end)
            self._choice(block)
        else:
            self._loop(block)
        self._release(block)

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
            self.variables.take_over(value, name)
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
        stacked = self.body.exprs.call(self.body.exprs.language.stack, items)
        self.body.statements.append(pyast.assign(name, stacked))
        self.variables.take_over(value, name)
