"""Names and values of files as a message shows them: printable, on one line, of bounded length.

Names in a checkpoint can hold anything, and be of any length and number.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

LONGEST = 160
MOST = 10
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~<>&:])")


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


def markdown(text: str) -> str:
    """Text in a line of Markdown that reads as it is: no HTML, no links, no emphasis, no emoji."""
    flat = printable(text.replace("\n", " "))
    return (
        _SPECIAL.sub(r"\\\1", flat)
        .replace("\\<", "&lt;")
        .replace("\\>", "&gt;")
        .replace("\\&", "&amp;")
    )


def code_span(text: str) -> str:
    """A name as code in Markdown, in a cell of a table too."""
    flat = printable(text.replace("\n", " "))
    if "`" not in flat and "|" not in flat:
        return f"`{flat}`"
    return (
        f"<code>{html.escape(flat).replace('|', '&#124;').replace('`', '&#96;')}</code>"
    )
