"""Functions that emitted files of every target copy: they check how a port is called."""

from __future__ import annotations


def check_sizes(holds: bool, due: str, why: str = "", **sizes: int) -> None:
    """Raise ValueError where sizes do not satisfy what the model was traced under."""
    if not holds:
        raise ValueError(
            f"sizes with {due} are due{f' ({why})' if why else ''}, not "
            + ", ".join(f"{name} = {size}" for name, size in sizes.items())
        )
