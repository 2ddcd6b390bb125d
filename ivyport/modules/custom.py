"""Functions with a derivative of their own, as functions of the emitted module."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.control import all_nodes
from ivyport.core.errors import GraphError
from ivyport.core.ir import Graph, Node, Param, Value
from ivyport.core.ops_custom import Function, functions
from ivyport.modules.blocks import Blocks
from ivyport.modules.body import Body
from ivyport.modules.form import Writer
from ivyport.modules.runs import Run
from ivyport.modules.tree import CallNode, build


@dataclasses.dataclass
class Part:
    """One pass of a function as code.

    Attributes:
        arguments: the names of its arguments, in order.
        statements: its body, without the return.
        results: what it returns; None stands for the gradient of an operand without one.
    """

    arguments: list[str]
    statements: list[ast.stmt]
    results: list[ast.expr | None]

    def uses(self, name: str) -> bool:
        """Whether the pass reads a variable."""
        trees: list[ast.AST] = [*self.statements, *(r for r in self.results if r)]
        return any(
            isinstance(n, ast.Name) and n.id == name
            for tree in trees
            for n in ast.walk(tree)
        )

    def text(self) -> str:
        """What it is, for comparison."""
        results = [ast.dump(r) if r else "" for r in self.results]
        return "\n".join([*self.arguments, *map(ast.dump, self.statements), *results])


class _Owner:
    """A function owns nothing: it has no modules, parameters or modes (`modules.owner`)."""

    def __init__(self, exprs: Exprs, blocks: Callable[[Body], Blocks]) -> None:
        self.exprs = exprs
        self.blocks = blocks

    def child(self, call: CallNode) -> ast.expr:
        raise GraphError("a function with its own derivative calls a module")

    def param(self, value: Value) -> ast.expr | None:
        return None

    def update(self, param: Param, new: ast.expr) -> ast.stmt:
        raise GraphError("a function with its own derivative writes to a buffer")

    def training(self) -> ast.expr:
        raise GraphError("a function with its own derivative depends on the mode")

    def any_param(self) -> ast.expr | None:
        return None

    def number(
        self, where: tuple[Any, ...], value: int | float, *, shared: bool = False
    ) -> int | float:
        return value

    def printed(self, node: Node, operands: Iterable[Any], expr: ast.expr) -> None:
        pass

    def note(self, value: Any) -> None:
        pass

    def bound(self, value: int, line: str) -> tuple[str, ast.expr] | None:
        return None

    def dropout(self, call: CallNode, position: int, rate: float) -> ast.expr:
        raise GraphError("a function with its own derivative draws random numbers")

    def stream(self) -> ast.expr | None:
        return None

    def rolls(self, run: Run) -> bool:
        return False

    def container(self, run: Run) -> ast.expr:
        raise GraphError("a function with its own derivative has modules")

    def loop_variable(self, run: Run) -> str:
        return "_"

    def times(self, count: int) -> ast.expr:
        return pyast.call(pyast.name("range"), [ast.Constant(count)])

    def leaf_operands(self, call: CallNode) -> list[Value]:
        return list(call.inputs)


def define(
    graph: Graph, exprs: Exprs, target: Writer, taken: Iterable[str]
) -> list[ast.stmt]:
    """The definitions of all functions that a graph calls; `exprs.functions` learns their names.

    Functions that are written alike are one.
    """
    known = set(taken)
    made: dict[str, str] = {}
    statements: list[ast.stmt] = []
    for function in functions(all_nodes(graph)):
        if function in exprs.functions:
            continue
        forward, backward = (_part(g, exprs, target) for g in function.graphs)
        text = f"{function.name}\n{forward.text()}\n{backward.text()}"
        if text not in made:
            name = target.function_name(function.name)
            name = _free(name, known)
            made[text] = name
            statements += target.function(name, forward, backward)
        exprs.functions[function] = target.call_of(made[text])
    return statements


def _free(name: str, taken: set[str]) -> str:
    found, count = name, 2
    while found in taken or f"{found}_forward" in taken or f"{found}_backward" in taken:
        found, count = f"{name}_{count}", count + 1
    taken |= {found, f"{found}_forward", f"{found}_backward"}
    return found


def _part(graph: Graph, exprs: Exprs, target: Writer) -> Part:
    for node in graph.nodes:
        node.scope = ()
    outputs = list(graph.outputs)
    graph.outputs = [v for v in outputs if v is not None]
    call = build(graph)
    body = Body(call, 0, _Owner(exprs, target.blocks))

    def results(body: Body) -> ast.expr | None:
        body.bind_all(graph.outputs, limit=80)
        return pyast.tuple_of([body.expr(v) for v in graph.outputs])

    body.run(results)
    *statements, last = body.statements
    assert isinstance(last, ast.Return)
    assert isinstance(last.value, ast.Tuple)
    found = iter(last.value.elts)
    return Part(
        body.arguments,
        statements,
        [None if v is None else next(found) for v in outputs],
    )


__all__ = ["Function", "Part", "define"]
