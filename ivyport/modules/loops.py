"""Loops over equal modules in one method: ``for layer in self.layers: x = layer(x, mask)``."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from ivyport.backends import pyast
from ivyport.core.ir import Value
from ivyport.modules.runs import Run
from ivyport.modules.tree import written

if TYPE_CHECKING:
    from ivyport.modules.body import Body

ANY = pyast.stored(pyast.name("_"))


class Loops:
    """The loops of one method; `body` is the method that is being emitted."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.variables = body.variables
        self._outer: ast.For | None = None  # the last loop around an equal loop
        self._rounds: dict[ast.For, int] = {}  # how often each such loop goes round

    def add(self, run: Run) -> None:
        """Write one loop for the calls of a run."""
        body, owner = self.body, self.body.owner
        first, last = run.calls[0], run.calls[-1]
        operands = owner.leaf_operands(first)
        for value in operands:
            entry = self.variables.entry(value)
            if not entry.bound and not pyast.is_trivial(entry.expr):
                self.variables.bind(value)
        self.variables.before_write(v for call in run.calls for v in written(call))
        names: dict[int, str] = {}  # of the outputs that the next call gets
        with self.variables.pinned(names.values()):
            for position, output in run.carried.items():
                names[output] = self._carry(operands[position], last.outputs[output])
            variable = self._variable(run)
            taken = {p: names[o] for p, o in run.carried.items()}
            args = [
                pyast.name(taken[p]) if p in taken else self.variables.entry(v).expr
                for p, v in enumerate(operands)
            ]
        target = pyast.name(variable) if variable != "_" else owner.child(first)
        if run.method != "__call__" and variable != "_":
            target = pyast.attribute(target, run.method)
        results = [pyast.name(names.get(i, "_")) for i in range(len(first.outputs))]
        left = results[0] if len(results) == 1 else pyast.tuple_of(results)
        step = pyast.assign(left, pyast.call(target, args))
        each = pyast.stored(pyast.name(variable))
        self._append(ast.For(each, owner.container(run), [step], [], lineno=0))
        for call in run.calls:
            body.consume(owner.leaf_operands(call))
        for output, name in names.items():
            self.variables.take_over(last.outputs[output], name)

    def finish(self) -> None:
        """Say how often each loop around an equal loop goes round."""
        for loop, count in self._rounds.items():
            loop.iter = self.body.owner.times(count)

    def _variable(self, run: Run) -> str:
        """A name that holds nothing still needed, ``_`` for repeated calls."""
        hint = self.body.owner.loop_variable(run)
        return "_" if hint == "_" else self.variables.local([hint, "layer", "module"])

    def _append(self, loop: ast.For) -> None:
        """Add a loop; the same one once more is a loop around it."""
        statements = self.body.statements
        last = statements[-1] if statements else None
        again = self._outer if last is self._outer else None
        inner = last if again is None else again.body[0]
        if inner is None or ast.dump(inner) != ast.dump(loop):
            statements.append(loop)
            return
        if again is None:
            self._outer = again = ast.For(ANY, ast.Tuple([]), [loop], [], lineno=0)
            statements[-1] = again
            self._rounds[again] = 1
        self._rounds[again] += 1

    def _carry(self, initial: Value, final: Value) -> str:
        """The loop variable that starts as `initial`; a copy if `initial` is needed later."""
        expr = self.variables.entry(initial).expr
        inside = 1
        if isinstance(expr, ast.Name) and self.variables.uses[initial] <= inside:
            self.variables.clear(expr.id)
            return expr.id
        (name,) = self.variables.take([final], expr)
        self.body.statements.append(pyast.assign(name, expr))
        return name
