"""Source lines of equations."""

from __future__ import annotations

from typing import Any

from jax._src import source_info_util

from ivyport.core.checks import Line
from ivyport.core.ir import Source


def source_of(traceback: Any) -> Source | None:
    """The innermost line outside of JAX that made an equation."""
    frame = source_info_util.user_frame(traceback)
    return None if frame is None else Source(frame.file_name, frame.start_line)


def line_of(src: Source | None) -> Line | None:
    """A source line with its code."""
    return None if src is None else Line.at(src.file, src.line)
