"""Why a rule of raising refused a node: the condition at which it gave up.

Rules say nothing when they refuse. What they came to is read off their execution here, so that no
rule has to keep account of it: the last condition that was met, in the rule and in the function
that it asked.

    graph = ivyport.trace(model, args)
    raise_layers(graph)
    for refusal in refusals(graph, "matmul"):
        print(refusal)
"""

from __future__ import annotations

import dataclasses
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from ivyport.core.build import Builder
from ivyport.core.control import all_nodes
from ivyport.core.ir import Graph, Node, Value
from ivyport.core.passes.raising import stages, trained
from ivyport.core.passes.rewrite import Rule

_PASSES = str(Path(__file__).parent.parent)


@dataclasses.dataclass(frozen=True)
class Refusal:
    """One rule that left one node as it is.

    Attributes:
        node: the node.
        rule: the name of the rule.
        where: ``norm.py:238``.
        condition: the source line at which it gave up.
        asked: the same of the function that said no to it, empty where none was asked.
    """

    node: Node
    rule: str
    where: str
    condition: str
    asked: str = ""

    def __str__(self) -> str:
        line = f"{self.node.op} at {self.node.src}: " if self.node.src else ""
        asked = f" <- {self.asked}" if self.asked else ""
        return f"{line}{self.rule} ({self.where}): {self.condition}{asked}"


def refusals(graph: Graph, *ops: str) -> Iterator[Refusal]:
    """Each rule that refuses a node of a raised graph, and why; of nodes of `ops` alone if given.

    The graph stays as it is.
    """
    table = stages(trained(graph))[-1]
    for node in all_nodes(graph):
        if ops and node.op not in ops:
            continue
        for rule in table.get(node.op, ()):
            refused = _tried(rule, node)
            if refused is not None:
                yield refused


def _tried(rule: Rule, node: Node) -> Refusal | None:
    watch = _Watch(getattr(rule, "__func__", rule).__code__)
    builder = Builder([])
    builder.scope, builder.src = node.scope, node.src
    before = sys.gettrace()
    sys.settrace(watch.call)
    try:
        answer: Value | None = rule(builder, node)
    finally:
        sys.settrace(before)
    if answer is not None:
        return None
    where, condition = watch.own
    asked = f"{watch.asked[0]}: {watch.asked[1]}" if watch.asked else ""
    return Refusal(node, getattr(rule, "__name__", repr(rule)), where, condition, asked)


class _Watch:
    """Follows the lines of a rule and of the functions of passes that it calls."""

    def __init__(self, code: CodeType) -> None:
        self._code = code
        self._lines: dict[FrameType, list[int]] = {}
        self.own = ("", "")
        self.asked: tuple[str, str] | None = None

    def call(self, frame: FrameType, event: str, value: Any) -> Any:
        """Python's trace function: of other functions than those of passes it follows none."""
        if not frame.f_code.co_filename.startswith(_PASSES):
            return None
        self._lines[frame] = []
        return self._line

    def _line(self, frame: FrameType, event: str, value: Any) -> Any:
        lines = self._lines[frame]
        if event == "line":
            lines.append(frame.f_lineno)
        elif event == "return":
            del self._lines[frame]
            if frame.f_code is self._code:
                self.own = _shown(frame, lines)
            elif value is None and lines:
                self.asked = _shown(frame, lines)
            elif value is not None:
                self.asked = None
        return self._line


def _shown(frame: FrameType, lines: list[int]) -> tuple[str, str]:
    """Where a function returned, and the condition before a plain ``return None``."""
    file = frame.f_code.co_filename
    texts = [linecache.getline(file, line).strip() for line in lines]
    last = len(texts) - 1
    while last > 0 and texts[last] in ("return None", "continue", "return False"):
        last -= 1
    return f"{Path(file).name}:{lines[last]}", texts[last]
