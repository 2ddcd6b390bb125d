"""Parameters that do not fit a function: every difference in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from ivyport.core.errors import InputError

Shape = tuple[int, ...]
# Shapes that a function's init makes, and given ones, by the argument that they are given in.
Trees = Mapping[str, tuple[Mapping[str, Shape], Mapping[str, Shape]]]
_LISTED = 50


def shapes(arrays: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays' shapes and dtypes alone."""
    return {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in arrays.items()}


def demand_equal(name: str, trees: Trees) -> None:
    """Compare names and shapes: what the function makes with what was given.

    Raises:
        InputError: listing what is missing, unexpected and mis-shaped in all of them.
    """
    lines: list[str] = []
    for kind, (wanted, given) in trees.items():
        for label, members in _differences(wanted, given).items():
            if members:
                lines.append(f"  {label} in {kind}= ({len(members)}):")
                lines += [f"    {member}" for member in members[:_LISTED]]
            if len(members) > _LISTED:
                lines.append(f"    ... and {len(members) - _LISTED} more")
    if lines:
        listed = "\n".join(lines)
        raise InputError(
            f"the arrays do not fit {name} on these inputs:\n{listed}\n"
            "  Give what the function's init returns, or inputs of the sizes that they were "
            "made for."
        )


def _differences(
    wanted: Mapping[str, Shape], given: Mapping[str, Shape]
) -> dict[str, list[str]]:
    return {
        "missing": [f"{p} {list(s)}" for p, s in wanted.items() if p not in given],
        "unexpected": [f"{p} {list(s)}" for p, s in given.items() if p not in wanted],
        "mis-shaped": [
            f"{p}: given {list(given[p])}, the function has {list(s)}"
            for p, s in wanted.items()
            if p in given and tuple(given[p]) != tuple(s)
        ],
    }
