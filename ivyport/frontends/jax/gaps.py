"""The report of primitives that cannot be lowered, all of a model's at once."""

from __future__ import annotations

import collections
import dataclasses


@dataclasses.dataclass(frozen=True)
class Gap:
    """A primitive without a rule, or one whose rule refused."""

    primitive: str
    where: str
    reason: str


def report(gaps: list[Gap]) -> str:
    """The text of an `UnsupportedOpsError`: counts, reasons, module paths and source lines."""
    groups: dict[tuple[str, str], list[Gap]] = collections.defaultdict(list)
    for gap in gaps:
        groups[gap.primitive, gap.reason].append(gap)
    lines = []
    for (primitive, reason), members in sorted(
        groups.items(), key=lambda group: (-len(group[1]), group[0])
    ):
        detail = "" if reason == "no rule" else f": {reason}"
        lines.append(f"  {len(members):4d} x {primitive}{detail}")
        lines += [f"           in {where}" for where in _places(members)]
    noun = "operation" if len(groups) == 1 else "operations"
    return (
        f"{len(groups)} {noun} of this model cannot be ported yet:\n"
        + "\n".join(lines)
        + "\nEach needs one rule in ivyport/frontends/jax/rules_*.py."
    )


def _places(members: list[Gap]) -> list[str]:
    places = list(dict.fromkeys(m.where for m in members))
    more = [f"... and {len(places) - 3} more places"] if len(places) > 3 else []
    return places[:3] + more
