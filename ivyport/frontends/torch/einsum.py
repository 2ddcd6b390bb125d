"""Einsum equations of torch, spelled out."""

from __future__ import annotations

import string
from collections.abc import Sequence

from ivyport.core.errors import GraphError


def explicit(equation: str, ranks: Sequence[int]) -> str:
    """The equation with an output and letters for every axis of operands of `ranks`.

    Without ``->`` the output has the ellipsis' axes, then the letters that occur once,
    sorted.

    >>> explicit("ij, jk", [2, 2])
    'ij,jk->ik'
    >>> explicit("...i,i->...", [3, 1])
    'abi,i->ab'

    Raises:
        GraphError: operands and terms do not fit, or there are more axes than letters.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise GraphError(
            f"einsum {equation!r} names {len(terms)} of {len(ranks)} operands"
        )
    hidden = [
        rank - len(term.replace("...", "")) if "..." in term else 0
        for term, rank in zip(terms, ranks, strict=True)
    ]
    free = [c for c in string.ascii_letters if c not in equation]
    longest = max(hidden, default=0)
    if min(hidden, default=0) < 0 or longest > len(free):
        raise GraphError(f"einsum {equation!r} does not fit operands of ranks {ranks}")
    letters = "".join(free[:longest])
    if not arrow:
        named = left.replace("...", "").replace(",", "")
        right = "..." if longest else ""
        right += "".join(c for c in sorted(set(named)) if named.count(c) == 1)
    # Ellipses broadcast from the right, so a shorter one takes the last letters.
    spelled = [
        term.replace("...", letters[longest - count :])
        for term, count in zip(terms, hidden, strict=True)
    ]
    return f"{','.join(spelled)}->{right.replace('...', letters)}"
