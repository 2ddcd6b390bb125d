"""The report of operations that cannot be lowered, all of a model's at once."""

from __future__ import annotations

import collections
import dataclasses

NO_RULE = "no rule"
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
