"""The form of `dims`, as a caller writes it."""

from __future__ import annotations

from collections.abc import Mapping

from ivyport.core.errors import InputError


def demand_form(dims: object) -> None:
    """Demand ``{input: {axis: name or None}}``.

    Raises:
        InputError: it is something else; says what, and the form.
    """
    if not isinstance(dims, Mapping):
        raise _other("dims", dims)
    for leaf, axes in dims.items():
        if not isinstance(axes, Mapping):
            raise _other(f"dims[{leaf!r}]", axes)
        for axis, name in axes.items():
            if not isinstance(axis, int):
                raise _other(f"an axis of dims[{leaf!r}]", axis)
            if name is not None and not isinstance(name, str):
                raise _other(f"dims[{leaf!r}][{axis}]", name)


def _other(what: str, found: object) -> InputError:
    return InputError(
        f"{what} is {found!r}: dims is written {{input: {{axis: name or None}}}}, such as "
        "{'x': {0: 'batch', 1: None}}; an axis with a name is free, one with None is constant"
    )
