"""Ports to NumPy: plain classes, which compute and do not train."""

from __future__ import annotations

from ivyport.core.passes.policy import NUMPY as POLICY
from ivyport.targets.record import Engine, Target

NUMPY = Target(
    name="numpy",
    aliases=("np",),
    title="NumPy",
    packages=("numpy", "safetensors"),
    extra="numpy",
    library="numpy",
    tags=("numpy",),
    kind="numpy",
    policy=POLICY,
    form="ivyport.modules.numpy:FORM",
    live="ivyport.backends.numpy.realize",
    side="ivyport.verification.numpy_side:NumPySide",
    model=":Module",
    example="import numpy as np",
    ones="np.ones",
    dtype_keyword=False,
    engines=(
        Engine(
            "numpy",
            "port to NumPy",
            "numpy",
            ("numpy", "safetensors"),
            "ivyport.bench.numpy_engine:load",
            "numpy",
            compiles=False,
        ),
    ),
    loadable=False,
    checks_ids=True,
    trains="It computes what eval mode does: it has no gradients, and no train mode.",
)
