"""How much memory reading a file may take, by the file's own size.

A small file that would fill the memory is an attack, or not what it is taken for.
"""

from __future__ import annotations

import os
from pathlib import Path

from ivyport.core.errors import WeightsError

#: The variable that multiplies every budget.
VARIABLE = "IVYPORT_BUDGET"
FACTOR = 16
FLOOR = 64 * 2**20


class Budget:
    """Bytes that may be made of a file of `size` bytes; `charge` counts them."""

    def __init__(self, path: Path, size: int, factor: int = FACTOR) -> None:
        self.path = path
        self.limit = int((size * factor + FLOOR) * scale())
        self._size, self._used = size, 0

    def charge(self, amount: int) -> None:
        """Count bytes that are to be made.

        Raises:
            WeightsError: there are too many.
        """
        self._used += amount
        if self._used > self.limit:
            raise WeightsError(
                f"{self.path} is refused: its {self._size} bytes would make over "
                f"{self.limit} in memory. Where you trust the file, set {VARIABLE}=10 to "
                "allow ten times as much."
            )


def scale() -> float:
    """What the user multiplies budgets by, 1 where nothing is set.

    Raises:
        WeightsError: the variable is no number above 0.
    """
    text = os.environ.get(VARIABLE, "1")
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise WeightsError(f"{VARIABLE}={text!r}: a number above 0 is due, such as 10")
    return value
