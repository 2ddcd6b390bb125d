"""JAX: a port to Flax linen under jax.jit."""

from __future__ import annotations

from typing import Any

from ivyport.bench.jax_engine import ForwardSession, port_of
from ivyport.bench.session import Job, NotApplicableError, Session


def load(job: Job) -> Session:
    """The session of `linen`; ivyport takes no part in what it computes.

    Raises NotApplicableError for train steps, which are measured of NNX.
    """
    if job.mode != "forward":
        raise NotApplicableError("ports to linen are measured in forward mode alone")
    names, cls, folder = port_of(job)
    return Forward(job, *names[cls].from_pretrained(folder))


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
