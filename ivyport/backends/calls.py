"""Functions that emitted files of every target copy: they check how a port is called.

What a language defines itself goes before what is here (`pyast.helper_sources`).
"""

from __future__ import annotations

from typing import Any


def check_sizes(holds: bool, due: str, why: str = "", **sizes: int) -> None:
    """Raise ValueError where sizes do not satisfy what the model was traced under."""
    if not holds:
        raise ValueError(
            f"sizes with {due} are due{f' ({why})' if why else ''}, not "
            + ", ".join(f"{name} = {size}" for name, size in sizes.items())
        )


def as_array(name: str, given: Any) -> Any:
    """`given` as an array: each language has its own in place of this."""
    raise NotImplementedError(f"{name}: a language has no as_array in its _rt.py")


def built_in(name: str, given: Any, traced: Any) -> Any:
    """Refuse another value of an argument than the one that the model was traced with."""
    plain = getattr(given, "value", given)  # of an enumeration
    odd = getattr(plain, "ndim", 0)
    if plain is not traced and (odd or plain != traced):
        raise ValueError(
            f"{name} is {given!r:.60}; {traced!r} alone is built in: port the model again"
        )
    return traced


def matched(name: str, given: Any, traced: Any) -> Any:
    """`given` with arrays, if it is structured as the model was traced with.

    An ellipsis in `traced` stands for an array; the rest are constants that are built in.
    """
    if traced is ...:
        return as_array(name, given)
    if isinstance(traced, dict):
        keys = list(getattr(given, "keys", list)())
        if set(keys) != set(traced):
            raise TypeError(f"{name} has the keys {keys}; due are {list(traced)}")
        return {k: matched(f"{name}[{k!r}]", given[k], v) for k, v in traced.items()}
    if hasattr(traced, "_fields"):
        if not all(hasattr(given, field) for field in traced._fields):
            fields = ", ".join(traced._fields)
            raise TypeError(f"{name} has other fields than {fields}")
        pairs = ((f, getattr(given, f)) for f in traced._fields)
        items = (matched(f"{name}.{f}", v, getattr(traced, f)) for f, v in pairs)
        return type(traced)(*items)
    if isinstance(traced, (tuple, list)):
        size = len(given) if isinstance(given, (tuple, list)) else 1
        if size != len(traced) or not isinstance(given, (tuple, list)):
            raise TypeError(f"{name} has {size} items; {len(traced)} are due")
        numbered = enumerate(zip(given, traced, strict=True))
        return type(traced)(matched(f"{name}[{i}]", *pair) for i, pair in numbered)
    return built_in(name, given, traced)
