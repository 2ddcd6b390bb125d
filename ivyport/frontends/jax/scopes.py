"""Module boundaries in a jaxpr: marks on the equations, and the table that reads them.

Every module call of a source runs inside ``jax.named_scope("ivyport<ID>")``, and the primitive
`ivyport_call`, which has no results, notes the values that the call received. Both survive in
nested jaxprs, under `vmap`, `grad` and `remat`, and neither changes a value.

Sources: https://docs.jax.dev/en/latest/_autosummary/jax.named_scope.html,
https://docs.jax.dev/en/latest/jax-primitives.html.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from ivyport.core.ir import Scope
from ivyport.frontends.jax.structure import named_arrays

Path = tuple[str, ...]
PlainScalar = bool | int | float | str

_MARK = re.compile(r"ivyport(\d+)")
# Ids are unique in the process: jax caches jaxprs of inner functions with the marks in them,
# and a mark of an earlier capture must not be taken for one of this.
_IDS = itertools.count(1)

# `ivyport_call(*arrays, call_id, names)`: no results; `names` are those of the arguments.
CALL = Primitive("ivyport_call")
CALL.multiple_results = True
CALL.def_abstract_eval(lambda *_, **__: [])
CALL.def_impl(lambda *_, **__: [])


def _batch_call(
    args: Sequence[Any], axes: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    """Under vmap the arguments have an axis that the source's names do not speak of: no mark."""
    del args, axes, params
    return [], []


def _jvp_call(
    primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    del tangents
    CALL.bind(*primals, **params)
    return [], []


batching.primitive_batchers[CALL] = _batch_call
ad.primitive_jvps[CALL] = _jvp_call


@dataclasses.dataclass(frozen=True)
class Entered:
    """One call of one module: the module's path in the source, its class, which call of it."""

    path: Path
    cls: str
    call: int
    parent: int | None


class ScopeTable:
    """Calls by id, and what is known of the modules that were called.

    `modules` maps the path of every module to its class in the order of creation, `attrs` to its
    public plain scalars. `places` maps paths to the dotted paths of the graph; a frontend
    sets it when all modules are known (by default the components are joined).
    """

    def __init__(self, root: Scope | None = None) -> None:
        self.root = root or Scope("", "Model")
        self.entered: dict[int, Entered] = {}
        self.modules: dict[Path, str] = {}
        self.attrs: dict[Path, dict[str, PlainScalar]] = {}
        self.places: Mapping[Path, str] = {}
        self.failed: str | None = None  # the innermost module that raised
        self._counts: dict[Path, int] = {}
        self._open: list[tuple[int, Any]] = []

    # ---- recording, while the source runs

    def knows(self, path: Path, cls: str, attrs: Mapping[str, PlainScalar]) -> None:
        """Note a module, called or not."""
        self.modules.setdefault(path, cls)
        self.attrs.setdefault(path, dict(attrs))

    def running(self, module: Any) -> bool:
        """Whether `module` is the innermost one whose method runs: it calls itself."""
        return bool(self._open) and self._open[-1][1] is module

    def run(
        self,
        module: Any,
        path: Path,
        cls: str,
        named: Mapping[str, Any],
        method: Callable[[], Any],
    ) -> Any:
        """The result of `method`, traced as one call of `module`; `named` are its arguments.

        The frame of this function is what `assigned` knows a module's frames by.
        """
        number = next(_IDS)
        count = self._counts.get(path, 0)
        self._counts[path] = count + 1
        parent = self._open[-1][0] if self._open else None
        self.entered[number] = Entered(path, cls, count, parent)
        self._open.append((number, module))
        try:
            with jax.named_scope(f"ivyport{number}"):
                _mark(number, named)
                return method()
        except BaseException:
            if self.failed is None:
                self.failed = ".".join(path)
            raise
        finally:
            self._open.pop()

    # ---- reading, while the jaxpr is lowered

    def scope(self, call_id: int) -> Scope:
        """The scope of one call alone."""
        entry = self.entered[call_id]
        place = self.places.get(entry.path, ".".join(entry.path))
        return Scope(place, entry.cls, entry.call)

    def stack(self, call_id: int) -> tuple[Scope, ...]:
        """The scopes of a call, the root first, this call last."""
        entry = self.entered[call_id]
        outer = (self.root,) if entry.parent is None else self.stack(entry.parent)
        return (*outer, self.scope(call_id))

    def ids(self, name_stack: str) -> list[int]:
        """Calls of this capture that a name stack names, the outermost first."""
        found = (int(text) for text in _MARK.findall(name_stack))
        return [number for number in found if number in self.entered]

    def stack_of(
        self, name_stack: str, outer: tuple[Scope, ...] = ()
    ) -> tuple[Scope, ...]:
        """Scopes of an equation with that name stack.

        `outer` is the stack of the equation that holds its jaxpr: name stacks start anew in
        nested jaxprs.
        """
        stack = outer or (self.root,)
        for number in self.ids(name_stack):
            scope = self.scope(number)
            if scope not in stack:
                stack = (*stack, scope)
        return stack


def _mark(number: int, args: Mapping[str, Any]) -> None:
    pairs = [pair for name, arg in args.items() for pair in named_arrays(name, arg)]
    traced = [(name, x) for name, x in pairs if isinstance(x, jax.core.Tracer)]
    if traced:
        names = tuple(name for name, _ in traced)
        CALL.bind(*(x for _, x in traced), call_id=number, names=names)


def bind_names(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of a call by the names of the function's parameters, defaults left out.

    ``*args`` become ``args_0``, ...; ``**kwargs`` keep their own names.
    """
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):
        # A decorator that rewrites arguments hides the names: number them instead.
        return {f"args_{i}": v for i, v in enumerate(args)} | dict(kwargs)
    pairs: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            pairs |= {f"{name}_{i}": item for i, item in enumerate(value)}
        elif kind is inspect.Parameter.VAR_KEYWORD:
            pairs |= value
        else:
            pairs[name] = value
    return pairs


def plain_scalars(
    attributes: Mapping[str, Any], hidden: tuple[str, ...] = ()
) -> dict[str, PlainScalar]:
    """Public attributes that are plain numbers, strings or booleans."""
    return {
        name: value
        for name, value in attributes.items()
        if type(value) in (int, float, str, bool)
        and not name.startswith("_")
        and name not in hidden
    }


__all__ = ["CALL", "Entered", "ScopeTable", "bind_names", "plain_scalars"]
