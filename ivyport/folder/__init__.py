"""The folder of a port as files: replaced whole, described by digests, run only when known.

`replace` writes, `manifest` says what a folder consists of, `trust` says whose code it is.
"""

from __future__ import annotations

from ivyport.folder.manifest import read_port
from ivyport.folder.replace import Draft, replacing, settled
from ivyport.folder.steady import steady
from ivyport.folder.trust import demand_trust, remember

__all__ = [
    "Draft",
    "demand_trust",
    "read_port",
    "remember",
    "replacing",
    "settled",
    "steady",
]
