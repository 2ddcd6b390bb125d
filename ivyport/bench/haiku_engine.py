"""JAX: a port to haiku under jax.jit."""

from __future__ import annotations

from typing import Any

from ivyport.bench.jax_engine import ForwardSession, port_of
from ivyport.bench.session import Job, NotApplicableError, Session


def load(job: Job) -> Session:
    """The session of `haiku`; ivyport takes no part in what it computes.

    Raises NotApplicableError for train steps, which are measured of NNX.
    """
    if job.mode != "forward":
        raise NotApplicableError("ports to haiku are measured in forward mode alone")
    names, _, folder = port_of(job)
    return Forward(job, *names["load"](folder))


class Forward(ForwardSession):
    """Forward passes in eval mode, a pure function of parameters and state."""

    def __init__(self, job: Job, model: Any, params: Any, state: Any) -> None:
        import jax

        super().__init__(job)
        self._state = jax.device_put((params, state), self.device)

        @jax.jit
        def forward(trees: Any, inputs: dict[str, Any]) -> Any:
            return model.apply(*trees, None, **inputs)[0]

        self._forward = forward
