"""Branches as statements: those of PyTorch, and in every target those of the train flag."""

from __future__ import annotations

import ast
import collections
from collections.abc import Sequence

from ivyport.backends import pyast
from ivyport.core.errors import GraphError
from ivyport.core.ir import Node, Value
from ivyport.modules.blocks import Block, Blocks


class Choices(Blocks):
    """``if self.training: ... else: ...``: a Python branch, for the flag is no tensor."""

    def mark(self, node: Node, position: int) -> None:
        """Emit one mark."""
        if node.attrs["style"] != "mode":
            super().mark(node, position)
        elif node.op == "control_begin":
            self.open.append(self._opened(node, position))
            self._begin_modes(self.open[-1])
        elif node.op == "control_next":
            self._finish_branch(self.open[-1], node)
        else:
            block = self.open.pop()
            self._finish_branch(block, block.end)
            self._choice(block)
            self._release(block)

    def _begin_modes(self, block: Block) -> None:
        body, variables = self.body, self.variables
        inside = body.call.items[block.position : body.call.items.index(block.end) + 1]
        within = collections.Counter(v for item in inside for v in self._read(item))
        # What a branch hands through keeps its variable if nobody else reads it.
        through = {v for v, count in within.items() if variables.uses.get(v) == count}
        self._settle(block)
        own: dict[Value, str] = {}
        for value, *given in zip(
            block.end.outputs, self._middle(block).inputs, block.end.inputs, strict=True
        ):
            name = next((n for x in given if (n := self._own(x, through))), None)
            if name is not None and name not in own.values():
                own[value] = name
        block.test = body.owner.training()
        others = [v for v in block.end.outputs if v not in own]
        named = dict(zip(others, self._names(others, block.test), strict=True)) | own
        block.names = [
            named[v] if variables.needed(v) else "_" for v in block.end.outputs
        ]
        for name in block.names:
            if name not in own.values():
                variables.promise(name)
        body.statements = []

    def _middle(self, block: Block) -> Node:
        """The mark between the two branches, which may hold other ones."""
        level = 0
        for item in self.body.call.items[block.position :]:
            if isinstance(item, Node):
                if item.op == "control_next" and level == 1:
                    return item
                level += (item.op == "control_begin") - (item.op == "control_end")
        raise GraphError("a choice has two branches")

    def _own(self, x: object, through: set[Value]) -> str | None:
        """The variable that holds a value which a block may overwrite."""
        if not isinstance(x, Value) or x not in through:
            return None
        entry = self.variables.entries.get(x)
        expr = entry.expr if entry is not None else None
        if (
            not isinstance(expr, ast.Name)
            or self.variables.holder.get(expr.id) is not x
        ):
            return None
        return expr.id

    def _begin_choice(self, block: Block) -> None:
        body = self.body
        (test,) = self._exprs(list(block.begin.values()))
        if block.style == "cond" and not isinstance(test, ast.Name):
            name = self.variables.reserve("branch")
            body.statements.append(pyast.assign(name, test))
            test = pyast.name(name)
        block.test = test
        block.names = self._names(block.end.outputs, test)
        for name in block.names:
            self.variables.promise(name)
        body.statements = []

    def _finish_branch(self, block: Block, mark: Node) -> None:
        made = iter(self._exprs(block.given(mark)))
        exprs = [
            next(made) if isinstance(x, Value) else ast.Constant(None)
            for x in mark.inputs
        ]
        pairs = list(zip(block.names, exprs, strict=True))
        self._assign([(n, e) for n, e in pairs if n != "_"])
        block.parts.append(self.body.statements)
        self.body.statements = []

    def _assign(self, pairs: Sequence[tuple[str, ast.expr]]) -> None:
        """One after the other; all at once where what is assigned is read by the others."""
        changed = [
            (n, e) for n, e in pairs if not (isinstance(e, ast.Name) and e.id == n)
        ]
        if not changed:
            return
        assigned = {n for n, _ in changed}
        if not any(_reads(e) & (assigned - {n}) for n, e in changed):
            # What this branch lacks comes last.
            changed.sort(key=lambda pair: isinstance(pair[1], ast.Constant))
            self.body.statements += [pyast.assign(pyast.name(n), e) for n, e in changed]
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
                test = body.exprs.binary(operator, test, number)
            chain = [_if(test, block.parts[number], chain)]
        body.statements += chain
        for value, name in zip(block.end.outputs, block.names, strict=True):
            if name != "_":
                self.variables.take_over(value, name)


def _reads(expr: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(expr) if isinstance(n, ast.Name)}


def _if(test: ast.expr, then: list[ast.stmt], otherwise: list[ast.stmt]) -> ast.stmt:
    """An ``if``; the other way round where there is nothing to do first."""
    if then or not otherwise:
        return ast.If(test, then or [ast.Pass()], otherwise)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return ast.If(test.operand, otherwise, [])
    return ast.If(ast.UnaryOp(ast.Not(), test), otherwise, [])
