"""All rules, by primitive (`RULES`) and by name of a jitted function (`NAMED`)."""

from __future__ import annotations

from ivyport.frontends.jax import (
    rules_array,
    rules_control,
    rules_conv,
    rules_dot,
    rules_elementwise,
    rules_gather,
    rules_linalg,
    rules_named,
    rules_random,
    rules_reduce,
    rules_scatter,
    rules_slice,
    rules_window,
)
from ivyport.frontends.jax.registry import NAMED, RULES
from ivyport.frontends.jax.rules_random import DRAWN, DRAWS, PLUMBING

# The rules register on import.
MODULES = (
    rules_array,
    rules_control,
    rules_conv,
    rules_dot,
    rules_elementwise,
    rules_gather,
    rules_named,
    rules_linalg,
    rules_random,
    rules_reduce,
    rules_scatter,
    rules_slice,
    rules_window,
)

__all__ = ["DRAWN", "DRAWS", "MODULES", "NAMED", "PLUMBING", "RULES"]
