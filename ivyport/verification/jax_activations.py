"""What the modules of a JAX source return, for the localisation of drift.

The source is traced with the marks of `ivyport.frontends.jax.scopes`, and the jaxpr is
run equation by equation. Of the values that are made inside of a module's call, those
that are used after it are its results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from ivyport.frontends.jax import calls
from ivyport.frontends.jax.places import Places
from ivyport.frontends.jax.scopes import CALL, ScopeTable
from ivyport.frontends.jax.sources import Source
from ivyport.verification.compare import flatten
from ivyport.verification.sides import Activation


def activations(
    source: Source,
    parameters: Mapping[str, Any],
    buffers: Mapping[str, Any],
    inputs: Mapping[str, Any],
) -> tuple[list[Activation], list[str]]:
    """The main result of every module call in eval mode, in the order they end.

    Calls inside of a scan or another loop are not seen, the module that loops is: their
    modules are the second result.
    """
    table = ScopeTable()

    def run(*arrays: Mapping[str, Any]) -> Any:
        flat = flatten(source.apply(*arrays)[0])
        return list(flat.arrays().values())

    with source.marks(table):
        closed = jax.make_jaxpr(run)(parameters, buffers, inputs)
    table.places = Places(table.modules, source.leaves.values()).modules
    arguments = jax.tree.leaves((parameters, buffers, inputs))
    tracked = _Run(table)
    results = tracked.jaxpr(closed, arguments, ())
    found = tracked.found
    if results:
        name = source.cls.rpartition(".")[2]
        found.append(Activation("", name, 0, np.asarray(results[0])))
    unseen = [n for n in table.entered if n not in tracked.seen]
    return found, sorted({table.scope(number).path for number in unseen})


@dataclasses.dataclass
class _Open:
    """A call that runs: the last value of it that is used after it."""

    ends: int
    result: Any = None


class _Run:
    """Runs a marked jaxpr; equations that are calls with marks inside are inlined."""

    def __init__(self, table: ScopeTable) -> None:
        self.found: list[Activation] = []
        self.seen: set[int] = set()
        self._table = table

    def jaxpr(
        self, closed: ClosedJaxpr, arguments: list[Any], outer: tuple[int, ...]
    ) -> list[Any]:
        """The outputs; `outer` are the calls around the equation that holds it."""
        jaxpr = closed.jaxpr
        env: dict[Var, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
        env.update(zip(jaxpr.invars, arguments, strict=True))
        used = _last_uses(jaxpr)
        inside = [self._ids(eqn, outer) for eqn in jaxpr.eqns]
        self.seen.update(*inside)
        open_: dict[int, _Open] = {}
        for position, ids in enumerate(inside):
            for number in ids:
                open_.setdefault(number, _Open(position)).ends = position
        for position, eqn in enumerate(jaxpr.eqns):
            values = [x.val if isinstance(x, Literal) else env[x] for x in eqn.invars]
            results = self._equation(eqn, values, (*outer, *inside[position]))
            for var, value in zip(eqn.outvars, results, strict=True):
                env[var] = value
                for number in inside[position]:
                    later = used.get(var, -1) > open_[number].ends
                    if later and not _is_key(value):
                        open_[number].result = value
            # Inner calls end before those around them.
            for number in reversed(inside[position]):
                if open_[number].ends == position:
                    self._end(number, open_[number].result)
            for var in {x for x in eqn.invars if not isinstance(x, Literal)}:
                if used[var] == position:
                    del env[var]
        return [x.val if isinstance(x, Literal) else env[x] for x in jaxpr.outvars]

    def _ids(self, eqn: JaxprEqn, outer: tuple[int, ...]) -> list[int]:
        found = self._table.ids(str(eqn.source_info.name_stack))
        return [number for number in dict.fromkeys(found) if number not in outer]

    def _equation(
        self, eqn: JaxprEqn, values: list[Any], stack: tuple[int, ...]
    ) -> list[Any]:
        body = calls.body(eqn)
        if body is not None and any(_marks(body.jaxpr)):
            return self.jaxpr(body, values, stack)
        params = eqn.primitive.get_bind_params(eqn.params)
        with eqn.ctx.manager:
            results = eqn.primitive.bind(*values, **params)
        return list(results) if eqn.primitive.multiple_results else [results]

    def _end(self, number: int, result: Any) -> None:
        if result is None:
            return
        scope = self._table.scope(number)
        name = scope.cls.rpartition(".")[2]
        self.found.append(Activation(scope.path, name, scope.call, np.asarray(result)))


def _is_key(value: Any) -> bool:
    return bool(jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key))


def _last_uses(jaxpr: Jaxpr) -> dict[Var, int]:
    """The last equation that reads each value; outputs are read after the last one."""
    used: dict[Var, int] = {}
    for position, eqn in enumerate(jaxpr.eqns):
        used.update({x: position for x in eqn.invars if not isinstance(x, Literal)})
    end = len(jaxpr.eqns)
    used.update({x: end for x in jaxpr.outvars if not isinstance(x, Literal)})
    return used


def _marks(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    for eqn in jaxpr.eqns:
        body = calls.body(eqn)
        if eqn.primitive is CALL:
            yield eqn
        elif body is not None:
            yield from _marks(body.jaxpr)
