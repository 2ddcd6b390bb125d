"""What a result was measured on."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ivyport.core.errors import InputError

PACKAGES = (
    "ivyport",
    "torch",
    "triton",
    "transformers",
    "jax",
    "jaxlib",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
    "flax",
    "numpy",
)
#: Variables that change what compilers do; those of them that are switches make programs slow.
COMPILERS = ("XLA_FLAGS", "TORCHINDUCTOR_MAX_AUTOTUNE")
SLOW = (
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
    "JAX_DISABLE_JIT",
    "JAX_DEBUG_NANS",
    "TORCHDYNAMO_DISABLE",
    "TORCH_COMPILE_DISABLE",
)
VARIABLES = (*COMPILERS, *SLOW, "OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_BLOCKTIME")
# name, driver, memory, clocks now and at most, power limit
_GPU_FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.limit",
    "persistence_mode",
)


def describe(*, device: str, threads: int, tf32: bool) -> dict[str, Any]:
    """Versions, hardware, clocks, threads and precision; no name or path of the machine."""
    versions = {p: v for p in PACKAGES if (v := _version(p)) is not None}
    found: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": cores(),
        "memory_gb": round(total_memory() / 1e9, 1),
        "clock_mhz": _clock(),
        "load_before": os.getloadavg(),
        "threads": threads,
        "tf32": tf32,
        "versions": versions,
        "variables": variables(),
    }
    if device == "gpu":
        found["gpus"] = _gpus()
    return found


def variables() -> dict[str, str]:
    """The variables of the environment that change how fast programs are."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # of Linux alone
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, and the widest vectors that it computes with."""
    if sys.platform != "linux":
        return platform.processor() or "unknown"
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.processor() or "unknown")
    flags = fields.get("flags", "").split()
    wide = [f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags]
    return f"{name} {' '.join(wide)}".strip()


def total_memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """The memory in bytes that new processes may take."""
    if importlib.util.find_spec("psutil") is not None:
        import psutil

        return int(psutil.virtual_memory().available)
    if sys.platform == "linux":
        for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return total_memory() // 2


def gpu_memory() -> int | None:
    """The free memory of the first GPU in bytes, None where nvidia-smi tells nothing."""
    rows = _smi("memory.free")
    return int(float(rows[0][0]) * 1024**2) if rows else None


_PROBE = """
import importlib.util, json
found = {}
if importlib.util.find_spec("torch"):
    import torch
    found["torch"] = torch.cuda.is_available()
if importlib.util.find_spec("jax"):
    import jax
    found["jax"] = any(d.platform in ("gpu", "cuda", "rocm") for d in jax.devices())
print(json.dumps(found))
"""


def frameworks_with_gpu() -> set[str]:
    """The frameworks that see a GPU, asked in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE],
        capture_output=True,
        text=True,
        env=dict(os.environ) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return set()
    return {name for name, has in json.loads(lines[-1]).items() if has}


def default_device() -> str:
    """``gpu`` where the driver's own tool lists one, else ``cpu``."""
    return "gpu" if _smi("name") else "cpu"


def check_gpu(wanted: bool) -> set[str]:
    """The frameworks that see a GPU; all of them where none is wanted.

    Raises InputError if one is wanted and no framework sees it.
    """
    if not wanted:
        return {"torch", "jax"}
    seen = frameworks_with_gpu()
    if not seen:
        raise InputError(
            "--device gpu: neither torch nor jax sees a GPU on this machine. Install "
            "their CUDA builds where there is one, or use --device cpu."
        )
    return seen


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _clock() -> float | None:
    if importlib.util.find_spec("psutil") is None:
        return None
    import psutil

    now = psutil.cpu_freq()
    return round(now.current) if now is not None else None


def _gpus() -> list[dict[str, str]]:
    rows = _smi(",".join(_GPU_FIELDS))
    return [dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows]


def _smi(fields: str) -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return []
    return [
        [part.strip() for part in line.split(",")]
        for line in done.stdout.split("\n")
        if line
    ]
