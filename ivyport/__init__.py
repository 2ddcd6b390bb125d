"""Port pretrained models between frameworks, as readable source code with weights.

    import ivyport

    ported = ivyport.transpile(model, to="jax", kwargs={"input_ids": ids})
    ivyport.save(ported, "out/")  # a folder that works without ivyport
    report = ivyport.verify(model, ported)

Importing ivyport imports no framework: each one is loaded by the first call that
needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ivyport.api import load, port, save, send_home, trace, transpile, verify
    from ivyport.core import errors

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "errors",
    "load",
    "port",
    "save",
    "send_home",
    "trace",
    "transpile",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("ivyport.core.errors")
    if name in __all__:
        return getattr(importlib.import_module("ivyport.api"), name)
    raise AttributeError(f"module 'ivyport' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
