"""Ports to JAX: modules of Flax NNX."""

from __future__ import annotations

from ivyport.core.passes.policy import XLA
from ivyport.targets.record import Engine, Target

_PACKAGES = ("jax", "flax", "safetensors")
_LOADER = "ivyport.bench.jax_engine:load"

NNX = Target(
    name="jax",
    aliases=("nnx",),
    title="Flax NNX",
    packages=("jax", "flax", "numpy", "safetensors"),
    extra="jax",
    library="flax",
    tags=("jax", "flax"),
    kind="flax.nnx",
    policy=XLA,
    form="ivyport.modules.nnx:FORM",
    live="ivyport.backends.jax.realize",
    side="ivyport.verification.nnx_side:NNXSide",
    model="flax.nnx:Module",
    example="import jax.numpy as jnp",
    ones="jnp.ones",
    dtype_keyword=False,
    engines=(
        Engine("jax", "port to JAX, jax.jit", "jax", _PACKAGES, _LOADER, "jax"),
        Engine(
            "jax-scan",
            "port to JAX, scanned layers",
            "jax",
            _PACKAGES,
            _LOADER,
            "jax",
            scans=True,
        ),
    ),
    loadable=False,
    checks_ids=False,
    trains="`model.train()` turns dropout on.",
)
