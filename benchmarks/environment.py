"""What a result was measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("ivyport", "torch", "transformers", "jax", "jaxlib", "flax", "numpy")


def environment() -> dict[str, Any]:
    """Versions, processor and load; nothing that names the machine or its paths."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(_memory_kb("MemTotal") / 1e6, 1),
        "load_before": os.getloadavg(),
        "versions": {p: importlib.metadata.version(p) for p in PACKAGES},
    }


def processor() -> str:
    """The processor's name, and the widest vectors that it computes with."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.processor() or "unknown")
    flags = fields.get("flags", "").split()
    wide = next((f for f in ("avx512f", "avx2", "avx") if f in flags), "")
    return f"{name} {wide}".strip()


def today() -> str:
    """The date in the names of result files."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _memory_kb(field: str) -> int:
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    print(f"no {field} in /proc/meminfo", file=sys.stderr)
    return 0
