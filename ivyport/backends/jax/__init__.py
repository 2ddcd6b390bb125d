"""Emission for JAX: one rule an operation, and the helpers that emitted files copy.

`RULES` maps operations to rules, `IMPORTS` the root of a dotted name to the statement
that imports it. Importing this package does not import JAX; importing `_rt` does.
"""

from __future__ import annotations

from ivyport.backends import operators
from ivyport.backends.jax import rules_array, rules_lax, rules_linalg, rules_nn

RULES = {
    **operators.RULES,
    **rules_array.RULES,
    **rules_nn.RULES,
    **rules_lax.RULES,
    **rules_linalg.RULES,
}

IMPORTS = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "np": "import numpy as np",
    "nnx": "from flax import nnx",
}
