"""Ports to JAX: haiku functions, with their parameters and state."""

from __future__ import annotations

from ivyport.core.passes.policy import XLA
from ivyport.targets.record import Engine, Target

HAIKU = Target(
    name="haiku",
    aliases=(),
    title="Haiku",
    packages=("jax", "dm-haiku", "numpy", "safetensors"),
    extra="haiku",
    library="haiku",
    tags=("jax", "haiku"),
    kind="haiku",
    policy=XLA,
    form="ivyport.modules.haiku:FORM",
    live="ivyport.backends.jax.realize_haiku",
    side="ivyport.verification.haiku_side:HaikuSide",
    model="haiku:TransformedWithState",
    example="import jax.numpy as jnp",
    ones="jnp.ones",
    dtype_keyword=False,
    engines=(
        Engine(
            "haiku",
            "port to haiku, jax.jit",
            "jax",
            ("jax", "haiku", "safetensors"),
            "ivyport.bench.haiku_engine:load",
            "haiku",
        ),
    ),
    loadable=False,
    checks_ids=False,
    trains=(
        "`model.apply(params, state, key, ..., is_training=True)` is train mode, and returns the "
        "new state."
    ),
    parts=3,
    result="model, params, state",
    call="model.apply(params, state, None, {})",
    loader="load",
    saves="save(params, state, folder)",
)
