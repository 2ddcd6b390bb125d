"""Ports to JAX: modules of Flax linen, with their variables."""

from __future__ import annotations

from ivyport.core.passes.policy import XLA
from ivyport.targets.record import Engine, Target

LINEN = Target(
    name="linen",
    aliases=(),
    title="Flax linen",
    packages=("jax", "flax", "numpy", "safetensors"),
    extra="flax",
    library="flax",
    tags=("jax", "flax"),
    kind="flax.linen",
    policy=XLA,
    form="ivyport.modules.linen:FORM",
    live="ivyport.backends.jax.realize_linen",
    side="ivyport.verification.linen_side:LinenSide",
    model="flax.linen:Module",
    example="import jax.numpy as jnp",
    ones="jnp.ones",
    dtype_keyword=False,
    engines=(
        Engine(
            "linen",
            "port to linen, jax.jit",
            "jax",
            ("jax", "flax", "safetensors"),
            "ivyport.bench.linen_engine:load",
            "linen",
        ),
    ),
    loadable=False,
    checks_ids=False,
    trains=(
        "`model.clone(deterministic=False)` is the model in train mode: its `apply` takes keys "
        "(`rngs={'dropout': key}`) and returns what changed of the collections in `mutable=`."
    ),
    parts=2,
    result="model, variables",
    saves="model.save_pretrained(variables, folder)",
    call="model.apply(variables, {})",
)
