"""What the forms of modules that are written in JAX have in common."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ivyport.backends import pyast
from ivyport.backends.pyast import Exprs
from ivyport.core.errors import GraphError
from ivyport.modules.blocks_lax import Functions
from ivyport.modules.custom import Part
from ivyport.modules.form import BaseWriter, packed
from ivyport.modules.formulas import UNKNOWN, Formula, initial
from ivyport.modules.instances import LayerSpec

#: The function of a call, what it gets by position and by name, and the names that are flags.
Made = tuple[ast.expr, list[ast.expr], dict[str, ast.expr], dict[str, ast.expr]]


class JaxWriter(BaseWriter):
    """Functions, arrays and layouts as JAX has them, whatever the library of modules is."""

    blocks = Functions
    call_method = "__call__"

    def made_of(self, spec: LayerSpec, numbers: dict[str, ast.expr]) -> Made:
        """The class of a layer, its arguments by position and by name, and its flags."""
        args = list(numbers.values())[: spec.positional]
        rest = dict(list(numbers.items())[spec.positional :])
        flags = {
            k: self.exprs.dtype(v) if k == "param_dtype" else self.exprs.const(v)
            for k, v in spec.flags.items()
        }
        if "." in spec.kind:
            return self.exprs.name(spec.kind), args, rest, flags
        self.classes.add(spec.kind)
        return pyast.name(spec.kind), args, rest, flags

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


class PureWriter(JaxWriter):
    """What linen and haiku have in common: modules that hold no arrays of their own.

    Modules are frozen, and get what they start as, by the call that makes them. Whether they train
    is an argument that a class hands on to its parts; `_flagged` says that the class which is
    written now needs it.

    Attributes:
        normal, constant: the initializers of that name.
        same: the module that has the initializers ``zeros`` and ``ones``.
        given: what an initializer is called with.
    """

    at_birth = True
    normal: str
    constant: str
    same: str
    given: tuple[str, ...]

    def __init__(self, exprs: Exprs) -> None:
        super().__init__(exprs)
        self._flagged = False

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A plain list: the library looks into it, or counts modules of one name."""
        return items

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A plain dictionary."""
        return items

    @property
    def modes(self) -> dict[str, ast.expr]:
        """None: the flag is an argument."""
        return {}

    def stream(self) -> ast.expr | None:
        """None: a call is given keys."""
        return None

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """Never: layers are made with what they start as (`at_birth`)."""
        raise GraphError("a layer of this form starts where it is made")

    def freeze(self, module: ast.expr) -> ast.stmt:
        """Never: modules are made frozen (`at_birth`)."""
        raise GraphError("a module of this form is frozen where it is made")

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """Never: modules are made frozen (`at_birth`)."""
        raise GraphError("a module of this form is frozen where it is made")

    def unset(self, name: str) -> ast.expr:
        """``unset("mask")``: what starts a tensor whose values come with the weights."""
        self.classes.add("unset")
        return pyast.call(pyast.name("unset"), [ast.Constant(name)])

    def initializer(
        self,
        name: str,
        formula: Formula | None,
        sizes: ast.expr | None,
        dtype: str = "float32",
    ) -> ast.expr:
        """What a tensor starts as; a lambda gives the whole of it, of its own shape."""
        if formula is None:
            return self.exprs.call(self.normal, 0.02)
        if formula is UNKNOWN:
            return self.unset(name)
        self.classes |= formula.helpers
        if formula.kind == "full":
            if type(formula.number) in (int, float) and formula.number in (0, 1):
                same = ("zeros", "ones")[int(formula.number)]
                return self.exprs.name(f"{self.same}.{same}")
            return self.exprs.call(self.constant, formula.number)
        if sizes is None:
            starred = ast.Starred(pyast.name("shape"), ast.Load())
            eye = pyast.call(self.exprs.name("jnp.eye"), [starred])
            return lambda_of(eye, self.given)
        plain = dtype == "float32"
        made = initial(self.exprs, formula, sizes, self.exprs.dtype(dtype), plain)
        return lambda_of(made, rest="_")


def lambda_of(
    body: ast.expr, names: Sequence[str] = (), rest: str | None = None
) -> ast.Lambda:
    """``lambda shape, dtype: body``, ``lambda *_: body``."""
    args = [ast.arg(name) for name in names]
    more = ast.arg(rest) if rest else None
    return ast.Lambda(ast.arguments([], args, more, [], [], None, []), body)
