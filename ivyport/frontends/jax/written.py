"""What a call of the source writes: which of its arrays leave it as others than they came.

A transform (`nnx.remat`, `nnx.scan`) hands every array of a module through its body, so that a new
tracer comes back for what nothing wrote. `handed_through` follows such an array to where it came
from. A parameter that is written, and that no output has a gradient by, is state of the model (the
encoder of a moving average); one that has a gradient cannot be both in a port.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jax.extend.core import Jaxpr, JaxprEqn, Var

from ivyport.core.errors import TraceError
from ivyport.core.ir import Graph, Value, leaves
from ivyport.core.passes.stops import Differentiable, carries
from ivyport.frontends.jax import calls
from ivyport.frontends.jax.lines import line_of
from ivyport.frontends.jax.sources import Source

# A variable, as the argument of a jaxpr at some position, with its axes in another order.
_Origin = tuple[int, tuple[int, ...]]
_SAME = ("optimization_barrier", "copy", "copy_p", "sharding_constraint")


class CaptureAgain(Exception):
    """What a capture took for trained parameters is written by the call.

    `state` is held as state from now on. What the call writes to `ignored` changes none of its
    results (`nnx.WeightNorm` writes the weight that it has normalised): it is left out.
    """

    def __init__(self, state: Iterable[str] = (), ignored: Iterable[str] = ()) -> None:
        super().__init__()
        self.state, self.ignored = list(state), list(ignored)


def handed_through(jaxpr: Jaxpr, result: Any, argument: Var) -> bool:
    """Whether a result of `jaxpr` is that argument of it in all cases, unchanged."""
    found = _origin(jaxpr, result)
    if found is None or jaxpr.invars[found[0]] is not argument:
        return False
    return found[1] == tuple(range(len(found[1])))


def _origin(jaxpr: Jaxpr, x: Any) -> _Origin | None:
    """Which argument a variable is, None if it is computed."""
    if not isinstance(x, Var):
        return None
    axes = tuple(range(len(x.aval.shape)))
    if x in jaxpr.invars:
        return jaxpr.invars.index(x), axes
    for eqn in jaxpr.eqns:
        if x in eqn.outvars:
            step = _step(eqn, eqn.outvars.index(x))
            if step is None:
                return None
            operand, order = step
            before = _origin(jaxpr, operand)
            if before is None:
                return None
            return before[0], tuple(before[1][a] for a in order)
    return None


def _step(eqn: JaxprEqn, i: int) -> tuple[Any, tuple[int, ...]] | None:
    """The operand that result `i` of an equation is, and the order of its axes."""
    name, params = eqn.primitive.name, eqn.params
    same = tuple(range(len(eqn.outvars[i].aval.shape)))
    if name in _SAME:
        return eqn.invars[i], same
    if name == "transpose":
        return eqn.invars[0], tuple(params["permutation"])
    body = calls.body(eqn)
    if body is not None:
        return _of(_origin(body.jaxpr, body.jaxpr.outvars[i]), eqn.invars)
    if name == "cond":
        found = {_origin(b.jaxpr, b.jaxpr.outvars[i]) for b in params["branches"]}
        return _of(found.pop(), eqn.invars[1:]) if len(found) == 1 else None
    if name == "scan":
        return _scanned(eqn, i)
    if name == "while":
        body = params["body_jaxpr"]
        first = params["body_nconsts"]
        found_ = _origin(body.jaxpr, body.jaxpr.outvars[i])
        if found_ != (first + i, same):
            return None
        return eqn.invars[params["cond_nconsts"] + first + i], same
    return None


def _scanned(eqn: JaxprEqn, i: int) -> tuple[Any, tuple[int, ...]] | None:
    """A carry that the body returns as it came, or a stack of what it took from a stack."""
    body, consts = eqn.params["jaxpr"].jaxpr, eqn.params["num_consts"]
    carries_, found = eqn.params["num_carry"], _origin(body, body.outvars[i])
    if found is None:
        return None
    at, axes = found
    if i < carries_:
        kept = at == consts + i and axes == tuple(range(len(axes)))
        return (eqn.invars[at], axes) if kept else None
    if at < consts + carries_:
        return None
    return eqn.invars[at], (0, *(a + 1 for a in axes))


def _of(
    found: _Origin | None, operands: list[Any]
) -> tuple[Any, tuple[int, ...]] | None:
    return None if found is None else (operands[found[0]], found[1])


def demand_state(source: Source, graphs: Sequence[Graph], paths: Sequence[str]) -> None:
    """Say what becomes of `paths`, parameters that the call writes.

    `graphs` are those of the modes, with the new values of what they write among their updates.

    Raises:
        TraceError: an output has a gradient by one of them, and the write changes a later call.
        CaptureAgain: none has, and there is one.
    """
    trained = [p for p in paths if any(_has_gradient(graph, p) for graph in graphs)]
    if trained and not source.repeats(trained):
        first = next((p for p in trained if not source.repeats([p])), trained[0])
        raise TraceError(_message(source.name, first, graphs))
    if paths:
        raise CaptureAgain([p for p in paths if p not in trained], trained)


def _has_gradient(graph: Graph, path: str) -> bool:
    """Whether an output has a gradient by the parameter, or by a layer of it."""
    parts = [p for p in graph.params.values() if path in (p.path, p.source)]
    flows = Differentiable(p.value for p in parts)
    found = [v for v in leaves(graph.outputs) if isinstance(v, Value) and carries(v)]
    return any(map(flows, found))


def _message(name: str, path: str, graphs: Sequence[Graph]) -> str:
    makers = [
        value.producer
        for graph in graphs
        for part, value in graph.updates.items()
        if path in (part, graph.params[part].source) and value.producer is not None
    ]
    line = line_of(makers[0].src) if makers else None
    return (
        f"{name} writes to its parameter '{path}' when it is called"
        f"{f', at {line}' if line else ''}; its outputs have a gradient by that parameter, and a "
        "port cannot both train it and overwrite it. If nothing trains it, make it a variable of "
        "another kind (class State(nnx.Variable): ...) or read it through "
        "jax.lax.stop_gradient: the port holds it as state then. If it is trained, write to it "
        "in the training step, outside of the call"
    )
