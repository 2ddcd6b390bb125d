"""Loops and branches as local functions that JAX's combinators call (`ivyport.modules.blocks`)."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ivyport.backends import pyast
from ivyport.core.ir import Node, Value
from ivyport.modules.blocks import Block
from ivyport.modules.blocks_choice import Choices

if TYPE_CHECKING:
    from ivyport.modules.body import Body


class Functions(Choices):
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
        self._functions[id(block)] = [self.variables.reserve(w) for w in words]
        if block.style not in ("cond", "if"):
            self._carried_hints(block)
            for value in [*block.state, *block.items]:
                block.names.append(self._name(value))
                self._hold([value], 1)
            block.entries = block.names[block.carried :]
            block.names = block.names[: block.carried]
            self._hold([*block.state, *block.items], -1)
        block.inside = dict(self.variables.holder)
        body.statements = []

    def next(self, block: Block, mark: Node) -> None:
        body = self.body
        body.statements.append(self._returned(block.given(mark)))
        block.parts.append(body.statements)
        body.statements = []
        self.variables.holder = dict(block.inside)

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
        body.statements, self.variables.holder = block.outer, block.holder
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
            argument = self.variables.reserve(base) if names else "_"
            arguments.append(argument if argument not in arguments else f"_{base}")
            if names:
                left = pyast.tuple_of(pyast.name(n) for n in names)
                unpacked.append(pyast.assign(left, pyast.name(argument)))
        self.body.statements.append(pyast.function(name, arguments, [*unpacked, *part]))

    def _call(self, block: Block) -> ast.expr:
        body, exprs = self.body, self.body.exprs
        functions: list[Any] = [pyast.name(str(n)) for n in block.lists]
        if block.style in ("cond", "if"):
            which = body.expr(block.begin.inputs[0])  # type: ignore[arg-type]  # a condition is a tensor
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
        names = [pyast.name(n) for n in self._names(outputs, call)]
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
