"""Stack frames of an exported node: `torch.export` keeps one of each module's forward."""

from __future__ import annotations

import functools
import re

from ivyport.core.naming import Frame, frame_at

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>\S+)')


@functools.lru_cache(maxsize=65536)
def frames(trace: str) -> tuple[Frame, ...]:
    """The frames of a ``stack_trace``, outermost first."""
    return tuple(frame_at(m["file"], int(m["line"])) for m in _FRAME.finditer(trace))
