"""What a graph takes for granted of the sizes of its inputs.

A trace that asked for a size (``if t % 2 == 0``) is right only for sizes that answer as the
example's did. Each such answer is a `Check`; a port evaluates them when it is called.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ivyport.core.dims import DimLike, evaluate, symbols

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

    def __str__(self) -> str:
        code = f": {self.code}" if self.code else ""
        return f"{self.file}:{self.line}{code}"

    def short(self, width: int = 64) -> str:
        """The same with the end of the path alone, cut to `width` characters."""
        parts = self.file.replace("\\", "/").split("/")
        installed = "site-packages" in parts
        kept = parts[parts.index("site-packages") + 1 :] if installed else parts[-1:]
        text = f"{'/'.join(kept)}:{self.line}" + (f": {self.code}" if self.code else "")
        return text if len(text) <= width else text[: width - 4] + " ..."


@dataclasses.dataclass(frozen=True)
class Check:
    """``left relation right`` holds for the sizes of every call; `line` asked for it.

    Args:
        left, right: integers or symbolic sizes.
        relation: one of `RELATIONS`.
        line: where the source asked, None where it is not known.
    """

    left: DimLike
    relation: str
    right: DimLike
    line: Line | None = None

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
