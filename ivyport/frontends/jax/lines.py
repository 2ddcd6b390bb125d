"""Source lines of equations."""

from __future__ import annotations

from typing import Any

from jax._src import source_info_util

from ivyport.core.checks import Line
from ivyport.core.ir import Source

_FORWARDED = "variablelib.py"  # of flax: the operators of its variables


def source_of(traceback: Any) -> Source | None:
    """The innermost line outside of JAX, and of the variables of NNX, that made an equation."""
    frame = None
    for frame in source_info_util.user_frames(traceback):
        if not frame.file_name.endswith(_FORWARDED):
            break
    return None if frame is None else Source(frame.file_name, frame.start_line)


def line_of(src: Source | None) -> Line | None:
    """A source line with its code."""
    return None if src is None else Line.at(src.file, src.line)
