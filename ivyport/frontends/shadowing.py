"""A function of Python's own that modules see in another form for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def shadowed(
    spaces: Iterable[dict[str, Any]], name: str, function: Callable[..., Any]
) -> Iterator[None]:
    """Give modules, by their names, a builtin of their own; those that have one keep it."""
    changed = [space for space in spaces if name not in space]
    try:
        for space in changed:
            space[name] = function
        yield
    finally:
        for space in changed:
            if space.get(name) is function:
                del space[name]
