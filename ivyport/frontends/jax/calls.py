"""Equations that only call a jaxpr: jit, remat, custom derivatives, composites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from ivyport.core.errors import GraphError

# Primitive and the parameter that holds its jaxpr.
BODIES = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "composite": "jaxpr",
}
CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


def body(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The jaxpr that an equation calls, None if it is no call."""
    key = BODIES.get(eqn.primitive.name)
    if key is None:
        return None
    held: Any = eqn.params[key]
    if isinstance(held, ClosedJaxpr):
        return held
    if isinstance(held, Jaxpr):
        return ClosedJaxpr(held, ())
    raise GraphError(f"{eqn.primitive.name} holds {type(held).__name__}, no jaxpr")


def name(eqn: JaxprEqn) -> str:
    """The name of the called function, empty if it has none."""
    given = eqn.params.get("name")
    if given:
        return str(given)
    held = body(eqn)
    info = held.jaxpr.debug_info if held is not None else None
    return str(info.func_name) if info is not None else ""


_JAX = str(Path(jax.__file__).parent)


def known(eqn: JaxprEqn) -> str:
    """The name of the called function if JAX itself defines it, else empty.

    A function of the user's that is called `silu` is no `jax.nn.silu`.
    """
    held = body(eqn)
    info = held.jaxpr.debug_info if held is not None else None
    file = None if info is None else info.func_filename
    return name(eqn) if file is not None and file.startswith(_JAX) else ""


def as_written(held: ClosedJaxpr) -> bool:
    """Whether a body is the function's own, of its own arguments.

    What `jax.grad` and `jax.jvp` make of a function (with residuals, or of its tangents) has the
    function's name, but no names of arguments.
    """
    info = held.jaxpr.debug_info
    return info is not None and info.arg_names is not None


def custom_gradient(eqn: JaxprEqn) -> str | None:
    """The function's name, if the source gives it a gradient of its own.

    What JAX's own functions define is the derivative of what they compute, up to the rounding and
    to points where there is none (relu at 0).
    """
    if eqn.primitive.name not in CUSTOM or known(eqn):
        return None
    return name(eqn) or "a function"


def bound(eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """The results of an equation's primitive on other operands."""
    # Until JAX 0.10 these were the functions and the parameters, apart.
    found: Any = eqn.primitive.get_bind_params(eqn.params)
    functions, params = found if isinstance(found, tuple) else ((), found)
    return eqn.primitive.bind(*functions, *values, **params)
