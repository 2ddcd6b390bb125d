"""``@lowers(aten.op)``: how one torch operation becomes nodes of the graph.

Arguments are bound from the operator's own schema before the rule is called; what a rule does not
name is an error unless it has the schema's default. Tensors arrive as `Value`, symbolic sizes as
`Dim`, dtypes as names; devices, layouts and memory formats are dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ivyport.core.errors import GraphError

RULES: dict[Any, Callable[..., Any]] = {}
RENAMED: dict[
    Any, str
] = {}  # operators that are one elementwise op of the same operands


def lowers(*targets: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a rule for operators (``aten.layer_norm.default``) or builtin functions."""

    def register(rule: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            if target in RULES:
                raise GraphError(f"two rules lower {target}")
            RULES[target] = rule
        return rule

    return register


def bind(
    target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], called: Any = None
) -> dict[str, Any]:
    """Arguments by schema name, with defaults; placement arguments are dropped.

    `called` is what the program calls where that is an in-place form of `target`: its defaults
    are left out of a call, and `target` may have none (``bernoulli_``).
    """
    schema = target._schema
    own = {
        a.name: a.default_value
        for a in (called or target)._schema.arguments
        if a.has_default_value()
    }
    bound: dict[str, Any] = {}
    for position, argument in enumerate(schema.arguments):
        if argument.name in kwargs:
            value = kwargs[argument.name]
        elif position < len(args) and not argument.kwarg_only:
            value = args[position]
        elif argument.name in own:
            value = own[argument.name]
        elif argument.has_default_value():
            value = argument.default_value
        else:
            raise GraphError(f"{target}: argument {argument.name!r} is missing")
        bound[argument.name] = value
    return bound


PLACEMENT = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "copy")


def apply(
    rule: Callable[..., Any], builder: Any, target: Any, bound: dict[str, Any]
) -> Any:
    """Call `rule` with the bound arguments that it names; all, where it takes ``**_``.

    Raises:
        GraphError: an argument that the rule does not take differs from its default.
    """
    parameters = inspect.signature(rule).parameters
    defaults = {
        a.name: a.default_value
        for a in target._schema.arguments
        if a.has_default_value()
    }
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    passed: dict[str, Any] = {}
    for key, value in bound.items():
        # A schema may call an argument what is a word of Python.
        parameter = {"self": "input", "from": "low"}.get(key, key)
        if everything or parameter in parameters:
            passed[parameter] = value
        elif key not in PLACEMENT and (key not in defaults or value != defaults[key]):
            raise GraphError(f"{target}: argument {key}={value!r} is not supported")
    return rule(builder, **passed)
