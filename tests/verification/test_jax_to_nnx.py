"""JAX sources against NNX modules, where torch is not needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers"):
    sys.modules[name] = None
import haiku as hk
import jax
import numpy as np
from flax import nnx
from ivyport import verification
from ivyport.weights.mapping import Row, WeightMap

def model(x):
    return {"y": hk.Linear(3, name="down")(jax.nn.relu(hk.Linear(8, name="up")(x)))}

class Port(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(5, 8, rngs=rngs)
        self.down = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return {"y": self.down(jax.nn.relu(self.up(x)))}

source = hk.transform(model)
x = np.random.default_rng(0).standard_normal((4, 5))
params = source.init(jax.random.key(0), x)
port, rows = Port(nnx.Rngs(0)), []
for name in ("up", "down"):
    getattr(port, name).kernel[...] = params[name]["w"]
    getattr(port, name).bias[...] = params[name]["b"]
    rows += [Row(f"{name}:w", f"{name}.kernel"), Row(f"{name}:b", f"{name}.bias")]
rows, modules = WeightMap(tuple(rows)), {"": "", "up": "up", "down": "down"}
options = {"params": params, "free": {"x": {0: "batch"}}}
report = verification.run(source, port, rows, modules, {"x": x}, **options)
assert report.passed, report
kinds = {(row.kind, row.inputs) for row in report.rows}
assert len(kinds) == 4, kinds
port.down.bias[...] += 1
report = verification.run(source, port, rows, modules, {"x": x}, **options)
assert not report.passed
assert report.first_drift.startswith("down (Linear): "), report.first_drift
"""

NO_FRAMEWORK = """
import sys
import ivyport.verification.run
loaded = {"torch", "jax", "flax", "haiku"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("code", [WITHOUT_TORCH, NO_FRAMEWORK])
def test_frameworks_that_are_not_involved_are_not_imported(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
