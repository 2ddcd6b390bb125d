"""What a graph takes for granted of the sizes of its inputs.

A trace that asked for a size (``if t % 2 == 0``) is right only for sizes that answer as the
example's did. Each such answer is a `Check`; a port evaluates them when it is called.
"""

from __future__ import annotations

import ast
import dataclasses
import linecache
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ivyport.core.dims import DimLike, evaluate, maximum, minimum, symbol, symbols
from ivyport.core.errors import GraphError

RELATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of the source: its file, its number and its code."""

    file: str
    line: int
    code: str = ""

    @classmethod
    def at(cls, file: str, line: int) -> Line:
        """That line, with its code where the file is at hand."""
        return cls(file, line, linecache.getline(file, line).strip())

    def __str__(self) -> str:
        """The path inside of its package, or the file's name: no folder of a machine."""
        parts = self.file.replace("\\", "/").split("/")
        installed = "site-packages" in parts
        kept = parts[parts.index("site-packages") + 1 :] if installed else parts[-1:]
        code = f": {self.code}" if self.code else ""
        return f"{'/'.join(kept)}:{self.line}{code}"

    def short(self, width: int = 64) -> str:
        """The same, cut to `width` characters."""
        text = str(self)
        return text if len(text) <= width else text[: width - 4] + " ..."


@dataclasses.dataclass(frozen=True)
class Check:
    """``left relation right`` holds for the sizes of every call; `line` asked for it.

    Args:
        left, right: integers or symbolic sizes.
        relation: one of `RELATIONS`.
        line: where the source asked, None where it is not known.
        trained: whether train mode alone asked.
    """

    left: DimLike
    relation: str
    right: DimLike
    line: Line | None = None
    trained: bool = False

    def holds(self, sizes: Mapping[str, int]) -> bool | None:
        """Whether sizes by symbol satisfy it; None where they leave it open."""
        left, right = evaluate(self.left, sizes), evaluate(self.right, sizes)
        if isinstance(left, int) and isinstance(right, int):
            return RELATIONS[self.relation](left, right)
        return None

    def symbols(self) -> set[str]:
        """Names of the sizes that it is about."""
        return symbols(self.left) | symbols(self.right)

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"

    def to_json(self) -> dict[str, str]:
        """A JSON object: both sides as arithmetic on names of sizes, and the line."""
        found = {"left": str(self.left), "relation": self.relation}
        line = {"line": str(self.line)} if self.line else {}
        mode = {"mode": "train"} if self.trained else {}
        return {**found, "right": str(self.right), **line, **mode}

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Check:
        """The check of a JSON object, without its line.

        >>> Check.from_json({"left": "T%2", "relation": "==", "right": "0"}).holds({"T": 4})
        True
        """
        left, right = (_parsed(value[side]) for side in ("left", "right"))
        trained = value.get("mode") == "train"
        return cls(left, value["relation"], right, trained=trained)


_ARITHMETIC: dict[type[ast.operator], Callable[[DimLike, DimLike], DimLike]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}


def _parsed(text: str) -> DimLike:
    """A size from its text."""
    return _size(ast.parse(text, mode="eval").body)


def _size(node: ast.expr) -> DimLike:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_size(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_size(node.left), _size(node.right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        one, two = (_size(x) for x in node.args)
        return maximum(one, two) if node.func.id == "max" else minimum(one, two)
    raise GraphError(f"{ast.unparse(node)} is no arithmetic on sizes")


def assumption(check: Check) -> str:
    """A note of what a port checks, with the source's line."""
    at = f", for the source asks at {check.line}" if check.line else ""
    mode = " in train mode" if check.trained else ""
    return f"Sizes are taken with {check}{mode}, which the port checks{at}."
