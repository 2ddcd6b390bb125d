"""What the body of a method asks of the class that it belongs to."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from ivyport.backends.pyast import Exprs
from ivyport.core.ir import Node, Param, Value
from ivyport.modules.blocks import Blocks
from ivyport.modules.runs import Run
from ivyport.modules.tree import CallNode

if TYPE_CHECKING:
    from ivyport.modules.body import Body


class Owner(Protocol):
    """What a method needs to know about its class (`ivyport.modules.emit.ClassEmitter`)."""

    exprs: Exprs
    blocks: Callable[[Body], Blocks]  # how loops and branches are written

    def child(self, call: CallNode) -> ast.expr:
        """The bound method that makes an inner call."""

    def param(self, value: Value) -> ast.expr | None:
        """The expression of an own parameter, None if the value is none."""

    def update(self, param: Param, new: ast.expr) -> ast.stmt:
        """The statement that gives a buffer its new value."""

    def training(self) -> ast.expr:
        """What says in a method whether the model trains."""

    def any_param(self) -> ast.expr | None:
        """The expression of some parameter in reach, None if there is none."""

    def number(
        self, where: tuple[Any, ...], value: int | float, *, shared: bool = False
    ) -> int | float:
        """`value`, or a hole if the class spells it as an attribute.

        A number that is `shared` by several places gets an attribute only if it varies.
        """

    def printed(self, node: Node, operands: Iterable[Any], expr: ast.expr) -> None:
        """Note the numbers that the expression of an operation is written with."""

    def note(self, value: Any) -> None:
        """Note the numbers of a statement."""

    def dropout(self, call: CallNode, position: int, rate: float) -> ast.expr:
        """The dropout layer of a random operation in the body."""

    def stream(self) -> ast.expr | None:
        """A fresh key for an operation that draws in both modes, where it needs one."""

    def rolls(self, run: Run) -> bool:
        """Whether a loop can call the modules of a run."""

    def container(self, run: Run) -> ast.expr:
        """What a rolled loop iterates over."""

    def loop_variable(self, run: Run) -> str:
        """Name of the loop's variable, ``_`` for repeated calls of one module."""

    def bound(self, value: int, line: str) -> tuple[str, ast.expr] | None:
        """The field that a check's number at a line is, and the attribute that holds it."""

    def times(self, count: int) -> ast.expr:
        """What a loop of `count` rounds iterates over."""

    def leaf_operands(self, call: CallNode) -> list[Value]:
        """Operands that an inner call passes."""
