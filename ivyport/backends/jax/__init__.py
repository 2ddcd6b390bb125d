"""Emission for JAX: one rule an operation, and the helpers that emitted files copy.

Importing this package does not import JAX; importing `_rt` does.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType

from ivyport.backends import functions, operators
from ivyport.backends.absent import absent
from ivyport.backends.jax import rules_array, rules_lax, rules_linalg, rules_nn
from ivyport.backends.language import Language

RULES = {
    **operators.RULES,
    **functions.RULES,
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


def _runtime() -> ModuleType:
    from ivyport.backends.jax import _rt

    return _rt


LANGUAGE = Language(
    rules=RULES,
    imports=IMPORTS,
    dtypes="jnp",
    array="jax.Array",
    runtime=_runtime,
    absent=partial(absent, integers="int32"),
    # JAX takes a Python number for an int32; only hashes of uint32 have larger ones.
    large="jnp.uint32",
    layers="nnx",
)
