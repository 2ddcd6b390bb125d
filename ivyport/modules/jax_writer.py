"""What the forms of modules that are written in JAX have in common."""

from __future__ import annotations

import ast

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.modules.blocks_lax import Functions
from ivyport.modules.custom import Part
from ivyport.modules.form import packed, snake_case, transposed
from ivyport.modules.instances import ParamSpec


class JaxWriter:
    """Functions, arrays and layouts as JAX has them, whatever the library of modules is."""

    blocks = Functions
    call_method = "__call__"

    def __init__(self, exprs: Exprs) -> None:
        self.exprs = exprs
        self.classes: set[str] = set()  # runtime classes that the file must define
        self.modal: set[str] = set()  # emitted classes that are told whether they train

    def at_root(self) -> None:
        """Nothing more than any other class needs."""

    def transposed(self, exprs: Exprs, expr: ast.expr, spec: ParamSpec) -> ast.expr:
        """A layer's parameter as the source lays it out."""
        return transposed(exprs, expr, spec, "transpose")

    def function_name(self, name: str) -> str:
        """``round_straight_through``."""
        return snake_case(name)

    def call_of(self, name: str) -> ast.expr:
        """The function's name."""
        return pyast.name(name)

    def function(self, name: str, forward: Part, backward: Part) -> list[ast.stmt]:
        """``@jax.custom_vjp``, and the two passes that ``defvjp`` takes."""
        operands = forward.arguments
        count = len(operands)
        inner, grads = backward.arguments[:count], backward.arguments[count:]
        kept = [i for i, n in enumerate(inner) if backward.uses(n)]
        saved = pyast.tuple_of(pyast.name(operands[i]) for i in kept)
        args = [pyast.name(n) for n in operands]
        applied = pyast.call(pyast.name(name), args)
        main = pyast.function(
            name, operands, [*forward.statements, ast.Return(packed(forward.results))]
        )
        main.decorator_list = [self.exprs.name("jax.custom_vjp")]
        first = pyast.function(
            f"{name}_forward",
            operands,
            [ast.Return(pyast.tuple_of([applied, saved]))],
        )
        body: list[ast.stmt] = []
        # A name that starts with an underscore says that it is not used.
        handed = "saved" if kept else "_saved"
        if kept:
            left = pyast.tuple_of(pyast.name(inner[i]) for i in kept)
            body.append(pyast.assign(left, pyast.name(handed)))
        given = grads[0]
        if len(grads) > 1:
            given = "grads"
            left = pyast.tuple_of(pyast.name(n) for n in grads)
            body.append(pyast.assign(left, pyast.name(given)))
        results = pyast.tuple_of(
            ast.Constant(None) if r is None else r for r in backward.results
        )
        second = pyast.function(
            f"{name}_backward",
            [handed, given],
            [*body, *backward.statements, ast.Return(results)],
        )
        passes = [pyast.name(f"{name}_forward"), pyast.name(f"{name}_backward")]
        tie = pyast.call(pyast.attribute(pyast.name(name), "defvjp"), passes)
        return [main, first, second, ast.Expr(tie)]
