"""Names and values of files as a message shows them: printable, on one line, of bounded length.

Names in a checkpoint can hold anything, and be of any length and number.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 160
MOST = 10


def shown(value: object, longest: int = LONGEST) -> str:
    """A value as Python writes it, without what is not printable, cut to `longest`.

    >>> shown("a\\x1b[31m" + "b" * 9, 14)
    "'a\\\\x1b[31mb..."
    """
    text = repr(value[:longest]) if isinstance(value, str) else repr(value)
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def listed(names: Iterable[str], most: int = MOST) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more


def printable(text: str) -> str:
    """Text in which everything is escaped that a terminal would obey, but for ends of lines."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
