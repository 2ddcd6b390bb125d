"""What a form of modules decides about an emitted file: its layers, classes and constructors."""

from __future__ import annotations

import ast
import dataclasses
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from ivyport.backends import pyast
from ivyport.backends.language import Language
from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Param
from ivyport.modules.blocks import Blocks
from ivyport.modules.formulas import Formula
from ivyport.modules.instances import LayerSpec, LeafRule, ParamSpec
from ivyport.modules.layout import Naming
from ivyport.weights.transform import Permute

if TYPE_CHECKING:
    from ivyport.modules.body import Body
    from ivyport.modules.custom import Part


class Writer(Protocol):
    """How a library's modules are written.

    Attributes:
        module_base: the class that every emitted class derives from.
        call_method: the method that a call of a module runs.
        classes: runtime classes that the expressions made so far need.
    """

    module_base: str
    call_method: str
    classes: set[str]

    @property
    def blocks(self) -> Callable[[Body], Blocks]:
        """How loops and branches are written."""

    def layer(self, spec: LayerSpec, numbers: dict[str, ast.expr]) -> ast.expr:
        """Constructor call of a native layer."""

    def child(
        self, name: str, args: list[ast.expr], kwargs: dict[str, ast.expr]
    ) -> ast.expr:
        """Constructor call of an emitted class."""

    def list_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """A container of modules, or of parameters if `trained`, from a list."""

    def dict_of(self, items: ast.expr, trained: bool = False) -> ast.expr:
        """The same from a dictionary."""

    def gap(self) -> ast.expr:
        """What holds a place in a list of modules."""

    def dropout(self, rate: ast.expr, broadcast: tuple[int, ...]) -> ast.expr:
        """Constructor call of a dropout layer."""

    def parameter(
        self,
        param: Param,
        shape: ast.expr,
        frozen: bool = False,
        formula: Formula | None = None,
    ) -> ast.expr:
        """A parameter of that shape, not trained if `frozen`.

        It starts as `formula` says, drawn without one; a frozen one whose formula is
        `formulas.UNKNOWN` cannot be read before weights were loaded.
        """

    def restart(self, param: ast.expr, formula: Formula, frozen: bool) -> ast.stmt:
        """A layer's parameter starts as ``full`` or ``eye`` say, or as one without values."""

    def freeze(self, module: ast.expr) -> ast.stmt:
        """No parameter of a module is trained."""

    def freeze_param(self, param: ast.expr) -> ast.stmt:
        """The parameter in an attribute is not trained."""

    def buffer(
        self, attr: str, param: Param, shape: ast.expr, formula: Formula | None
    ) -> ast.stmt:
        """``self.<attr>`` becomes a buffer of that shape.

        Without a formula it cannot be read before weights were loaded.
        """

    @property
    def modes(self) -> dict[str, ast.expr]:
        """Attributes that a class must set at first so that `training` can read them."""

    def stream(self) -> ast.expr | None:
        """A new stream of random keys, in a constructor; None where there are no keys."""

    def training(self) -> ast.expr:
        """What says in a method whether the model trains."""

    def update(
        self, buffer: ast.expr, new: ast.expr, *, trains: bool = False
    ) -> ast.stmt:
        """A buffer gets a new value, or a parameter (`trains`); no gradient flows through it."""

    def array(self, argument: ast.expr) -> ast.expr | None:
        """What a caller gives as an array of the framework; None: it must be one."""

    def read(self, expr: ast.expr) -> ast.expr:
        """The array in a parameter attribute."""

    def transposed(self, exprs: Exprs, expr: ast.expr, spec: ParamSpec) -> ast.expr:
        """A layer's parameter in the source's own layout."""

    def function_name(self, name: str) -> str:
        """How a function with its own derivative is called where its name is free."""

    def call_of(self, name: str) -> ast.expr:
        """What is called to apply such a function."""

    def function(self, name: str, forward: Part, backward: Part) -> list[ast.stmt]:
        """The definition of such a function."""

    def constructor(
        self, body: list[ast.stmt], arguments: list[str], config: str | None
    ) -> ast.stmt:
        """The ``__init__`` function."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How modules of one library are written: what a target adds to its language.

    Attributes:
        language: how operations are written.
        imports: the statement that imports each root of a dotted name, beside the language's.
        leaf: which module calls are layers of the library's own.
        writer: how modules are written.
        layers: the module of helper classes and loading functions; loads the library.
        naming: which names its modules refuse; loads the library.
        load_file: the statement that imports safetensors' reader and writer.
        construct: the expression that builds the model ``cls``, with and without
            configuration.
        draws_biases: whether a layer's bias starts as a random draw.
    """

    language: Language
    imports: Mapping[str, str]
    leaf: LeafRule
    writer: Callable[[Exprs], Writer]
    layers: Callable[[], ModuleType]
    naming: Callable[[], Naming]
    load_file: str
    construct: tuple[str, str]
    draws_biases: bool = False


def transposed(exprs: Exprs, expr: ast.expr, spec: ParamSpec, permute: str) -> ast.expr:
    """A layer's parameter in the source's own layout; `permute` is the target's method."""
    for transform in reversed(spec.transforms):
        inverse = transform.inverse()
        assert isinstance(inverse, Permute)
        expr = (
            pyast.attribute(expr, "T")
            if inverse.axes == (1, 0)
            else exprs.method(expr, permute, *inverse.axes)
        )
    return expr


def packed(results: Sequence[ast.expr | None]) -> ast.expr:
    """What a function returns: one result by itself, several as a tuple."""
    exprs = [r for r in results if r is not None]
    return exprs[0] if len(exprs) == 1 else pyast.tuple_of(exprs)


def snake_case(name: str) -> str:
    """``round_straight_through`` for ``RoundStraightThrough``.

    >>> snake_case("GradReverse"), snake_case("STE"), snake_case("ste_round")
    ('grad_reverse', 'ste', 'ste_round')
    """
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    found = re.sub(r"\W+", "_", parts).strip("_").lower()
    return (
        found if found.isidentifier() and not keyword.iskeyword(found) else "function"
    )


def parameters(arguments: list[str], config: str | None) -> list[ast.arg]:
    """``self, config: BertConfig, size`` of a constructor."""
    args = [ast.arg("self")]
    if config is not None:
        args.append(ast.arg("config", pyast.name(config)))
    return args + [ast.arg(pyast.identifier(a)) for a in arguments]
