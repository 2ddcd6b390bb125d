"""The ways in which names and shapes disagree, raised as one error."""

from __future__ import annotations

from ivyport.core.errors import WeightsError
from ivyport.core.shown import shown

LIMIT = 50  # names listed in a group; the rest is counted
LONGEST = 400  # characters of what is said of a name


class Differences:
    """Problems in named groups, raised together and sorted."""

    def __init__(self) -> None:
        self._groups: dict[str, list[str]] = {}

    def add(self, group: str, name: str, detail: str = "") -> None:
        """Note a problem. Names are quoted: they can hold newlines and quotes."""
        line = f"{shown(name)}: {detail[:LONGEST]}" if detail else shown(name)
        self._groups.setdefault(group, []).append(line)

    def raise_if_any(self, headline: str) -> None:
        """Raise one WeightsError that lists every group, if there is any problem."""
        if not self._groups:
            return
        lines = [headline]
        for group, items in self._groups.items():
            lines.append(f"  {group} ({len(items)}):")
            lines += [f"    {item}" for item in sorted(items)[:LIMIT]]
            if len(items) > LIMIT:
                lines.append(f"    ... and {len(items) - LIMIT} more")
        raise WeightsError("\n".join(lines))
