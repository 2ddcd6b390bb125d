"""Every rule of the torch frontend: importing this fills the tables of `registry`.

`RULES` and `RENAMED` are keyed by operator; `INPLACE` maps in-place operators to
functional ones; `NAMED` holds operators of other libraries by qualified name
(``library::operator``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ivyport.frontends.torch import (
    rules_array,
    rules_assembled,
    rules_clamp,
    rules_create,
    rules_geometry,
    rules_index,
    rules_linalg,
    rules_nn,
    rules_order,
    rules_random,
    rules_recurrent,
    rules_reduce,
    rules_shape,
    rules_spatial,
)
from ivyport.frontends.torch.registry import RENAMED, RULES, apply, bind
from ivyport.frontends.torch.rules_inplace import INPLACE
from ivyport.frontends.torch.rules_nn import NAMED


def functional(target: Any) -> Any:
    """The operator without a write that an in-place one is, or one that writes to ``out``.

    None for operators that write to nothing.
    """
    found = INPLACE.get(target) or rules_random.INPLACE.get(target)
    if found is not None or not isinstance(target, torch._ops.OpOverload):
        return found
    arguments = target._schema.arguments
    if sum(a.is_out for a in arguments) != 1:
        return None
    plain = _signature(a for a in arguments if not a.is_out)
    packet = target.overloadpacket
    overloads = (getattr(packet, name) for name in packet.overloads())
    return next(
        (o for o in overloads if _signature(o._schema.arguments) == plain), None
    )


def _signature(arguments: Iterable[Any]) -> list[tuple[str, str]]:
    return [(a.name, str(a.type)) for a in arguments]


__all__ = [
    "INPLACE",
    "NAMED",
    "RENAMED",
    "RULES",
    "apply",
    "bind",
    "functional",
    "rules_array",
    "rules_assembled",
    "rules_clamp",
    "rules_create",
    "rules_geometry",
    "rules_index",
    "rules_linalg",
    "rules_nn",
    "rules_order",
    "rules_random",
    "rules_recurrent",
    "rules_reduce",
    "rules_shape",
    "rules_spatial",
]
