"""Flax: the hand-written class of transformers 4, under jax.jit, with torch's weights.

transformers 5 has no Flax classes. The last release that has them, 4.55.4, runs beside
today's jax and flax when its files lie in a folder of their own, which only this engine's
process puts on its path (`engines.hand_written`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ivyport.bench.jax_engine import ForwardSession, set_precision
from ivyport.bench.session import Job, NotApplicableError, Session


def load(job: Job) -> Session:
    """The session of `flax`; raises NotApplicableError for what it has no class of."""
    import transformers

    set_precision(job)
    name = f"Flax{job.cls}"
    if name not in dir(transformers):
        raise NotApplicableError(
            f"transformers {transformers.__version__} has no {name}"
        )
    if job.mode != "forward":
        raise NotApplicableError("hand-written Flax is measured in forward mode alone")
    import jax.numpy as jnp

    # As these classes call it; jax took the names away in 0.6.
    jnp.clip = renamed(jnp.clip, a_min="min", a_max="max")
    try:
        model = getattr(transformers, name).from_pretrained(
            job.folder / "torch", from_pt=True, dtype=jnp.dtype(job.dtype)
        )
    except NotImplementedError as error:
        raise NotApplicableError(f"{name}: {error}") from error
    return Forward(job, model)


def renamed(function: Callable[..., Any], **names: str) -> Callable[..., Any]:
    """A function that takes keywords under older names too."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{names.get(k, k): v for k, v in kwargs.items()})

    return call


class Forward(ForwardSession):
    """Forward passes as a pure function of the parameters."""

    def __init__(self, job: Job, model: Any) -> None:
        import jax
        import jax.numpy as jnp

        super().__init__(job)
        kind = jnp.dtype(job.dtype)

        def cast(leaf: Any) -> Any:
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jnp.asarray(leaf, kind if floating else leaf.dtype)

        self._state = jax.device_put(jax.tree.map(cast, model.params), self.device)

        @jax.jit
        def forward(params: Any, inputs: dict[str, Any]) -> Any:
            return model(**inputs, params=params)

        self._forward = forward

    def fields(self, output: Any) -> dict[str, Any]:
        return dict(output)
