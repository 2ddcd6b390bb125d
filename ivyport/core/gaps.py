"""The report of operations that cannot be lowered, all of a model's at once."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from ivyport.core.checks import Line

NO_RULE = "no rule"
COMPLEX = (
    "a port does not compute with complex numbers: keep the real and the imaginary part apart (a "
    "Fourier transform is the product with a matrix, the transform of the identity matrix)"
)
PLACES = 3  # that are named for each operation
ADVICE = {
    True: "Write that line with other operations, or port the modules around it.",
    False: "Write those lines with other operations, or port the modules around them.",
}


@dataclasses.dataclass(frozen=True)
class Gap:
    """An operation of the source without a rule, or one whose rule refused.

    `where` is the module and the source line, `reason` is `NO_RULE` or the rule's own. `sizes`
    are the symbolic sizes at hand: with these constant it may be none.
    """

    operation: str
    where: str
    reason: str
    sizes: frozenset[str] = frozenset()
    line: Line | None = None


def stuck(gaps: list[Gap], sizes: Iterable[str]) -> str | None:
    """Which of `sizes`, in the order of the inputs, has to be constant for all to have a lowering.

    The last one that all operations without a lowering have to do with; None where an operation
    has no rule at all.
    """
    if not gaps or any(not gap.sizes or gap.reason == NO_RULE for gap in gaps):
        return None
    shared = frozenset.intersection(*(gap.sizes for gap in gaps))
    likely = shared or frozenset.union(*(gap.sizes for gap in gaps))
    found = [name for name in dict.fromkeys(sizes) if name in likely]
    return found[-1] if found else None


def blamed(gaps: list[Gap], size: str) -> tuple[str, Line | None]:
    """Why that size has to be constant, for a note, and the source's line."""
    gap = next(gap for gap in gaps if size in gap.sizes)
    reason = "" if gap.reason == NO_RULE else f": {gap.reason.partition(chr(10))[0]}"
    return f"{gap.operation} in {gap.where} cannot have it free{reason}", gap.line


def report(gaps: list[Gap]) -> str:
    """The text of an `UnsupportedOpsError`: counts, reasons, modules and source lines.

    The most frequent ones come first.
    """
    groups: dict[tuple[str, str], list[Gap]] = collections.defaultdict(list)
    for gap in gaps:
        groups[gap.operation, gap.reason].append(gap)
    lines = []
    for (operation, reason), members in sorted(
        groups.items(), key=lambda group: (-len(group[1]), group[0])
    ):
        detail = "" if reason == NO_RULE else f": {reason}"
        lines.append(f"  {len(members):4d} x {operation}{detail}")
        lines += [f"           in {where}" for where in _places(members)]
    one = len(groups) == 1
    return (
        f"{len(groups)} {'operation' if one else 'operations'} of this model cannot be "
        "ported yet:\n" + "\n".join(lines) + f"\n{ADVICE[one]}"
    )


def _places(members: list[Gap]) -> list[str]:
    places = list(dict.fromkeys(m.where for m in members))
    more = len(places) - PLACES
    if more <= 0:
        return places
    return [
        *places[:PLACES],
        f"... and {more} more {'place' if more == 1 else 'places'}",
    ]
