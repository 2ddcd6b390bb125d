"""NumPy: a port that calls its BLAS library and nothing else."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np

from ivyport.bench.prepare import Arrays
from ivyport.bench.session import Job, NotApplicableError, Session
from ivyport.bench.torch_engine import from_port


def load(job: Job) -> Session:
    """The session of `numpy`, a port.

    Raises NotApplicableError for train steps, for GPUs, and for other dtypes than float32.
    """
    if job.mode != "forward":
        raise NotApplicableError("ports to NumPy do not train")
    if job.device != "cpu" or job.dtype != "float32":
        raise NotApplicableError(
            "ports to NumPy are measured in float32 on a CPU alone"
        )
    return NumPySession(job, from_port(job.folder / f"port-{job.port}"))


class NumPySession(Session):
    """Forward passes in eval mode."""

    def __init__(self, job: Job, model: Any) -> None:
        self._model = model
        self._inputs = job.variants()

    def call(self, variant: int) -> Any:
        return self._model(**self._inputs[variant])

    def read(self, output: Any) -> Arrays:
        fields = output if isinstance(output, dict) else output._asdict()
        return {
            name: np.asarray(value, np.float32)
            for name, value in fields.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }

    def outputs(self, variant: int) -> Arrays:
        raise NotApplicableError("ports to NumPy do not train")

    def set_rate(self, rate: float) -> None:
        raise NotApplicableError("ports to NumPy do not train")

    def peak_bytes(self) -> int | None:
        return None

    def check_compiled(self) -> None:
        """Nothing is compiled."""

    def about(self) -> dict[str, Any]:
        return {"device": "cpu", "numpy": importlib.metadata.version("numpy")}
