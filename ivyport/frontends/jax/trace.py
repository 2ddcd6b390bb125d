"""Captures a source as a jaxpr with marked module calls; parameters, state and inputs are its
arguments, nothing of the source is closed over but its constants.

Sources: https://docs.jax.dev/en/latest/jaxpr.html,
https://docs.jax.dev/en/latest/export/shape_poly.html.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr

from ivyport.core.checks import Check, Line
from ivyport.core.dims import symbol, symbols
from ivyport.core.errors import IvyportError, TraceError, UnsupportedOpsError
from ivyport.core.ir import Scope, walk
from ivyport.frontends.jax import dims as dims_
from ivyport.frontends.jax.asked import Asked
from ivyport.frontends.jax.errors import (
    Circumstances,
    brief,
    is_guard,
    source_frame,
    trace_error,
)
from ivyport.frontends.jax.mismatch import shapes
from ivyport.frontends.jax.scopes import ScopeTable
from ivyport.frontends.jax.sizes import to_dim
from ivyport.frontends.jax.sources import Source
from ivyport.frontends.jax.structure import flatten
from ivyport.frontends.jax.written import handed_through
from ivyport.frontends.nested import Opaque


@dataclasses.dataclass
class Capture:
    """One traced mode of a source.

    The jaxpr's arguments are the parameters, the buffers, the inputs, in their own orders, and a
    key if `keyed`. Its results are the arrays of `output` (a structure with a `nested.Leaf` for
    each) and then the new values of what it writes, `updated`.
    """

    closed: ClosedJaxpr
    table: ScopeTable
    output: Any
    count: int
    updated: list[str]
    keyed: bool
    checks: list[Check] = dataclasses.field(default_factory=list)


def capture(
    source: Source, plan: dims_.Plan, *, train: bool, asked: Asked | None = None
) -> Capture:
    """Trace `source` on the shapes of its example inputs.

    Raises:
        TraceError: it cannot be captured: its control flow depends on data or on the size of a
            symbolic dimension, its code fails, or it remembers earlier calls.
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
        owned = {**held, **state}
        found["updated"] = {p: x for p, x in new.items() if x is not owned[p]}
        found["count"] = len(flat)
        return [*flat, *found["updated"].values()]

    key = jax.eval_shape(lambda: jax.random.key(0)) if keyed else None
    given = [shapes(source.parameters), shapes(source.buffers)]
    inputs = dims_.symbolic(source.inputs, plan)
    flat = [list(arrays.values()) for arrays in (*given, inputs)]
    asked = asked or Asked()
    try:
        with source.marks(table), asked:
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
    source.refuse_memory(train)
    closed, updated = _really_written(
        closed, found["count"], [*names[0], *names[1]], list(found["updated"])
    )
    return Capture(
        closed, table, found["output"], found["count"], updated, keyed,
        _unequal(asked, dims_.sizes(source.inputs, plan)),
    )  # fmt: skip


def _really_written(
    closed: ClosedJaxpr, count: int, held: Sequence[str], updated: Sequence[str]
) -> tuple[ClosedJaxpr, list[str]]:
    """The jaxpr without the new values, after `count` results, that are the old ones."""
    jaxpr = closed.jaxpr
    arguments = dict(zip(held, jaxpr.invars, strict=False))
    new = dict(zip(updated, jaxpr.outvars[count:], strict=True))
    kept = {
        path: var
        for path, var in new.items()
        if not handed_through(jaxpr, var, arguments[path])
    }
    if len(kept) == len(new):
        return closed, list(updated)
    outvars = [*jaxpr.outvars[:count], *kept.values()]
    info = jaxpr.debug_info
    if info is not None and info.result_paths is not None:
        chosen = [i for i, path in enumerate(updated) if path in kept]
        paths = info.result_paths
        told = (*paths[:count], *(paths[count + i] for i in chosen))
        info = info._replace(result_paths=told)
    return closed.replace(jaxpr=jaxpr.replace(outvars=outvars, debug_info=info)), [
        *kept
    ]


def _unequal(asked: Asked, sizes: Mapping[str, int]) -> list[Any]:
    """What JAX answered with "not equal", which the example may not do: see `capture_free`."""
    answers = [question.answer(sizes) for question in asked.equalities()]
    return [a for a in answers if a is not None and a.relation == "!="]


def capture_free(source: Source, plan: dims_.Plan) -> tuple[Capture, dims_.Plan]:
    """The eval capture with the planned axes symbolic; and the plan as it was kept.

    Where the source compares a size, the sizes are taken that compare as the example's do. Where it
    computes what only one size has, the example's size is kept, with a note.

    Raises:
        TraceError, InputError: as `capture`.
    """
    while True:
        asked = Asked()
        error: TraceError | None = None
        try:
            captured = capture(source, plan, train=False, asked=asked)
        except TraceError as failure:
            error = failure
        stronger = _stronger(source, plan, asked, error)
        if stronger is None and error is not None:
            stronger = _no_longer(source, plan, error)
        if stronger is not None:
            plan = stronger
        elif error is None:
            return captured, plan
        else:
            plan = _weaker(source, plan, asked, error)


def captures(
    source: Source, plan: dims_.Plan, *, train: bool
) -> tuple[Capture, Capture | None, dims_.Plan]:
    """The captures in eval and, if `train`, in train mode, of one plan.

    Raises:
        TraceError, InputError: as `capture`.
    """
    while True:
        evaluated, plan = capture_free(source, plan)
        if not train:
            return evaluated, None, plan
        asked = Asked()
        try:
            trained = capture(source, plan, train=True, asked=asked)
        except TraceError as error:
            try:
                plan = _weaker(source, plan, asked, error, train=True)
            except TraceError as last:
                raise TraceError(
                    f"in train mode: {last}\nA port for inference alone is made by train=False."
                ) from last
        else:
            return evaluated, trained, plan


def settle(source: Source) -> None:
    """Hold as state what a call of `source` writes, as `frontend.to_graph` does, if unknown."""
    if source.settled:
        return
    written: set[str] = set()
    for train in (False, True):
        # Whoever runs the source is told why it fails.
        with contextlib.suppress(IvyportError):
            written |= {*capture(source, dims_.Plan({}), train=train).updated}
    mine = sorted(written & source.parameters.keys())
    again = mine and source.repeats(mine)
    source.ignored |= {p for p in mine if again or source.repeats([p])}
    source.hold([path for path in mine if path not in source.ignored])


def lowerable(plan: dims_.Plan, error: UnsupportedOpsError) -> dims_.Plan:
    """The plan with the axis constant that an operation cannot be lowered with.

    Raises:
        UnsupportedOpsError: that one, where no axis helps.
    """
    if error.stuck is None:
        raise error
    name, why, line = error.stuck
    return plan.without([name], _fixed_note([name], why, line), line)


def _stronger(
    source: Source, plan: dims_.Plan, asked: Asked, error: TraceError | None
) -> dims_.Plan | None:
    """The plan with an answer that the source asked for and JAX could not give."""
    sizes = dims_.sizes(source.inputs, plan)
    for size, line in asked.used:
        names = symbols(to_dim(size)) & sizes.keys()
        if names:
            why = f"the source takes {to_dim(size)} as a text or a key, or asks for its class"
            return plan.without(names, _fixed_note(names, why, line), line)
    open_ = asked.equalities() if error is None else []
    if error is not None and asked.refused is not None:
        open_ = [*asked.equalities(), asked.refused]
    for question in open_:
        constraint, check = question.constraint(sizes), question.answer(sizes)
        if constraint is None or check is None:
            continue
        told = plan.constrained(constraint, check)
        if constraint not in plan.constraints and _consistent(source, told):
            return told
        names = check.symbols()
        if error is None and names:
            note = _fixed_note(names, f"the source asks for {check}", check.line)
            return plan.without(names, note, check.line)
    return None


def _no_longer(
    source: Source, plan: dims_.Plan, error: TraceError
) -> dims_.Plan | None:
    """The plan in which ``positions[:t]`` has t rows: JAX takes it for ``min(16, t)``."""
    sizes, cause = dims_.sizes(source.inputs, plan), error.__cause__
    for most, name in re.findall(r"min\((\d+), (\w+)\)", str(cause)):
        constraint = f"{name} <= {most}"
        if sizes.get(name, int(most) + 1) > int(most) or constraint in plan.constraints:
            continue
        check = Check(symbol(name), "<=", int(most), _line_of(cause))
        return plan.constrained(constraint, check)
    return None


def _line_of(cause: BaseException | None) -> Line | None:
    frame = source_frame(cause) if cause else None
    if frame is None:
        return None
    return Line(frame.filename, frame.lineno or 0, frame.line or "")


def _consistent(source: Source, plan: dims_.Plan) -> bool:
    """Whether JAX takes the constraints; one symbol that is constant is none to it."""
    bounds = dims_.assumed(plan).bounds
    if any(low == high for low, high in bounds.values()):
        return False
    try:
        dims_.symbolic(source.inputs, plan)
    except (ValueError, NotImplementedError):
        return False
    return True


def _weaker(
    source: Source,
    plan: dims_.Plan,
    asked: Asked,
    error: TraceError,
    *,
    train: bool = False,
) -> dims_.Plan:
    """The plan with dimensions constant that the source cannot be traced without."""
    cause = error.__cause__
    if not plan.axes or cause is None:
        raise error
    refused = (
        asked.refused.answer(dims_.sizes(source.inputs, plan))
        if asked.refused
        else None
    )
    line = _line_of(cause)
    why = f"with it symbolic the capture fails with {brief(cause).splitlines()[0]}"
    found = [refused.symbols()] if refused else []
    # Later axes first: lengths are asked for more often than the batch.
    found += [{name} for name in reversed(list(dict.fromkeys(plan.axes.values())))]
    last = error
    for names in [*found, set(plan.axes.values())]:
        weaker = plan.without(names, _fixed_note(names, why, line), line)
        try:
            capture(source, weaker, train=train)
        except TraceError as other:
            if _gets_further(other, error):
                return weaker
            last = other
        else:
            return weaker
    raise (last if is_guard(cause) else error) from cause


def _gets_further(other: TraceError, error: TraceError) -> bool:
    """Whether a capture that fails too does so at another line of the source."""
    lines = [_line_of(e.__cause__) for e in (other, error)]
    return None not in lines and lines[0] != lines[1]


def _fixed_note(names: Collection[str], why: str, line: Line | None) -> str:
    listed = ", ".join(f"'{name}'" for name in sorted(names))
    return f"Fixed to the example's size: {listed}: {why}" + (
        f" at {line}" if line else ""
    )


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


__all__ = ["Capture", "capture", "captures", "lowerable", "settle"]
