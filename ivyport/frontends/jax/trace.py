"""Captures a source as a jaxpr with marked module calls; parameters, state and inputs are its
arguments, nothing of the source is closed over but its constants.

Sources: https://docs.jax.dev/en/latest/jaxpr.html,
https://docs.jax.dev/en/latest/export/shape_poly.html.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr

from ivyport.core.errors import IvyportError, TraceError
from ivyport.core.ir import Scope, walk
from ivyport.frontends.jax import dims as dims_
from ivyport.frontends.jax.errors import (
    Circumstances,
    brief,
    is_guard,
    not_free,
    place,
    trace_error,
)
from ivyport.frontends.jax.mismatch import shapes
from ivyport.frontends.jax.scopes import ScopeTable
from ivyport.frontends.jax.sources import Source
from ivyport.frontends.jax.structure import flatten
from ivyport.frontends.nested import Opaque


@dataclasses.dataclass
class Capture:
    """One traced mode of a source.

    The jaxpr's arguments are the parameters, the buffers, the inputs, in their own orders, and a
    key if `keyed`. Its results are the arrays of `output` (a structure with a `nested.Leaf` for
    each) and then the new values of the buffers in `updated`.
    """

    closed: ClosedJaxpr
    table: ScopeTable
    output: Any
    count: int
    updated: list[str]
    keyed: bool


def capture(source: Source, plan: dims_.Plan, *, train: bool) -> Capture:
    """Trace `source` on the shapes of its example inputs.

    Raises:
        TraceError: it cannot be captured: its control flow depends on data or on the size of a
            symbolic dimension, or its code fails.
        InputError: it draws random numbers and has no key.
    """
    table = ScopeTable(Scope("", source.cls))
    # In training the key is ours to give: no number drawn in a trace is kept.
    keyed = source.needs_key or source.rng is not None or train
    names = (list(source.parameters), list(source.buffers), list(source.inputs))
    found: dict[str, Any] = {}

    def traced_call(
        parameters: Sequence[Any],
        buffers: Sequence[Any],
        inputs: Sequence[Any],
        key: Any,
    ) -> list[Any]:
        held, state, given_inputs = (
            dict(zip(paths, arrays, strict=True))
            for paths, arrays in zip(names, (parameters, buffers, inputs), strict=True)
        )
        bound = source.bind(given_inputs, train, key)
        out, new = source.run(held, state, bound, train, key)
        found["output"], flat = flatten(out)
        found["updated"] = {
            path: array for path, array in new.items() if array is not state[path]
        }
        found["count"] = len(flat)
        return [*flat, *found["updated"].values()]

    key = jax.eval_shape(lambda: jax.random.key(0)) if keyed else None
    given = [shapes(source.parameters), shapes(source.buffers)]
    inputs = dims_.symbolic(source.inputs, plan)
    flat = [list(arrays.values()) for arrays in (*given, inputs)]
    try:
        with source.marks(table):
            closed = jax.make_jaxpr(traced_call)(*flat, key)
    except IvyportError:
        raise
    # Whatever the source's code raises is the answer: it is raised again, explained.
    except Exception as error:
        mode, symbols = ("train" if train else "eval"), tuple(plan.symbols())
        at = Circumstances(
            source.name, mode, source.describe_inputs(), table.failed, symbols
        )
        raise trace_error(error, at) from error
    _demand_outputs(source, found["output"], found["count"])
    return Capture(
        closed, table, found["output"], found["count"], list(found["updated"]), keyed
    )


def capture_free(source: Source, plan: dims_.Plan) -> tuple[Capture, dims_.Plan]:
    """The eval capture with the planned axes symbolic; and the plan as it was kept.

    A size that the source asks for is an error. Where it computes something that holds for the
    examples' sizes alone, and nobody asked for free ones, the examples' sizes are kept.

    Raises:
        TraceError, InputError: as `capture`.
    """
    try:
        return capture(source, plan, train=False), plan
    except TraceError as error:
        cause = error.__cause__
        if not plan.axes or cause is None or is_guard(cause):
            raise
        try:
            fixed = capture(source, dims_.Plan({}), train=False)
        except TraceError:
            raise error from cause
        at = Circumstances(
            source.name, "eval", source.describe_inputs(), None, tuple(plan.symbols())
        )
        if plan.asked:
            raise not_free(cause, at) from cause
        names = ", ".join(f"'{name}'" for name in dict.fromkeys(plan.axes.values()))
        note = (
            f"Fixed to the example's size: {names}. With it symbolic the capture fails "
            f"with {brief(cause)}{place(cause)}"
        )
        return fixed, dims_.Plan({}, notes=(*plan.notes, note))


def _demand_outputs(source: Source, output: Any, count: int) -> None:
    foreign = sorted({x.cls for x in walk(output) if isinstance(x, Opaque)})
    if foreign:
        raise TraceError(
            f"{source.name} returns {', '.join(foreign)}, which a port cannot return: ask "
            "it for arrays in tuples, lists, dicts, dataclasses or named tuples"
        )
    if not count:
        raise TraceError(
            f"{source.name} returned no array on these inputs: there is nothing to port"
        )


__all__ = ["Capture", "capture", "capture_free"]
