"""Which side runs a source or a port, by its type.

No framework is imported here that the user has not imported: an object of a framework
cannot exist before that.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ivyport.core.arguments import Described
from ivyport.core.errors import InputError
from ivyport.targets import TARGETS, target_of
from ivyport.verification.sides import PortSide, SourceSide


def source_side(
    source: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    params: Any,
    state: Any,
    rng: Any,
) -> SourceSide:
    """The side of a source: a torch module, or whatever JAX can call.

    Raises:
        InputError: parameters are given for a torch module, which has its own.
    """
    if _is_torch(source):
        given = {"params": params, "state": state, "rng": rng}
        extra = [f"{name}=" for name, value in given.items() if value is not None]
        if extra:
            raise InputError(
                f"{', '.join(extra)} given for a {type(source).__name__}: a torch module "
                "holds its own weights, leave them out"
            )
        from ivyport.frontends.torch.kinds import unwrapped
        from ivyport.verification.torch_side import TorchSide

        return TorchSide(unwrapped(source), kwargs, args)
    from ivyport.verification.jax_side import JaxSide

    return JaxSide.open(source, args, kwargs, params=params, state=state, rng=rng)


def port_side(ported: Any, arguments: Described | None = None) -> PortSide:
    """The side of a port, which takes its inputs as `arguments` say.

    Raises:
        InputError: `ported` is no module of a framework that is ported to.
    """
    target = target_of(ported)
    if target is not None:
        side: PortSide = target.open_side()(ported, arguments)
        return side
    kinds = " or a ".join(
        t.model.replace(":", ".").lstrip(".") for t in TARGETS.values()
    )
    raise InputError(f"a port is a {kinds}, not {type(ported).__name__}")


def _is_torch(value: Any) -> bool:
    if sys.modules.get("torch") is None:
        return False
    import torch

    return isinstance(value, torch.nn.Module)
