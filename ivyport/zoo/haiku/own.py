"""A haiku function of the user's own code, found by its name."""

from __future__ import annotations

import inspect
from typing import Any

import haiku as hk

from ivyport.core.errors import SourceError
from ivyport.zoo.factory import find_factory, theirs

_KINDS = (hk.Transformed, hk.TransformedWithState)


def build(spec: str) -> hk.TransformedWithState:
    """What `pkg.module:name` names, as haiku transforms it.

    It is what `haiku.transform` or `transform_with_state` returned, a function without arguments
    that returns that, or a function that calls haiku modules and is still to be transformed.

    Raises:
        SourceError: there is no such thing, or it is none of these.
        FactoryError: it raises.
    """
    found: Any = find_factory(spec)
    if (
        callable(found)
        and not isinstance(found, _KINDS)
        and not _needs_arguments(found)
    ):
        with theirs(spec):
            found = found()
    if isinstance(found, hk.TransformedWithState):
        return found
    if isinstance(found, hk.Transformed):
        return hk.with_empty_state(found)
    if callable(found) and not isinstance(found, type):
        return hk.transform_with_state(found)
    raise SourceError(
        f"{spec} gives {type(found).__name__}: expected what haiku.transform returns, a function "
        "without arguments that returns that, or a function of arrays that calls haiku modules."
    )


def _needs_arguments(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in variadic for p in parameters)


__all__ = ["build"]
