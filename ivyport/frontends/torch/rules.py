"""Every rule of the torch frontend: importing this fills the tables of `registry`.

`RULES` and `RENAMED` are keyed by operator; `INPLACE` maps in-place operators to
functional ones; `NAMED` holds operators of other libraries by qualified name
(``library::operator``).
"""

from __future__ import annotations

from ivyport.frontends.torch import (
    rules_array,
    rules_create,
    rules_index,
    rules_nn,
    rules_reduce,
    rules_shape,
    rules_spatial,
)
from ivyport.frontends.torch.registry import RENAMED, RULES, apply, bind
from ivyport.frontends.torch.rules_inplace import INPLACE
from ivyport.frontends.torch.rules_nn import NAMED

__all__ = [
    "INPLACE",
    "NAMED",
    "RENAMED",
    "RULES",
    "apply",
    "bind",
    "rules_array",
    "rules_create",
    "rules_index",
    "rules_nn",
    "rules_reduce",
    "rules_shape",
    "rules_spatial",
]
