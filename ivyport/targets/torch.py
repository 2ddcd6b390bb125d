"""Ports to PyTorch: `torch.nn.Module`."""

from __future__ import annotations

from ivyport.core.passes.policy import TORCH as POLICY
from ivyport.targets.record import Engine, Target

TORCH = Target(
    name="torch",
    aliases=("pytorch",),
    title="PyTorch",
    packages=("torch", "numpy", "safetensors"),
    extra="torch",
    library="pytorch",
    tags=("pytorch",),
    kind="torch",
    policy=POLICY,
    form="ivyport.modules.torch:FORM",
    live="ivyport.backends.torch.realize",
    side="ivyport.verification.torch_port:TorchPort",
    model="torch.nn:Module",
    example="import torch",
    ones="torch.ones",
    dtype_keyword=True,
    engines=(
        Engine(
            "torch",
            "port to torch, eager",
            "torch",
            ("torch", "safetensors"),
            "ivyport.bench.torch_engine:load",
            "torch",
            compiles=False,
        ),
    ),
    loadable=True,
    checks_ids=True,
    trains="`model.train()` turns dropout on.",
)
