"""Runs of calls that one loop can make: each feeds the next, everything else is the same."""

from __future__ import annotations

import dataclasses

from ivyport.core.ir import Node, Value
from ivyport.modules.tree import CallNode


@dataclasses.dataclass
class Run:
    """Consecutive calls. `carried` maps an argument's position to the output that feeds it."""

    calls: list[CallNode]
    carried: dict[int, int]
    method: str = "__call__"

    @property
    def repeated(self) -> bool:
        """Whether all calls are of one module."""
        return len({c.path for c in self.calls}) == 1


def find_run(
    items: list[Node | CallNode],
    start: int,
    uses: dict[Value, int],
    results: list[Value],
) -> Run | None:
    """The longest run of at least two calls beginning at `start`.

    Calls are alike if their modules are consecutive entries of one list, or one module; being
    of one class is checked through `CallNode.group`, set when classes are known.
    """
    first = items[start]
    if not isinstance(first, CallNode) or first.group is None:
        return None
    run = [first]
    carried: dict[int, int] | None = None
    for item in items[start + 1 :]:
        if not isinstance(item, CallNode) or item.group != first.group:
            break
        if not _follows(run[-1], item, first):
            break
        links = _links(run[-1], item, uses, results)
        if links is None or (carried is not None and links != carried):
            break
        carried = links
        run.append(item)
    if carried is None or not carried:
        return None
    return Run(run, carried, first.method)


def _follows(previous: CallNode, item: CallNode, first: CallNode) -> bool:
    if item.path == previous.path:
        return first.path == item.path
    container, _, index = item.path.rpartition(".")
    before, _, last = previous.path.rpartition(".")
    return (
        container == before
        and index.isdigit()
        and last.isdigit()
        and int(index) == int(last) + 1
    )


def _links(
    previous: CallNode, item: CallNode, uses: dict[Value, int], results: list[Value]
) -> dict[int, int] | None:
    """Argument positions fed by `previous`; None if another argument changes."""
    if len(previous.inputs) != len(item.inputs):
        return None
    links: dict[int, int] = {}
    for position, (old, new) in enumerate(
        zip(previous.inputs, item.inputs, strict=True)
    ):
        if new in previous.outputs:
            links[position] = previous.outputs.index(new)
        elif new is not old:
            return None
    for index, value in enumerate(previous.outputs):
        fed = sum(1 for o in links.values() if o == index)
        if value in results or uses.get(value, 0) != fed:
            return None
    return links
