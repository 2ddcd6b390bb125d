"""Callable pytrees (equinox modules): which parts of a source are modules, and their calls.

Such an object holds its arrays itself, and the frontend makes a new one from traced arrays for
each call; a module is then known by the object's place in the tree.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from ivyport.frontends.jax.scopes import (
    Path,
    ScopeTable,
    bind_names,
    plain_scalars,
)
from ivyport.frontends.jax.structure import is_array
from ivyport.frontends.nested import qualified_name


def is_module(value: Any) -> bool:
    """Whether an object is called and is a pytree of its own class that holds arrays."""
    if isinstance(value, type | functools.partial) or not callable(value):
        return False
    leaves = jax.tree.leaves(value)
    return not any(x is value for x in leaves) and any(map(is_array, leaves))


def modules(tree: Any) -> dict[Path, Any]:
    """Every module in a pytree by its path, each before its parts."""
    found: dict[Path, Any] = {}

    def visit(path: Path, item: Any) -> None:
        if is_module(item):
            found[path] = item
        pairs, _ = jax.tree_util.tree_flatten_with_path(
            item, is_leaf=lambda x: x is not item
        )
        for keys, part in pairs:
            if keys:
                name = jax.tree_util.keystr(keys, simple=True)
                visit((*path, name), part)

    visit((), tree)
    return found


@contextlib.contextmanager
def marked(
    tree: Any, table: ScopeTable, path_of: Callable[[Any], Path | None]
) -> Iterator[None]:
    """Record the calls of the modules in `tree`; `path_of` knows those that are called."""
    held = modules(tree)
    for path, module in held.items():
        own = plain_scalars(_attributes(module))
        table.knows(path, qualified_name(type(module)), own)
    owners = {
        base: vars(base)["__call__"]
        for cls in {type(m) for m in held.values()}
        for base in cls.__mro__
        if "__call__" in vars(base)
    }
    with contextlib.ExitStack() as stack:
        for owner, method in owners.items():
            type.__setattr__(owner, "__call__", _wrapped(method, table, path_of))
            stack.callback(type.__setattr__, owner, "__call__", method)
        yield


def _attributes(module: Any) -> Mapping[str, Any]:
    return vars(module) if hasattr(module, "__dict__") else {}


def _wrapped(
    method: Any, table: ScopeTable, path_of: Callable[[Any], Path | None]
) -> Callable[..., Any]:
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = method.__get__(self, type(self))
        path = path_of(self)
        # The root's call is the whole graph; a module's calls of itself are its own body.
        if not path or table.running(self):
            return bound(*args, **kwargs)
        named = bind_names(bound, args, kwargs)
        inner = functools.partial(bound, *args, **kwargs)
        return table.run(self, path, qualified_name(type(self)), named, inner)

    return called
