"""JAX: a port to Flax linen under jax.jit."""

from __future__ import annotations

import json
from typing import Any

from ivyport.bench.jax_engine import ForwardSession, set_precision
from ivyport.bench.session import Job, NotApplicableError, Session
from ivyport.bench.torch_engine import import_file


def load(job: Job) -> Session:
    """The session of `linen`; ivyport takes no part in what it computes.

    Raises NotApplicableError for train steps, which are measured of NNX.
    """
    if job.mode != "forward":
        raise NotApplicableError("ports to linen are measured in forward mode alone")
    set_precision(job)
    folder = job.folder / f"port-{job.port}"
    record = json.loads((folder / "port.json").read_text("utf-8"))
    module = import_file(folder / record["file"], "modeling")
    return Forward(job, *vars(module)[record["class"]].from_pretrained(folder))


class Forward(ForwardSession):
    """Forward passes in eval mode, a pure function of the variables."""

    def __init__(self, job: Job, model: Any, variables: Any) -> None:
        import jax

        super().__init__(job)
        self._state = jax.device_put(variables, self.device)

        @jax.jit
        def forward(variables: Any, inputs: dict[str, Any]) -> Any:
            return model.apply(variables, **inputs)

        self._forward = forward
